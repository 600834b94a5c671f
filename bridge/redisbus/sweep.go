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

const (
	// pendingPage is how many pending entries are listed at once, fetchPage how many are fetched or claimed.
	pendingPage = 256
	fetchPage   = 32
)

// sweep looks for what fell between: own pending entries nobody has in hand (their answer was lost), entries
// of consumers that are gone, and entries that were deleted unread.
func (s *Stream) sweep(ctx context.Context, l *link) error {
	if err := s.recoverOwn(ctx, l, false); err != nil {
		return err
	}
	if err := s.claim(ctx, l); err != nil {
		return err
	}
	return s.account(ctx, l)
}

// recoverOwn delivers the own pending entries that are not in hand, oldest first. With all set it goes on until the
// last of them is handed over, else until there is no room. It lists them by XPENDING, because reading the
// history would raise the delivery counter of every entry in hand.
func (s *Stream) recoverOwn(ctx context.Context, l *link, all bool) error {
	s.bury(true)
	defer s.bury(false)
	start := "-"
	for {
		list, err := l.client.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: s.cfg.Stream, Group: s.cfg.Group, Start: start, End: "+", Count: pendingPage, Consumer: s.cfg.Consumer,
		}).Result()
		if groupIsGone(err) {
			return s.ensureGroup(ctx, l)
		}
		if err != nil {
			return fmt.Errorf("list own pending entries: %w", err)
		}
		missing := s.missing(list)
		for len(missing) > 0 {
			room := min(s.room(), fetchPage, len(missing))
			if room == 0 {
				if !all {
					return nil
				}
				s.await(ctx, time.Second)
				if err := s.keepDue(ctx, l); err != nil {
					return err
				}
				continue
			}
			batch, err := s.fetch(ctx, l, missing[:room])
			if err != nil {
				return err
			}
			s.stats.recovered.Add(int64(len(batch)))
			if err := s.push(ctx, l, batch); err != nil {
				return err
			}
			missing = missing[room:]
		}
		if len(list) < pendingPage {
			return nil
		}
		start = "(" + list[len(list)-1].ID
	}
}

// keepDue is the heartbeat inside long recoveries.
func (s *Stream) keepDue(ctx context.Context, l *link) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.cfg.Now().Before(s.group.keepAt) {
		return nil
	}
	s.group.keepAt = s.cfg.Now().Add(s.keepEvery())
	return s.keep(ctx, l)
}

// bury begins or ends the time in which entries that leave the hand are remembered: a list of pending entries is a
// picture of the past, and must not bring back what was acknowledged meanwhile.
func (s *Stream) bury(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tombs = nil
	if on {
		s.tombs = make(map[entryID]struct{})
	}
}

// missing returns the listed entries nobody has in hand.
func (s *Stream) missing(list []redis.XPendingExt) []redis.XPendingExt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []redis.XPendingExt
	for _, p := range list {
		id, err := parseID(p.ID)
		if err != nil || s.known(id) {
			continue
		}
		out = append(out, p)
	}
	return out
}

// known reports whether the entry is in hand or left it during this sweep; the caller holds mu.
func (s *Stream) known(id entryID) bool {
	_, held := s.hand[id]
	_, buried := s.tombs[id]
	return held || buried
}

// fetch reads own pending entries by id. XCLAIM with JUSTID resets their idle time without raising the delivery
// counter, and the least idle time of the list keeps it from taking back what another consumer has just claimed.
func (s *Stream) fetch(ctx context.Context, l *link, list []redis.XPendingExt) ([]*entry, error) {
	ids := make([]string, 0, len(list))
	idle := list[0].Idle
	for _, p := range list {
		ids = append(ids, p.ID)
		idle = min(idle, p.Idle)
	}
	ours, err := l.client.XClaimJustID(ctx, &redis.XClaimArgs{
		Stream: s.cfg.Stream, Group: s.cfg.Group, Consumer: s.cfg.Consumer, MinIdle: idle, Messages: ids,
	}).Result()
	if err != nil {
		return nil, fmt.Errorf("renew own pending entries: %w", err)
	}
	pipe := l.client.Pipeline()
	ranges := make([]*redis.XMessageSliceCmd, 0, len(ids))
	for _, id := range ids {
		ranges = append(ranges, pipe.XRangeN(ctx, s.cfg.Stream, id, id, 1))
	}
	_, err = pipe.Exec(ctx)
	if errors.Is(err, errReplyTooLarge) {
		return s.fetchHuge(ctx, l, ids, ours)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch own pending entries: %w", err)
	}
	var batch []*entry
	for i, r := range ranges {
		m := redis.XMessage{ID: ids[i]}
		if found := r.Val(); len(found) > 0 {
			m = found[0]
			if !slices.Contains(ours, m.ID) {
				continue // claimed by another consumer since it was listed
			}
		}
		if e := s.take(&m); e != nil {
			batch = append(batch, e)
		}
	}
	return s.hold(batch), nil
}

// fetchHuge fetches one by one what is too much for one answer; a single entry that is too much is dead-lettered
// without its content.
func (s *Stream) fetchHuge(ctx context.Context, l *link, ids, ours []string) ([]*entry, error) {
	var batch []*entry
	for _, id := range ids {
		m := redis.XMessage{ID: id}
		found, err := l.client.XRangeN(ctx, s.cfg.Stream, id, id, 1).Result()
		switch {
		case errors.Is(err, errReplyTooLarge):
			if slices.Contains(ours, id) {
				s.refuseUnseen(id)
			}
			continue
		case err != nil:
			return nil, fmt.Errorf("fetch entry %s: %w", id, err)
		case len(found) > 0 && !slices.Contains(ours, id):
			continue
		case len(found) > 0:
			m = found[0]
		}
		if e := s.take(&m); e != nil {
			batch = append(batch, e)
		}
	}
	return s.hold(batch), nil
}

// claim takes over entries of consumers that let them lie for ClaimAfter.
func (s *Stream) claim(ctx context.Context, l *link) error {
	s.bury(true)
	defer s.bury(false)
	start := "0-0"
	for {
		room := min(s.room(), fetchPage)
		if room == 0 {
			return nil
		}
		list, next, deleted, err := l.client.XAutoClaimWithDeleted(ctx, &redis.XAutoClaimArgs{
			Stream: s.cfg.Stream, Group: s.cfg.Group, Consumer: s.cfg.Consumer, MinIdle: s.cfg.ClaimAfter, Start: start, Count: int64(room),
		}).Result()
		switch {
		case groupIsGone(err):
			return s.ensureGroup(ctx, l)
		case errors.Is(err, errReplyTooLarge):
			return nil // they are ours by the claim: the next look at the own pending entries fetches them
		case err != nil:
			return fmt.Errorf("claim idle entries: %w", err)
		}
		s.loseDeleted(deleted)
		var batch []*entry
		for i := range list {
			if e := s.takeClaimed(&list[i]); e != nil {
				batch = append(batch, e)
			}
		}
		batch = s.hold(batch)
		s.stats.claimed.Add(int64(len(batch)))
		if err := s.push(ctx, l, batch); err != nil {
			return err
		}
		if next == "0-0" || next == "" {
			return nil
		}
		start = next
	}
}

func (s *Stream) takeClaimed(m *redis.XMessage) *entry {
	id, err := parseID(m.ID)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	known := s.known(id)
	s.mu.Unlock()
	if known {
		return nil
	}
	return s.take(m)
}

// loseDeleted counts the entries XAUTOCLAIM found deleted and took off the pending list itself; those in hand
// are delivered all the same.
func (s *Stream) loseDeleted(ids []string) {
	var n int64
	s.mu.Lock()
	for _, text := range ids {
		id, err := parseID(text)
		if err != nil {
			continue
		}
		if e, held := s.hand[id]; held {
			e.quiet = true
		} else if !s.known(id) {
			n++
		}
	}
	s.mu.Unlock()
	if n > 0 {
		s.stats.lost.Add(n)
		s.note(bridge.NoteLoss, n, "pending entries were deleted from stream "+s.cfg.Stream)
	}
}
