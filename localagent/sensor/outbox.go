package sensor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// maxWaiting is how many alerts wait in memory when there is no spool, and maxHeld how many bodies are kept in memory beside it.
	maxWaiting = 1024
	maxHeld    = 256

	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

var (
	errSettled = errors.New("sensor: the delivery is settled already")
	// errNoRoom says that an alert is lost: the oldest are kept, because they tell how it began.
	errNoRoom = errors.New("no room for one more alert")
)

// outbox holds the alerts that were made and are not settled by one receiver, in order. What is in a spool comes again after a restart. It is safe for
// many goroutines.
type outbox struct {
	// name and emit are those of the receiver, "" and nil when it is the caller of Receive.
	name string
	emit Emit
	now  func() time.Time
	wake chan struct{}

	// mu guards the rest.
	mu     sync.Mutex
	spool  *spool // nil = none
	number uint64
	fresh  []*waiting // not handed out, in order
	again  []*waiting // settled with an error
	out    int        // in somebody's hands
	held   int        // bodies in memory
	over   bool
	lost   uint64
	told   uint64 // of lost, what an alert has told
	// failing says that the receiver did not take the last alert: until it does, each one is written so that it outlives the machine.
	failing bool
	// emitErr is why.
	emitErr error
	// diskErr is why the spool could not be written or read last; nil = it can.
	diskErr error
}

// waiting is one alert that is not settled.
type waiting struct {
	number uint64
	// on is where it stands in the spool; its number is 0 when it does not.
	on    spooled
	body  []byte // nil = read it from the spool
	since time.Time
	tries int
	due   time.Time
}

func newOutbox(name string, emit Emit, now func() time.Time) *outbox {
	return &outbox{name: name, emit: emit, now: now, wake: make(chan struct{}, 1)}
}

// open opens the spool, if one is wanted; what is in it is handed out before anything else.
func (o *outbox) open(dir string, limit int64) (damaged int64, err error) {
	if dir == "" {
		return 0, nil
	}
	s, list, err := openSpool(dir, limit)
	if err != nil {
		return 0, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return 0, errors.Join(bridge.ErrClosed, s.close())
	}
	o.spool = s
	now := o.now().UTC()
	old := make([]*waiting, 0, len(list)+len(o.fresh))
	for _, a := range list {
		old = append(old, &waiting{number: a.number, on: a, since: now})
		o.number = max(o.number, a.number)
	}
	o.fresh = append(old, o.fresh...)
	o.signal()
	return s.damaged, nil
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// tell takes an alert over, which also tells how many were lost before it. An error means that it is lost, and counted.
func (o *outbox) tell(d document) error {
	d.Lost = o.telling()
	doc, err := d.marshal()
	if err == nil {
		err = o.put(doc)
	}
	if err != nil {
		o.notTold(d.Lost)
	}
	return err
}

// put takes an alert over. An error means that it is lost, and counted.
func (o *outbox) put(body []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		o.lost++
		return bridge.ErrClosed
	}
	o.number++
	w := &waiting{number: o.number, body: body, since: o.now().UTC()}
	if o.spool != nil {
		on, err := o.spool.put(w.number, body)
		if errors.Is(err, errSpoolFull) {
			o.lost++
			return fmt.Errorf("%w: %w", errNoRoom, err)
		}
		if err == nil && o.failing {
			err = o.spool.sync()
		}
		// Without its disk the sensor goes on from memory.
		w.on, o.diskErr = on, err
	}
	switch {
	case w.on.number != 0 && o.held >= maxHeld:
		w.body = nil
	case w.on.number == 0 && len(o.fresh)+len(o.again)+o.out >= maxWaiting:
		o.lost++
		return errors.Join(errNoRoom, o.diskErr)
	default:
		o.held++
	}
	o.fresh = append(o.fresh, w)
	o.signal()
	return nil
}

// take returns the next alert, or how long to wait for one that comes again; -1 = none does.
func (o *outbox) take() (*waiting, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return nil, -1
	}
	var w *waiting
	wait := time.Duration(-1)
	if i := o.soonest(); i >= 0 {
		if wait = o.again[i].due.Sub(o.now()); wait <= 0 {
			w = o.again[i]
			o.again = append(o.again[:i], o.again[i+1:]...)
		}
	}
	for w == nil && len(o.fresh) > 0 {
		w = o.fresh[0]
		o.fresh[0] = nil
		o.fresh = o.fresh[1:]
		if w.body == nil && !o.fetch(w) {
			w = nil
		}
	}
	if w == nil {
		return nil, wait
	}
	o.out++
	return w, 0
}

func (o *outbox) soonest() int {
	best := -1
	for i, w := range o.again {
		if best < 0 || w.due.Before(o.again[best].due) {
			best = i
		}
	}
	return best
}

// fetch reads a body from the spool; one that cannot be read is lost.
func (o *outbox) fetch(w *waiting) bool {
	body, err := o.spool.body(w.on)
	if err != nil {
		o.diskErr = err
		o.lost++
		_ = o.spool.settle(w.on) // it could not be delivered next time either
		return false
	}
	w.body = body
	o.held++
	return true
}

// next blocks until an alert is there, ctx ends or the outbox is over. done, when it is not nil, ends it once nothing waits.
func (o *outbox) next(ctx context.Context, closing, done <-chan struct{}) (*waiting, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		select {
		case <-closing:
			return nil, bridge.ErrClosed
		default:
		}
		ended := false
		select {
		case <-done:
			ended = true
		default:
		}
		w, wait := o.take()
		switch {
		case w != nil:
			return w, nil
		case ended && wait < 0:
			return nil, bridge.ErrClosed
		}
		until := done
		if ended {
			until = nil // what comes again is waited for
		}
		if wait < 0 {
			wait = time.Hour
		}
		t := time.NewTimer(wait)
		select {
		case <-o.wake:
		case <-t.C:
		case <-ctx.Done():
		case <-closing:
		case <-until:
		}
		t.Stop()
	}
}

// settle ends the life of an alert that was handed out.
func (o *outbox) settle(w *waiting) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return bridge.ErrClosed
	}
	o.out--
	o.held--
	o.failing = false
	if w.on.number == 0 {
		return nil
	}
	// It was received; that it may come once more after a restart does not change that.
	o.diskErr = o.spool.settle(w.on)
	return nil
}

// postpone returns how long to wait before an alert in hand is tried again. From the first failure on the spool outlives the machine.
func (o *outbox) postpone(w *waiting) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	pause := lastPause
	if w.tries < 10 { // beyond, the shift would overflow in the end
		pause = min(firstPause<<w.tries, lastPause)
	}
	w.tries++
	if !o.failing && o.spool != nil {
		o.diskErr = o.spool.sync()
	}
	o.failing = true
	return pause
}

// giveBack keeps an alert in hand for a later time.
func (o *outbox) giveBack(w *waiting, pause time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return bridge.ErrClosed
	}
	w.due = o.now().Add(pause)
	o.out--
	o.again = append(o.again, w)
	o.signal()
	return nil
}

// emitted notes how a call of emit went, and logs when that changes.
func (o *outbox) emitted(ctx context.Context, log *slog.Logger, err error) {
	o.mu.Lock()
	before := o.emitErr
	o.emitErr = err
	o.mu.Unlock()
	switch {
	case err != nil && before == nil && ctx.Err() == nil:
		log.WarnContext(ctx, "alerts of the sensor are not taken, they wait", "to", o.name, "err", err)
	case err == nil && before != nil:
		log.InfoContext(ctx, "alerts of the sensor are taken again", "to", o.name)
	}
}

// waits returns how many alerts are not settled, how many were lost, and what disk and receiver failed with last.
func (o *outbox) waits() (count int, lost uint64, disk, emit error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.fresh) + len(o.again) + o.out, o.lost, o.diskErr, o.emitErr
}

// telling returns how many alerts were lost and not told, and counts them as told; notTold takes that back.
func (o *outbox) telling() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.lost - o.told
	o.told = o.lost
	return n
}

func (o *outbox) notTold(n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told -= n
}

// close ends the outbox. What is in the spool comes again after the next start; what is not is lost.
func (o *outbox) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return nil
	}
	o.over = true
	for _, list := range [][]*waiting{o.fresh, o.again} {
		for _, w := range list {
			if w.on.number == 0 {
				o.lost++
			}
		}
	}
	o.fresh, o.again = nil, nil
	if o.spool == nil {
		return nil
	}
	err := errors.Join(o.spool.sync(), o.spool.close())
	o.spool = nil
	return err
}
