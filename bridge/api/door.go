package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Door is one HTTP source of an Ingress. Its documents wait with their senders: nothing is queued inside, and a document is handed
// over when Receive asks for it. A document that is not settled with nil or as a bad alert is for its sender to send again.
type Door struct {
	name, preset string
	handed       chan *doorItem
	ready        chan struct{} // closed when the ingress first serves
	serving      *atomic.Bool  // of the ingress

	closing chan struct{} // closed by Close
	done    chan struct{} // closed when Run ended, or by Close when it never began

	mu      sync.Mutex // guards what follows
	started bool
	closed  bool
	waiting int           // requests whose documents are with the bridge
	idle    chan struct{} // closed when waiting falls to 0 after Close
}

var _ bridge.Source = (*Door)(nil)

var (
	errDoorRunning = errors.New("http source: it runs already")
	errSettled     = errors.New("http source: the delivery is settled already")
	errDoorClosed  = fmt.Errorf("http source: %w", bridge.ErrClosed)
)

func newDoor(name, preset string, ready chan struct{}, serving *atomic.Bool) *Door {
	return &Door{
		name: name, preset: preset, handed: make(chan *doorItem), ready: ready, serving: serving,
		closing: make(chan struct{}), done: make(chan struct{}), idle: make(chan struct{}),
	}
}

// Name is the source's name in the settings.
func (d *Door) Name() string { return d.name }

// Run blocks until ctx ends or Close is called and returns nil; then the door is over. It may be called once.
func (d *Door) Run(ctx context.Context) error {
	begun, err := d.begin()
	if !begun {
		return err
	}
	defer close(d.done)
	select {
	case <-ctx.Done():
	case <-d.closing:
	}
	return nil
}

func (d *Door) begin() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.started:
		return false, errDoorRunning
	case d.closed:
		return false, nil
	}
	d.started = true
	return true, nil
}

// Ready is closed when the ingress first answers requests.
func (d *Door) Ready() <-chan struct{} { return d.ready }

// Connected reports whether the ingress answers requests and the door is open.
func (d *Door) Connected() bool { return d.serving.Load() && !d.over() }

// Receive returns the next document; it blocks until one is there, ctx ends (then the error is its cause), or the door is over
// (bridge.ErrClosed).
func (d *Door) Receive(ctx context.Context) (bridge.Delivery, error) {
	if ctx.Err() != nil {
		return bridge.Delivery{}, context.Cause(ctx)
	}
	if d.over() {
		return bridge.Delivery{}, errDoorClosed
	}
	select {
	case it := <-d.handed:
		return d.deliver(it), nil
	case <-ctx.Done():
		return bridge.Delivery{}, context.Cause(ctx)
	case <-d.closing:
		return bridge.Delivery{}, errDoorClosed
	case <-d.done:
		return bridge.Delivery{}, errDoorClosed
	}
}

// Close ends the door: senders whose documents are not settled are answered 503. It waits within ctx until those of documents that
// are settled have their answer, and for Run to end. It may be called more than once.
func (d *Door) Close(ctx context.Context) error {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.closing)
		if !d.started {
			close(d.done)
		}
		if d.waiting == 0 {
			close(d.idle)
		}
	}
	d.mu.Unlock()
	for _, end := range []<-chan struct{}{d.idle, d.done} {
		select {
		case <-end:
		case <-ctx.Done():
			return fmt.Errorf("wait for the http source %s to end: %w", d.name, context.Cause(ctx))
		}
	}
	return nil
}

func (d *Door) over() bool {
	select {
	case <-d.closing:
		return true
	case <-d.done:
		return true
	default:
		return false
	}
}

// enter marks that a request deals with the door until leave; false after its end.
func (d *Door) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.waiting++
	return true
}

func (d *Door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting--; d.waiting == 0 && d.closed {
		close(d.idle)
	}
}

// doorItem is one document of a request.
type doorItem struct {
	batch    *doorBatch
	doc      []byte
	received time.Time
	settled  atomic.Bool
}

func (d *Door) deliver(it *doorItem) bridge.Delivery {
	return bridge.Delivery{
		Alert:  bridge.Alert{Source: d.name, Preset: d.preset, Received: it.received, Raw: it.doc},
		Settle: it.settle,
	}
}

// settle never blocks. Whether the sender still waits makes no difference: what it repeats will be recognised.
func (it *doorItem) settle(_ context.Context, err error) error {
	if it.settled.Swap(true) {
		return errSettled
	}
	it.batch.settle(err)
	return nil
}

// doorBatch is what became of the documents of one request.
type doorBatch struct {
	done chan struct{} // closed when all are settled

	mu      sync.Mutex // guards what follows
	pending int
	bad     int   // documents the bridge keeps as dead letters
	why     error // of the first of them
	failed  error // the first other error
}

func (b *doorBatch) settle(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
	case errors.Is(err, bridge.ErrBadAlert):
		if b.bad++; b.why == nil {
			b.why = err
		}
	case b.failed == nil:
		b.failed = err
	}
	if b.pending--; b.pending == 0 {
		close(b.done)
	}
}

// pass hands the documents over in their order and waits until all are settled. The error is errClosing when the bridge or the door
// ends before, errNoRoom when limit is over; then the bridge may have some of the documents, and their sender
// has to send all of them again.
func (d *Door) pass(docs [][]byte, received time.Time, limit time.Duration, ends doorEnds) (*doorBatch, error) {
	b := &doorBatch{done: make(chan struct{}), pending: len(docs)}
	items := make([]doorItem, len(docs))
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for i, doc := range docs {
		it := &items[i]
		it.batch, it.doc, it.received = b, doc, received
		select {
		case d.handed <- it:
		case <-timer.C:
			return nil, errNoRoom
		case <-ends.closing: // nobody takes it any more
			return nil, errClosing
		case <-d.closing:
			return nil, errClosing
		case <-d.done:
			return nil, errClosing
		}
	}
	select {
	case <-b.done:
	case <-timer.C:
		return b.finished(errNoRoom)
	case <-ends.abandon: // it had the drain time
		return b.finished(errClosing)
	case <-d.closing:
		return b.finished(errClosing)
	}
	return b, nil
}

// finished is the batch if all of it is settled, else the error.
func (b *doorBatch) finished(err error) (*doorBatch, error) {
	select {
	case <-b.done:
		return b, nil
	default:
		return nil, err
	}
}

// doorEnds are the two steps in which an ingress ends: first nothing more is handed over, then nobody waits any longer.
type doorEnds struct{ closing, abandon <-chan struct{} }

var errNoRoom = errors.New("the bridge did not take the documents in time")
