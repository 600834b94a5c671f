package bridge

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// outbox keeps the orders of one host in the order their alerts were received, while those of different
// hosts run side by side. A place in a lane is reserved when the alert is read, before the commit that
// decides what becomes of it, so that a slow commit cannot let a later alert overtake.
//
// Orders that end processes do not wait for each other, because it makes no difference which process ends
// first; every other order waits for all that were received before it and lets none behind it begin.
type outbox struct {
	room chan struct{} // one token for every place; bounds what is in memory

	mu    sync.Mutex // guards lanes and everything inside them
	lanes map[string]*lane
}

type lane struct {
	key    string
	places []*laneItem
}

type laneItem struct {
	lane    *lane
	shared  bool // may run beside other shared ones
	stage   laneStage
	fresh   bool // admitted by this process just before, so its intent cannot have been used yet
	order   Order
	dropped bool // nothing came of it
}

// laneStage is how far the work on a place is.
type laneStage int

const (
	laneReserved laneStage = iota // its alert is not committed yet
	laneDecided                   // may begin when those before it allow it
	laneRunning
)

func newOutbox(places int) *outbox {
	return &outbox{room: make(chan struct{}, places), lanes: map[string]*lane{}}
}

// reserve takes the next place in the lane of the order's host. It blocks while the outbox is full.
func (b *outbox) reserve(ctx context.Context, o Order) (*laneItem, error) {
	select {
	case b.room <- struct{}{}:
	default:
		select {
		case b.room <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	_, shared := o.Task.(TerminateProcess)
	key := strings.ToLower(o.Host)
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lanes[key]
	if l == nil {
		l = &lane{key: key}
		b.lanes[key] = l
	}
	it := &laneItem{lane: l, shared: shared}
	l.places = append(l.places, it)
	return it, nil
}

// idle reports whether nothing before the place would make its order wait.
func (b *outbox) idle(it *laneItem) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, before := range it.lane.places {
		if before == it {
			return true
		}
		if !it.shared || !before.shared {
			return false
		}
	}
	return false
}

// decide fills the place, or gives it up when o is nil. It returns the places whose orders begin now: the caller runs them.
func (b *outbox) decide(it *laneItem, o *Order, fresh bool) []*laneItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o == nil {
		return b.leave(it)
	}
	it.stage, it.order, it.fresh = laneDecided, *o, fresh
	return it.lane.begin()
}

// finish removes a place whose order has been performed and returns those that begin now.
func (b *outbox) finish(it *laneItem) []*laneItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leave(it)
}

// leave removes a place; mu is held.
func (b *outbox) leave(it *laneItem) []*laneItem {
	if it.dropped {
		return nil
	}
	it.dropped = true
	l := it.lane
	if i := slices.Index(l.places, it); i >= 0 {
		l.places = slices.Delete(l.places, i, i+1)
	}
	<-b.room
	if len(l.places) == 0 {
		delete(b.lanes, l.key)
		return nil
	}
	return l.begin()
}

// begin marks and returns the places that may run now; mu is held.
func (l *lane) begin() []*laneItem {
	var out []*laneItem
	for i, it := range l.places {
		if !it.shared && i > 0 {
			break
		}
		if it.stage == laneDecided {
			it.stage = laneRunning
			out = append(out, it)
		}
		if !it.shared {
			break
		}
	}
	return out
}
