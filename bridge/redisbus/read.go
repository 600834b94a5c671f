package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// replyMargin is how much longer than its BLOCK a read may take before the connection counts as dead.
const replyMargin = 3 * time.Second

// session reads over one generation of connections until something fails or ctx ends. Reading, sweeping and
// keeping are steps of this one goroutine: an entry that a read is just bringing in can then never look forgotten
// to a sweep.
func (s *Stream) session(ctx context.Context, back *backoff) error {
	l, err := openLink(ctx, s.cfg.Options, false)
	if err != nil {
		return err
	}
	defer l.close()
	// A read that waits in Redis does not notice the end of ctx by itself.
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	if err := l.refuseOpenBefore(ctx); err != nil {
		return err
	}
	if err := s.ensureGroup(ctx, l); err != nil {
		return err
	}
	if err := s.account(ctx, l); err != nil {
		return err
	}
	s.health.rise(ctx)
	s.life.Stood()
	s.group.keepAt = s.cfg.Now().Add(s.keepEvery())
	if err := s.recoverOwn(ctx, l, true); err != nil {
		return err
	}
	back.reset()
	s.group.sweepAt = s.cfg.Now()
	for ctx.Err() == nil {
		if err := s.turn(ctx, l); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// turn is one step: what is due, then one read.
func (s *Stream) turn(ctx context.Context, l *link) error {
	now := s.cfg.Now()
	if err := s.upkeep(ctx, l, now); err != nil {
		return err
	}
	if due := s.takeDue(now); len(due) > 0 {
		return s.push(ctx, l, due)
	}
	next := s.nextTurn(now)
	room := s.room()
	if room == 0 {
		s.await(ctx, next)
		return nil
	}
	block := max(min(s.cfg.Block, next), time.Millisecond)
	batch, err := s.read(ctx, l, min(room, s.group.count), block)
	if err != nil {
		return err
	}
	return s.push(ctx, l, batch)
}

// upkeep runs the sweep and the heartbeat when they are due.
func (s *Stream) upkeep(ctx context.Context, l *link, now time.Time) error {
	if !now.Before(s.group.keepAt) {
		if err := s.keep(ctx, l); err != nil {
			return err
		}
		s.group.keepAt = s.cfg.Now().Add(s.keepEvery())
	}
	if now.Before(s.group.sweepAt) {
		return nil
	}
	if err := s.sweep(ctx, l); err != nil {
		return err
	}
	// Replicas must not sweep in step.
	spread := time.Duration(s.cfg.Rand() * float64(s.cfg.Sweep/5))
	s.group.sweepAt = s.cfg.Now().Add(s.cfg.Sweep - spread)
	return nil
}

func (s *Stream) keepEvery() time.Duration { return s.cfg.ClaimAfter / 4 }

// nextTurn is how long the reader may wait before something else is due.
func (s *Stream) nextTurn(now time.Time) time.Duration {
	next := s.group.sweepAt
	if s.group.keepAt.Before(next) {
		next = s.group.keepAt
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.again {
		if e.due.Before(next) {
			next = e.due
		}
	}
	return max(next.Sub(now), 0)
}

// read asks for new entries once.
func (s *Stream) read(ctx context.Context, l *link, count int, block time.Duration) ([]*entry, error) {
	limited, cancel := context.WithTimeout(ctx, block+replyMargin)
	defer cancel()
	reply, err := l.client.XReadGroup(limited, &redis.XReadGroupArgs{
		Group: s.cfg.Group, Consumer: s.cfg.Consumer, Streams: []string{s.cfg.Stream, ">"}, Count: int64(count), Block: block,
	}).Result()
	switch {
	case errors.Is(err, redis.Nil):
		s.group.count = min(s.group.count*2, s.cfg.Count)
		return nil, nil
	case groupIsGone(err):
		return nil, s.ensureGroup(ctx, l)
	case errors.Is(err, errReplyTooLarge):
		// Redis counts these entries as delivered: the sweep fetches them one by one.
		s.group.count = max(s.group.count/2, 1)
		s.group.sweepAt = s.cfg.Now()
		return nil, nil
	case err != nil:
		// The answer may be lost while its entries are ours: the next session begins with what is pending.
		return nil, fmt.Errorf("read group: %w", err)
	}
	s.group.count = min(s.group.count*2, s.cfg.Count)
	var batch []*entry
	for _, st := range reply {
		batch = slices.Grow(batch, len(st.Messages))
		for i := range st.Messages {
			if e := s.take(&st.Messages[i]); e != nil {
				batch = append(batch, e)
			}
		}
	}
	s.stats.received.Add(int64(len(batch)))
	return s.hold(batch), nil
}

// take makes an entry of a message; nil when it has no content any more: it is lost then.
func (s *Stream) take(m *redis.XMessage) *entry {
	id, err := parseID(m.ID)
	if err != nil {
		s.cfg.Logger.Warn("entry without a usable id", "err", err)
		return nil
	}
	now := s.cfg.Now()
	e := &entry{id: id, text: m.ID, received: now.UTC(), touched: now}
	if m.Values == nil {
		s.lose(e)
		return nil
	}
	e.doc = document(m.Values, s.cfg.Field)
	e.size = int64(len(e.doc))
	if e.size > maxDocument {
		s.refuse(e, fmt.Sprintf("document of %d bytes is larger than 1 MiB; kept are its first 64 KiB", e.size))
		return nil
	}
	return e
}

// hold puts entries in hand and returns those that were not there.
func (s *Stream) hold(batch []*entry) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := batch[:0]
	for _, e := range batch {
		if _, known := s.hand[e.id]; known {
			continue
		}
		s.hand[e.id] = e
		s.bytes += e.size
		fresh = append(fresh, e)
	}
	return fresh
}

// release takes entries out of hand; the caller holds mu.
func (s *Stream) release(list ...*entry) {
	for _, e := range list {
		if s.hand[e.id] != e {
			continue
		}
		delete(s.hand, e.id)
		s.bytes -= e.size
		if s.tombs != nil {
			s.tombs[e.id] = struct{}{}
		}
	}
	signal(s.freed)
}

// room is how many more entries may be read.
func (s *Stream) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes >= maxQueued {
		return 0
	}
	return max(s.cfg.MaxPending-len(s.hand), 0)
}

// await waits for room, but not longer than d.
func (s *Stream) await(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.freed:
	case <-t.C:
	case <-ctx.Done():
	}
}

// push hands a batch to Receive, and keeps what is in hand ours while nobody calls it.
func (s *Stream) push(ctx context.Context, l *link, batch []*entry) error {
	if len(batch) == 0 {
		return nil
	}
	for {
		t := time.NewTimer(max(s.group.keepAt.Sub(s.cfg.Now()), time.Millisecond))
		select {
		case s.queue <- batch:
			t.Stop()
			return nil
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
		if err := s.keep(ctx, l); err != nil {
			s.drop(batch)
			return err
		}
		s.group.keepAt = s.cfg.Now().Add(s.keepEvery())
	}
}

// drop forgets entries that cannot be handed over in this session; they stay pending in Redis.
func (s *Stream) drop(batch []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range batch {
		if e.stage == queued {
			e.stage = taken
			s.release(e)
		}
	}
}

// takeDue returns the entries whose pause after an error is over.
func (s *Stream) takeDue(now time.Time) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []*entry
	s.again = slices.DeleteFunc(s.again, func(e *entry) bool {
		if e.stage != waiting {
			return true
		}
		if e.due.After(now) {
			return false
		}
		e.stage = queued
		due = append(due, e)
		return true
	})
	slices.SortFunc(due, func(a, b *entry) int {
		switch {
		case a.id.less(b.id):
			return -1
		case b.id.less(a.id):
			return 1
		default:
			return 0
		}
	})
	return due
}

// lose counts an entry whose content is gone and acknowledges it: nothing is left to deliver.
func (s *Stream) lose(e *entry) {
	s.stats.lost.Add(1)
	s.note(bridge.NoteLoss, 1, "pending entries were deleted from stream "+s.cfg.Stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.hand[e.id]; known {
		return
	}
	e.stage, e.quiet = settling, true
	s.hand[e.id] = e
	s.acks = append(s.acks, e)
	signal(s.settled)
}

// refuseUnseen dead-letters an entry whose content cannot be read.
func (s *Stream) refuseUnseen(text string) {
	id, err := parseID(text)
	if err != nil {
		return
	}
	now := s.cfg.Now()
	s.refuse(&entry{id: id, text: text, received: now.UTC(), touched: now}, "entry is larger than 32 MiB; its content is not kept")
}

// refuse dead-letters an entry that is not delivered at all.
func (s *Stream) refuse(e *entry, reason string) {
	s.stats.badAlerts.Add(1)
	e.doc = e.doc[:min(len(e.doc), maxKept)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.hand[e.id]; known {
		return
	}
	e.size, e.stage, e.reason = int64(len(e.doc)), settling, reason
	s.hand[e.id] = e
	s.bytes += e.size
	s.bad = append(s.bad, e)
	signal(s.settled)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
