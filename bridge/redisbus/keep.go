package redisbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// keep renews the hold on what is in hand for long, so that no other consumer takes it for abandoned.
func (s *Stream) keep(ctx context.Context, l *link) error {
	old := s.cfg.Now().Add(-s.cfg.ClaimAfter / 4)
	s.mu.Lock()
	var list []*entry
	for _, e := range s.hand {
		if e.stage != settling && e.stage != taken && e.touched.Before(old) {
			list = append(list, e)
		}
	}
	s.mu.Unlock()
	for len(list) > 0 {
		n := min(len(list), pendingPage)
		if err := s.touch(ctx, l, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// confirm makes sure that an entry which waited long is still ours before it is delivered.
func (s *Stream) confirm(ctx context.Context, e *entry) error {
	s.mu.Lock()
	fresh := e.stage != queued || s.cfg.Now().Sub(e.touched) < s.cfg.ClaimAfter/2
	s.mu.Unlock()
	if fresh {
		return nil
	}
	l, err := s.acker.get(ctx)
	if err != nil {
		return err
	}
	if err := s.touch(ctx, l, []*entry{e}); err != nil {
		s.acker.reset(l)
		return fmt.Errorf("%w: %w", bridge.ErrNotConnected, err)
	}
	return nil
}

// touch resets the idle time of entries that are still ours, and marks the others as taken.
func (s *Stream) touch(ctx context.Context, l *link, list []*entry) error {
	ids := make([]string, 0, len(list))
	for _, e := range list {
		ids = append(ids, e.text)
	}
	now := s.cfg.Now()
	// Whoever claimed one of them since has a shorter idle time than this.
	claimed, err := l.client.XClaimJustID(ctx, &redis.XClaimArgs{
		Stream: s.cfg.Stream, Group: s.cfg.Group, Consumer: s.cfg.Consumer, MinIdle: s.cfg.ClaimAfter / 8, Messages: ids,
	}).Result()
	if err != nil && !groupIsGone(err) {
		return fmt.Errorf("renew the hold on entries: %w", err)
	}
	ours := make(map[string]bool, len(ids))
	for _, id := range claimed {
		ours[id] = true
	}
	var foreign int64
	for _, e := range list {
		// XCLAIM leaves out what others own and, alike, what was deleted; the latter is still ours to deliver.
		gone := false
		if !ours[e.text] {
			if gone, err = s.deleted(ctx, l, e.text); err != nil {
				return err
			}
		}
		foreign += s.judge(e, ours[e.text], gone, now)
	}
	if foreign > 0 {
		s.stats.foreign.Add(foreign)
		s.note(NoteForeignAck, foreign, "entries were taken over by another consumer while this one held them")
	}
	return nil
}

func (s *Stream) deleted(ctx context.Context, l *link, id string) (bool, error) {
	found, err := l.client.XRangeN(ctx, s.cfg.Stream, id, id, 1).Result()
	if errors.Is(err, errReplyTooLarge) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for entry %s: %w", id, err)
	}
	return len(found) == 0, nil
}

// judge applies what touch learned about one entry and returns 1 when another consumer owns it.
func (s *Stream) judge(e *entry, ours, gone bool, now time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.stage == settling || e.stage == taken:
		return 0
	case ours:
		e.touched = now
		return 0
	case gone:
		e.touched, e.quiet = now, true
		return 0
	}
	if e.stage != delivered {
		s.release(e) // what is delivered stays in hand until it is settled
	}
	e.stage = taken
	return 1
}
