package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// groupState is what the reading goroutine knows of the group.
type groupState struct {
	count           int // entries asked for at once; shrinks while answers are too large
	sweepAt, keepAt time.Time
	// at is where the group can be made anew without skipping anything; known after it was loaded or read.
	at     position
	known  bool
	loaded bool
	stored string
	// counted is set once at.lost is comparable with the counters of the server.
	counted bool
}

// position is a place in the stream: everything up to id is acknowledged by all consumers of the group.
// lost is how many unread entries were reported as deleted already.
type position struct {
	id   entryID
	lost int64
}

// String returns "<id>/<lost>".
func (p position) String() string { return p.id.String() + "/" + strconv.FormatInt(p.lost, 10) }

func parsePosition(text string) (position, error) {
	id, lost, _ := strings.Cut(text, "/")
	var p position
	var err error
	if p.id, err = parseID(id); err != nil {
		return position{}, err
	}
	if lost != "" {
		if p.lost, err = strconv.ParseInt(lost, 10, 64); err != nil {
			return position{}, fmt.Errorf("position %q is not <id>/<lost>", clip(text))
		}
	}
	return p, nil
}

// ensureGroup makes the group when it is missing: from the stream's beginning the first time, later from the last
// known place.
func (s *Stream) ensureGroup(ctx context.Context, l *link) error {
	if err := s.loadPosition(ctx); err != nil {
		return err
	}
	start, read, err := s.groupStart(ctx, l)
	if err != nil {
		return err
	}
	err = s.createGroup(ctx, l, start, read)
	switch {
	case redis.HasErrorPrefix(err, "BUSYGROUP"):
		return nil
	case err != nil:
		return fmt.Errorf("create group: %w", err)
	}
	if s.group.known {
		s.note(bridge.NoteGap, 1, fmt.Sprintf("group %s of stream %s was gone and is made anew at %s: entries may come again, and what was deleted with it is lost",
			s.cfg.Group, s.cfg.Stream, start))
		s.stats.gaps.Add(1)
		s.group.at.lost, s.group.counted = 0, false
		s.silence()
	}
	return nil
}

func (s *Stream) createGroup(ctx context.Context, l *link, start string, read int64) error {
	if read >= 0 {
		// ENTRIESREAD is known to Redis 7.0 and later; without it the server cannot tell entries that were deleted
		// unread from those deleted before the group began.
		cmd := redis.NewStatusCmd(ctx, "XGROUP", "CREATE", s.cfg.Stream, s.cfg.Group, start, "MKSTREAM", "ENTRIESREAD", read)
		cmd.SetFirstKeyPos(keyOfSubcommand)
		err := l.client.Process(ctx, cmd)
		if !isReply(err) || redis.HasErrorPrefix(err, "BUSYGROUP") {
			return err
		}
	}
	return l.client.XGroupCreateMkStream(ctx, s.cfg.Stream, s.cfg.Group, start).Err()
}

// silence marks what is in hand: its pending records are gone with the group, so that a missing
// acknowledgement means nothing.
func (s *Stream) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.hand {
		e.quiet = true
	}
}

func (s *Stream) loadPosition(ctx context.Context) error {
	if s.group.loaded || s.cfg.Position == nil {
		return nil
	}
	text, err := s.cfg.Position(ctx)
	if err != nil {
		return fmt.Errorf("load the position of stream %s: %w", s.cfg.Stream, err)
	}
	s.group.loaded = true
	if text == "" {
		return nil
	}
	p, err := parsePosition(text)
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "stored position is unreadable and ignored", "err", err)
		return nil
	}
	s.group.at, s.group.known, s.group.counted, s.group.stored = p, true, true, text
	return nil
}

// groupStart returns where a missing group is to begin, and how many entries of the stream were gone before it
// began (-1: not known).
func (s *Stream) groupStart(ctx context.Context, l *link) (start string, read int64, err error) {
	info, err := l.client.XInfoStream(ctx, s.cfg.Stream).Result()
	switch {
	case noSuchKey(err):
		return "0", 0, nil // all that comes is new
	case isReply(err), errors.Is(err, errReplyTooLarge):
		if s.group.known {
			return s.group.at.id.String(), -1, nil
		}
		return "0", -1, nil
	case err != nil:
		return "", 0, fmt.Errorf("look at stream: %w", err)
	}
	last, err := parseID(info.LastGeneratedID)
	if s.group.known && err == nil && !last.less(s.group.at.id) {
		return s.group.at.id.String(), -1, nil
	}
	// Either the first start, or ids began anew below our place: then all entries are younger than it.
	return "0", max(info.EntriesAdded-info.Length, 0), nil
}

// account compares what the group should have read with what it could read, and remembers the group's place.
// What the server does not let us ask is left out.
func (s *Stream) account(ctx context.Context, l *link) error {
	groups, err := groupsOf(ctx, l, s.cfg.Stream)
	if noSuchKey(err) {
		return s.ensureGroup(ctx, l)
	}
	if isReply(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at groups: %w", err)
	}
	own := slices.IndexFunc(groups, func(g groupInfo) bool { return g.name == s.cfg.Group })
	if own < 0 {
		return s.ensureGroup(ctx, l)
	}
	info, err := l.client.XInfoStream(ctx, s.cfg.Stream).Result()
	if err != nil && !isReply(err) && !errors.Is(err, errReplyTooLarge) {
		return fmt.Errorf("look at stream: %w", err)
	}
	if err == nil {
		s.countUnread(&groups[own], info)
	}
	safe, err := groups[own].settledUpTo(ctx, l, s.cfg.Stream)
	if isReply(err) {
		return nil
	}
	if err != nil {
		return err
	}
	s.group.at.id, s.group.known = safe, true
	s.storePosition(ctx)
	if s.cfg.Trim {
		return s.trim(ctx, l, groups)
	}
	return nil
}

// countUnread reports entries that were deleted before anyone of the group read them. The server counts all
// entries ever added and all the group ever read; what is missing between them shows when either nothing unread is
// left or all that is left is unread. Trimming leaves the group's own lag untouched (Redis 7.0), so lag tells nothing.
func (s *Stream) countUnread(g *groupInfo, info *redis.XInfoStream) {
	last, err := parseID(info.LastGeneratedID)
	if err == nil && info.EntriesAdded == 0 && info.Length == 0 && last == (entryID{}) {
		s.group.counted = true // a stream nothing was ever added to: every loss from here on is ours to report
		return
	}
	if info.EntriesAdded == 0 || g.entriesRead < 0 || err != nil {
		return // before Redis 7.0, or the server lost count
	}
	first := entryID{}
	if info.Length > 0 {
		if first, err = parseID(info.FirstEntry.ID); err != nil {
			return
		}
	}
	var lost int64
	drained := g.delivered == last
	switch {
	case drained:
		lost = info.EntriesAdded - g.entriesRead
	case info.Length == 0 || g.delivered.less(first):
		lost = info.EntriesAdded - g.entriesRead - info.Length
	default:
		return // read and unread ones are left: it cannot be told yet
	}
	before := s.group.at.lost
	if !s.group.counted {
		before = 0
		if drained {
			before = lost // from before our time, or reported by an earlier run
		}
	}
	s.group.at.lost, s.group.counted = max(lost, 0), true
	if lost > before {
		s.stats.lost.Add(lost - before)
		s.note(bridge.NoteLoss, lost-before, "lost_unread: entries were deleted from stream "+s.cfg.Stream+" before they were read")
	}
}

func (s *Stream) storePosition(ctx context.Context) {
	text := s.group.at.String()
	if s.cfg.SetPosition == nil || text == s.group.stored {
		return
	}
	if err := s.cfg.SetPosition(ctx, text); err != nil {
		s.cfg.Logger.WarnContext(ctx, "position of the stream not stored", "err", err)
		return
	}
	s.group.stored = text
}

// trim deletes what every group has acknowledged. MAXLEN would also take entries nobody has read.
func (s *Stream) trim(ctx context.Context, l *link, groups []groupInfo) error {
	var below entryID
	for i := range groups {
		id, err := groups[i].settledUpTo(ctx, l, s.cfg.Stream)
		if err != nil {
			return err
		}
		if i == 0 || id.less(below) {
			below = id
		}
	}
	if err := l.client.XTrimMinIDApprox(ctx, s.cfg.Stream, below.String(), 0).Err(); err != nil {
		return fmt.Errorf("trim stream: %w", err)
	}
	return nil
}
