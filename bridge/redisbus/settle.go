package redisbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// ackBatch is how many entries one XACK names, letterBatch how many dead letters one pipeline carries.
	ackBatch    = 512
	letterBatch = 16
)

// settle notes how a delivery went; what Redis must learn of it is sent behind the caller.
func (s *Stream) settle(e *entry, attempt int, err error) error {
	if s.life.IsClosed() {
		return bridge.ErrClosed
	}
	bad := errors.Is(err, bridge.ErrBadAlert)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.attempts != attempt || (e.stage != delivered && e.stage != taken) {
		return errSettled
	}
	if e.stage == taken {
		// Another consumer owns the entry and decides on it; once our orders are committed it need not.
		e.attempts = -1
		if err != nil {
			s.release(e)
			return nil
		}
		e.quiet = true
	}
	switch {
	case err == nil:
		e.stage = settling
		s.acks = append(s.acks, e)
	case bad:
		s.stats.badAlerts.Add(1)
		e.stage, e.reason = settling, clip(err.Error())
		s.bad = append(s.bad, e)
	default:
		e.stage = waiting
		e.due = s.cfg.Now().Add(s.retryPause(attempt))
		s.again = append(s.again, e)
		return nil
	}
	signal(s.settled)
	return nil
}

// retryPause doubles with every delivery, with jitter in its upper half.
func (s *Stream) retryPause(attempt int) time.Duration {
	b := backoff{first: s.cfg.Retry, last: max(maxRetry, s.cfg.Retry), random: s.cfg.Rand, n: attempt - 1}
	return b.next()
}

// acknowledge sends acknowledgements and dead letters until ctx ends. While one call is under way the next ones
// gather, so that batches grow with the load and a lone one is sent at once.
func (s *Stream) acknowledge(ctx context.Context) {
	back := newBackoff(s.cfg.Rand)
	for {
		t := time.NewTimer(s.untilLetters())
		select {
		case <-s.settled:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
		if err := s.flush(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.cfg.Logger.DebugContext(ctx, "entries not acknowledged yet", "err", err)
			if !pause(ctx, back.next()) {
				return
			}
			signal(s.settled)
			continue
		}
		back.reset()
	}
}

// untilLetters is how long to wait before refused dead letters are tried again.
func (s *Stream) untilLetters() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bad) == 0 {
		return time.Hour
	}
	return max(s.badDue.Sub(s.cfg.Now()), time.Millisecond)
}

// flush sends everything that is due.
func (s *Stream) flush(ctx context.Context) error {
	for {
		more, err := s.flushAcks(ctx)
		if err != nil {
			return err
		}
		letters, err := s.flushLetters(ctx, false)
		if err != nil {
			return err
		}
		if !more && !letters {
			return nil
		}
	}
}

// flushAll is the last flush, of Close.
func (s *Stream) flushAll(ctx context.Context) error {
	for {
		letters, errLetters := s.flushLetters(ctx, true)
		more, err := s.flushAcks(ctx)
		if err = errors.Join(errLetters, err); err != nil || (!more && !letters) {
			s.mu.Lock()
			left := len(s.acks) + len(s.bad)
			s.mu.Unlock()
			if left > 0 {
				return fmt.Errorf("%d settled entries are not acknowledged and will be delivered again: %w", left, explain(err))
			}
			return nil
		}
	}
}

// flushAcks sends one XACK and reports whether there is more.
func (s *Stream) flushAcks(ctx context.Context) (bool, error) {
	s.mu.Lock()
	n := min(len(s.acks), ackBatch)
	batch := s.acks[:n:n]
	s.acks = s.acks[n:]
	if len(s.acks) == 0 {
		s.acks = nil
	}
	s.mu.Unlock()
	if n == 0 {
		return false, nil
	}
	acked, err := s.xack(ctx, batch)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		for _, e := range batch {
			e.quiet = true // it may be acknowledged already, and only the answer lost
		}
		s.acks = append(batch, s.acks...)
		return true, fmt.Errorf("acknowledge: %w", err)
	}
	expected := int64(n)
	for _, e := range batch {
		if e.quiet {
			expected--
		}
	}
	s.release(batch...)
	s.stats.acked.Add(acked)
	if missing := expected - acked; missing > 0 {
		s.stats.foreign.Add(missing)
		s.note(NoteForeignAck, missing, "entries were acknowledged by another consumer before this one had settled them")
	}
	return len(s.acks) > 0, nil
}

func (s *Stream) xack(ctx context.Context, batch []*entry) (int64, error) {
	ids := make([]string, 0, len(batch))
	for _, e := range batch {
		ids = append(ids, e.text)
	}
	l, err := s.acker.get(ctx)
	if err != nil {
		return 0, err
	}
	bridge.CrashPoint(bridge.CrashBeforeAck)
	n, err := l.client.XAck(ctx, s.cfg.Stream, s.cfg.Group, ids...).Result()
	bridge.CrashPoint(bridge.CrashAfterAck)
	if err != nil {
		s.acker.reset(l)
	}
	return n, err
}

// ackLink is the connection for everything the reader must not wait for; it is made when needed.
type ackLink struct {
	opts Options
	// mu guards current and closed.
	mu      sync.Mutex
	current *link
	closed  bool
}

func (a *ackLink) get(ctx context.Context) (*link, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, bridge.ErrClosed
	}
	if a.current != nil {
		return a.current, nil
	}
	l, err := openLink(ctx, a.opts, false)
	a.current = l
	return l, err
}

// reset drops l after an error, so that the next call connects anew.
func (a *ackLink) reset(l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == l {
		a.current = nil
	}
	l.close()
}

func (a *ackLink) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.current != nil {
		a.current.close()
		a.current = nil
	}
}
