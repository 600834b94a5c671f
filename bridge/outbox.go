package bridge

import (
	"context"
	"strings"
	"sync"
)

// outbox keeps the orders of one host in the order their alerts were received, while those of different
// hosts run side by side. A place in a lane is reserved when the alert is read, before the commit that
// decides what becomes of it, so that a slow commit cannot let a later alert overtake.
type outbox struct {
	room chan struct{} // one token for every place; bounds what is in memory

	mu    sync.Mutex // guards lanes and everything inside them
	lanes map[string]*lane
}

type lane struct {
	key    string
	places []*laneItem
	busy   bool // a goroutine runs the lane
}

type laneItem struct {
	lane    *lane
	decided bool
	fresh   bool // admitted by this process just before, so its intent cannot have been used yet
	order   *Order
}

func newOutbox(places int) *outbox {
	return &outbox{room: make(chan struct{}, places), lanes: map[string]*lane{}}
}

// reserve takes the next place in the lane of a host. It blocks while the outbox is full.
func (b *outbox) reserve(ctx context.Context, host string) (*laneItem, error) {
	select {
	case b.room <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	key := strings.ToLower(host)
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lanes[key]
	if l == nil {
		l = &lane{key: key}
		b.lanes[key] = l
	}
	it := &laneItem{lane: l}
	l.places = append(l.places, it)
	return it, nil
}

// idle reports whether the place is the head of a lane nobody runs: its order would begin at once.
func (b *outbox) idle(it *laneItem) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !it.lane.busy && it.lane.places[0] == it
}

// decide fills the place, or gives it up when o is nil. When it answers true the caller must call run.
func (b *outbox) decide(it *laneItem, o *Order, fresh bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	it.decided, it.order, it.fresh = true, o, fresh
	if it.lane.busy || !it.lane.places[0].decided {
		return false
	}
	if o == nil && len(it.lane.places) == 1 {
		b.drop(it.lane)
		return false
	}
	it.lane.busy = true
	return true
}

// run performs the decided orders at the head of a lane until it meets an undecided place or the end.
func (b *outbox) run(l *lane, perform func(o Order, fresh bool)) {
	for {
		it := b.head(l)
		if it == nil {
			return
		}
		if it.order != nil {
			perform(*it.order, it.fresh)
		}
		b.mu.Lock()
		b.drop(l)
		b.mu.Unlock()
	}
}

func (b *outbox) head(l *lane) *laneItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(l.places) == 0 || !l.places[0].decided {
		l.busy = false
		return nil
	}
	return l.places[0]
}

// drop removes the head of a lane; mu is held.
func (b *outbox) drop(l *lane) {
	l.places[0] = nil
	l.places = l.places[1:]
	if len(l.places) == 0 {
		delete(b.lanes, l.key)
	}
	<-b.room
}
