package redisbus

import (
	"context"
	"encoding/base64"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// maxKept is how much of a document that is too large a dead letter keeps, in bytes.
	maxKept = 64 << 10
	// maxLetters is about how many dead letters Redis keeps; beyond, the oldest go.
	maxLetters = 100_000
)

// The fields of a dead letter.
const (
	letterSource   = "source"
	letterStream   = "stream"
	letterID       = "id"
	letterDocument = "document" // base64
	letterError    = "error"
	letterAttempts = "attempts"
	letterFirst    = "first" // RFC 3339, UTC
	letterLast     = "last"
)

// flushLetters writes one pipeline of dead letters and reports whether there is more. An entry is acknowledged only
// after its letter is written: a doubled letter is acceptable, a lost one is not. What Redis refuses is tried again
// after a pause, and does not hold up acknowledgements.
func (s *Stream) flushLetters(ctx context.Context, force bool) (bool, error) {
	now := s.cfg.Now()
	s.mu.Lock()
	if !force && now.Before(s.badDue) {
		s.mu.Unlock()
		return false, nil
	}
	n := min(len(s.bad), letterBatch)
	batch := s.bad[:n:n]
	s.bad = s.bad[n:]
	if len(s.bad) == 0 {
		s.bad = nil
	}
	s.mu.Unlock()
	if n == 0 {
		return false, nil
	}
	written, err := s.writeLetters(ctx, batch, now)

	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range batch {
		if written[i] {
			s.acks = append(s.acks, e)
			s.stats.deadLetters.Add(1)
			s.note(bridge.NoteDeadLetter, 1, e.reason)
		} else {
			s.bad = append(s.bad, e)
		}
	}
	if err == nil {
		s.badDue = time.Time{}
		s.badBack.reset()
		return len(s.bad) > 0 || len(s.acks) > 0, nil
	}
	s.badDue = now.Add(s.badBack.next())
	s.cfg.Logger.WarnContext(ctx, "dead letters not written, their entries stay pending", "err", clip(err.Error()))
	if force {
		return false, err
	}
	return len(s.acks) > 0, nil
}

func (s *Stream) writeLetters(ctx context.Context, batch []*entry, now time.Time) ([]bool, error) {
	written := make([]bool, len(batch))
	l, err := s.acker.get(ctx)
	if err != nil {
		return written, err
	}
	pipe := l.client.Pipeline()
	adds := make([]*redis.StringCmd, 0, len(batch))
	for _, e := range batch {
		adds = append(adds, pipe.XAdd(ctx, &redis.XAddArgs{
			Stream: s.cfg.DeadLetter, MaxLen: maxLetters, Approx: true,
			Values: []string{
				letterSource, s.cfg.Name, letterStream, s.cfg.Stream, letterID, e.text,
				letterDocument, base64.StdEncoding.EncodeToString([]byte(e.doc)),
				letterError, e.reason, letterAttempts, strconv.Itoa(max(e.attempts, 0)),
				letterFirst, e.received.Format(time.RFC3339Nano), letterLast, now.UTC().Format(time.RFC3339Nano),
			},
		}))
	}
	_, execErr := pipe.Exec(ctx)
	for i, add := range adds {
		written[i] = add.Err() == nil && add.Val() != ""
	}
	if execErr != nil && !isReply(execErr) {
		s.acker.reset(l)
	}
	return written, execErr
}
