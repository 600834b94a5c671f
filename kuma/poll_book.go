package kuma

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

const (
	pollMaxOdd   = 1000
	pollMaxDone  = 4096 // settled alerts the saved text names; after a restart the others come once more
	pollMaxState = 256 << 10
)

// pollItem is an alert that is known and not settled.
type pollItem struct {
	id, key  string
	lastSeen time.Time
	stage    pollStage
	// due is when it may be delivered again, attempts how often it was.
	due      time.Time
	attempts int
	also     string // the key of what was read, when it had grown since it was listed
}

type pollStage int

const (
	pollQueued pollStage = iota
	pollReading
	pollDelivered
)

// pollBook is what a Poll knows of its alerts.
type pollBook struct {
	overlap time.Duration
	max     int
	// mark: everything seen before it is settled. It never moves back.
	mark time.Time
	// horizon: everything KUMA had up to it at the latest look is in hand or settled.
	horizon time.Time
	hand    map[string]*pollItem // by key
	// done are settled alerts from mark−overlap on, by the digest of their key.
	done  map[string]time.Time
	odd   map[[sha256.Size]byte]bool
	saved string
}

func (b *pollBook) init(overlap time.Duration, room int) {
	b.overlap, b.max = overlap, room
	b.hand, b.done, b.odd = map[string]*pollItem{}, map[string]time.Time{}, map[[sha256.Size]byte]bool{}
}

func pollDigest(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}

// from is where the next look begins.
func (b *pollBook) from() time.Time { return b.mark.Add(-b.overlap) }

// take adds what is unknown while there is room, oldest first, and reports whether something was left out.
func (b *pollBook) take(heads []Alert) (full bool) {
	for _, a := range heads {
		key := a.DeliveryID()
		// One may have been settled while the look went on.
		if _, settled := b.done[pollDigest(key)]; settled || b.hand[key] != nil {
			continue
		}
		if len(b.hand) >= b.max {
			b.horizon = later(b.horizon, a.LastSeen)
			b.advance()
			return true
		}
		b.hand[key] = &pollItem{id: a.ID, key: key, lastSeen: a.LastSeen}
	}
	if n := len(heads); n > 0 {
		b.horizon = later(b.horizon, heads[n-1].LastSeen)
	}
	b.advance()
	return false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// next returns the oldest alert that may be delivered, or when one may be; zero = none waits.
func (b *pollBook) next(now time.Time) (*pollItem, time.Time) {
	var best *pollItem
	var soon time.Time
	for _, it := range b.hand {
		switch {
		case it.stage != pollQueued:
		case it.due.After(now):
			if soon.IsZero() || it.due.Before(soon) {
				soon = it.due
			}
		case best == nil, it.before(best):
			best = it
		}
	}
	return best, soon
}

func (it *pollItem) before(other *pollItem) bool {
	return cmp.Or(it.lastSeen.Compare(other.lastSeen), cmp.Compare(it.id, other.id)) < 0
}

// settle takes an alert out of the hand.
func (b *pollBook) settle(it *pollItem) {
	delete(b.hand, it.key)
	b.done[pollDigest(it.key)] = it.lastSeen
	if it.also != "" {
		b.done[pollDigest(it.also)] = it.lastSeen
	}
	b.advance()
}

// advance moves the watermark over what is settled and forgets what lies too far behind it.
func (b *pollBook) advance() {
	mark := b.horizon
	for _, it := range b.hand {
		if it.lastSeen.Before(mark) {
			mark = it.lastSeen
		}
	}
	if !mark.After(b.mark) {
		return
	}
	b.mark = mark
	for key, at := range b.done {
		// One millisecond more, because looks begin at whole ones.
		if at.Before(b.from().Add(-time.Millisecond)) {
			delete(b.done, key)
		}
	}
}

// pollState is the form the book is saved in.
type pollState struct {
	Mark time.Time `json:"mark"`
	// Done are settled alerts by digest, with their LastSeen in epoch milliseconds.
	Done map[string]int64 `json:"done,omitempty"`
}

// text returns the form the book is saved in, and whether it differs from what was saved.
func (b *pollBook) text() (string, bool) {
	state := pollState{Mark: b.mark.UTC(), Done: map[string]int64{}}
	digests := make([]string, 0, len(b.done))
	for d := range b.done {
		digests = append(digests, d)
	}
	if len(digests) > pollMaxDone {
		slices.SortFunc(digests, func(x, y string) int { return b.done[y].Compare(b.done[x]) })
		digests = digests[:pollMaxDone]
	}
	for _, d := range digests {
		state.Done[d] = b.done[d].UnixMilli()
	}
	raw, err := json.Marshal(state)
	if err != nil {
		return "", false // a moment outside the years 0 to 9999 is not saved
	}
	return string(raw), string(raw) != b.saved
}

// restore reads the form the book is saved in; without one, or with one that cannot be read, it begins at first.
func (b *pollBook) restore(text string, first time.Time) error {
	b.mark, b.horizon = first, first
	if text == "" {
		return nil
	}
	var state pollState
	switch {
	case len(text) > pollMaxState:
		return errors.New("the saved watermark is too long")
	case json.Unmarshal([]byte(text), &state) != nil || state.Mark.IsZero():
		return errors.New("the saved watermark is damaged")
	}
	b.mark, b.horizon, b.saved = state.Mark, state.Mark, text
	for d, ms := range state.Done {
		b.done[d] = time.UnixMilli(ms).UTC()
	}
	return nil
}
