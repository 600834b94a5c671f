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
	// several is held by who takes more than one place.
	several chan struct{}

	mu      sync.Mutex // guards lanes, everything inside them, and working
	lanes   map[string]*lane
	working map[string]inHand // by order id
}

// inHand is what this process has of one order: places, and whether one of them is (or was, while another place stands) the
// one that performs it. A second place for the same order is given up, so that two of them cannot perform it one after the other.
type inHand struct {
	places int
	taken  bool
}

type lane struct {
	key    string
	places []*laneItem
}

type laneItem struct {
	run     *pipelineRun // whose order it is
	id      string       // of the order
	lane    *lane
	shared  bool // may run beside other shared ones
	urgent  bool // it found no room and did not wait for any
	stage   laneStage
	fresh   bool // admitted by this process just before, so its intent cannot have been used yet
	order   Order
	dropped bool // it has left its lane
	// overtaken is closed, and late set, when a release of the host is decided behind this isolation.
	overtaken chan struct{}
	late      bool
}

// laneStage is how far the work on a place is.
type laneStage int

const (
	laneReserved laneStage = iota // its alert is not committed yet
	laneDecided                   // may begin when those before it allow it
	laneRunning
)

func newOutbox(places int) *outbox {
	return &outbox{room: make(chan struct{}, places), several: make(chan struct{}, 1), lanes: map[string]*lane{}, working: map[string]inHand{}}
}

// maxTogether is how many orders are admitted in one transaction at most: more of them would keep others waiting for it.
const maxTogether = 64

// together is how many places may be taken at once; all of them are free when nobody else has one.
func (b *outbox) together() int { return max(1, min(maxTogether, cap(b.room)/2)) }

// reserve takes the next place in the lane of the order's host. It blocks while the outbox is full, but for releases
// that people and leases ask for: they must get past the isolations the outbox is full of, and are few.
func (b *outbox) reserve(ctx context.Context, run *pipelineRun, o Order) (*laneItem, error) {
	urgent := false
	select {
	case b.room <- struct{}{}:
	default:
		if urgent = o.AlertID == "" && IsRelease(o.Task); urgent {
			break
		}
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
	it := &laneItem{run: run, id: o.ID, lane: l, shared: shared, urgent: urgent}
	hand := b.working[o.ID]
	hand.places++
	b.working[o.ID] = hand
	if IsIsolation(o.Task) {
		it.overtaken = make(chan struct{})
	}
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

// decide fills the place, or gives it up when o is nil or in hand already; taken says which. begin are the places whose orders
// begin now: the caller runs them.
func (b *outbox) decide(it *laneItem, o *Order, fresh bool) (begin []*laneItem, taken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o == nil || b.working[it.id].taken {
		return b.drop(it), false
	}
	hand := b.working[it.id]
	hand.taken = true
	b.working[it.id] = hand
	it.stage, it.order, it.fresh = laneDecided, *o, fresh
	it.lane.overtake()
	return it.lane.begin(), true
}

// overtake tells the isolations before a release that they are not wanted any more; mu is held. The release of a lease
// only says that an older reason lapsed: it takes nothing from an isolation that waits.
func (l *lane) overtake() {
	released := false
	for _, it := range slices.Backward(l.places) {
		switch {
		case it.stage == laneReserved:
		case IsRelease(it.order.Task) && it.order.Actor != ActorLease:
			released = true
		case released && it.overtaken != nil && !it.late:
			close(it.overtaken)
			it.late = true
		}
	}
}

// taken reports whether somebody performs the order, has whether anybody has to do with it.
func (b *outbox) taken(order string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.working[order].taken
}

func (b *outbox) has(order string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.working[order].places > 0
}

// giveUp removes a place that nothing was decided for and returns those that begin now.
func (b *outbox) giveUp(it *laneItem) []*laneItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	if it.stage != laneReserved {
		return nil
	}
	return b.drop(it)
}

// stepAside takes a place out of its lane while its order is still worked on, and returns those that begin now.
func (b *outbox) stepAside(it *laneItem) []*laneItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leave(it)
}

// finish removes a place whose order has been performed and returns those that begin now.
func (b *outbox) finish(it *laneItem) []*laneItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(it.id)
	return b.leave(it)
}

// drop removes a place that comes to nothing; mu is held.
func (b *outbox) drop(it *laneItem) []*laneItem {
	if it.dropped {
		return nil
	}
	b.forget(it.id)
	return b.leave(it)
}

// forget counts one place of an order less; mu is held.
func (b *outbox) forget(order string) {
	hand := b.working[order]
	if hand.places--; hand.places <= 0 {
		delete(b.working, order)
		return
	}
	b.working[order] = hand
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
	if !it.urgent {
		<-b.room
	}
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
