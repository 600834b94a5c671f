package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// PipelineConfig wires one bridge together.
type PipelineConfig struct {
	Mapper Mapper
	Store  Store
	Guard  *Guard
	Router Router
	// Alerts is how many deliveries are between Receive and their commit at once; zero = 128.
	Alerts int
	// Orders is how many admitted orders are in memory at once; when it is reached no source is read: the
	// backlog waits where it is durable. Zero = four times InFlight, at least 256.
	Orders int
	// InFlight is how many orders KSC works on at once, each server for itself where there are several; zero = 64.
	InFlight int
	// Meter counts what happens; nil = nobody does.
	Meter Meter
	// Settle is the pause before looking for an effect whose outcome was lost, and between two looks: longer
	// than the server's own timeout. Zero = 45 s.
	Settle time.Duration
	// GiveUp is how long an order may stay undecided before it ends as unknown. Zero = 30 min.
	GiveUp time.Duration
	// Drain is how long Run waits for what is in flight when ctx ends. Zero = 10 s.
	Drain  time.Duration
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Pipeline is the way of an alert: source → map → guard → admit → settle → execute → outcome.
type Pipeline struct {
	cfg    PipelineConfig
	log    *slog.Logger
	box    *outbox
	alerts chan struct{}
	slots  map[string]chan struct{} // by executor name, those of several KSC servers by executor@profile
	work   sync.WaitGroup

	mu      sync.Mutex   // guards running and served
	running *pipelineRun // what Run takes in; nil when it does not, or not any more
	served  bool         // Run was called
}

// localInFlight is how many orders the local executor works on at once: most of their time they wait for an exit.
const localInFlight = 256

// NamedSource is a source with its name in the settings.
type NamedSource struct {
	Name   string
	Source Source
}

// NewPipeline checks the configuration. It starts nothing.
func NewPipeline(cfg PipelineConfig) (*Pipeline, error) {
	if cfg.Store == nil || cfg.Guard == nil {
		return nil, errors.New("pipeline: store and guard are required")
	}
	setDefault(&cfg.InFlight, 64)
	setDefault(&cfg.Alerts, 128)
	setDefault(&cfg.Orders, max(256, 4*cfg.InFlight))
	setDefault(&cfg.Settle, 45*time.Second)
	setDefault(&cfg.GiveUp, 30*time.Minute)
	setDefault(&cfg.Drain, 10*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Meter == nil {
		cfg.Meter = NoMeter{}
	}
	p := &Pipeline{
		cfg: cfg, log: cfg.Logger, box: newOutbox(cfg.Orders), alerts: make(chan struct{}, cfg.Alerts),
		slots: map[string]chan struct{}{
			ExecutorKSC:   make(chan struct{}, cfg.InFlight),
			ExecutorLocal: make(chan struct{}, localInFlight),
		},
	}
	// A server that is slow must not take the places of another.
	if servers, several := cfg.Router.KSC.(Servers); several {
		for _, profile := range servers.Profiles() {
			p.slots[JoinHost(ExecutorKSC, profile)] = make(chan struct{}, cfg.InFlight)
		}
	}
	return p, nil
}

// slot is where an order waits for its executor.
func (p *Pipeline) slot(o Order) chan struct{} {
	if _, profile := SplitHost(o.Host); profile != "" && o.Executor == ExecutorKSC {
		if slot := p.slots[JoinHost(ExecutorKSC, profile)]; slot != nil {
			return slot
		}
	}
	return p.slots[o.Executor]
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Run takes up the orders of resume, then reads the sources until ctx ends or all of them are closed, then
// waits at most Drain for what is in flight. What is not finished by then stays in the store for the next start.
// resume yields pages of pending orders, oldest first; an empty page ends it. nil = nothing to resume.
func (p *Pipeline) Run(ctx context.Context, sources []NamedSource, resume func(context.Context) ([]Order, error)) error {
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	quit, end := context.WithCancelCause(ctx)
	defer end(nil)
	run := &pipelineRun{Pipeline: p, work: work, quit: quit}
	p.serve(run)
	err := run.resume(ctx, resume)
	if err != nil {
		end(err) // what was taken up until then stays in the store
	} else {
		var readers sync.WaitGroup
		for _, s := range sources {
			readers.Add(1)
			p.work.Go(func() { run.read(ctx, s, readers.Done) })
		}
		readers.Wait()
	}
	p.serve(nil)
	p.drain(quit, stop)
	return err
}

// serve opens the pipeline to others than its sources, or closes it: then nobody adds work to what drain waits for.
func (p *Pipeline) serve(run *pipelineRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = run
	p.served = true
}

// join returns the run that takes in work, which does not end before leave is called. It is nil where Run was
// never called; after Run the error is errNotRunning.
func (p *Pipeline) join() (run *pipelineRun, leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil && p.served {
		return nil, nil, errNotRunning
	}
	p.work.Add(1)
	return p.running, p.work.Done, nil
}

// joinRunning is join for what needs a run.
func (p *Pipeline) joinRunning() (run *pipelineRun, leave func(), err error) {
	if run, leave, err = p.join(); err == nil && run == nil {
		leave()
		err = errNotRunning
	}
	return run, leave, err
}

// drain waits for the work: without limit while ctx lives (all sources ended by themselves), else for Drain.
func (p *Pipeline) drain(ctx context.Context, stop context.CancelCauseFunc) {
	idle := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() { p.work.Wait(); close(idle) })
	select {
	case <-idle:
	case <-ctx.Done():
		timer := time.NewTimer(p.cfg.Drain)
		defer timer.Stop()
		select {
		case <-idle:
		case <-timer.C:
			p.log.Warn("drain time is over, the rest resumes at the next start", "after", p.cfg.Drain)
			stop(errDrained)
		}
	}
	waiter.Wait()
}

var errDrained = errors.New("shutting down")

// Submit admits orders entered by hand and performs them; it returns how each of them stood when the bridge was through
// with it, in the order given; one that somebody else has in hand is returned as it stands. Inside a running pipeline it
// returns early when ctx ends; the orders go on. Without one, ctx is what ends them.
func (p *Pipeline) Submit(ctx context.Context, orders []Order) ([]Order, error) {
	serving, leave, err := p.join()
	if err != nil {
		return nil, err
	}
	run := &pipelineRun{Pipeline: p, work: ctx, quit: ctx, hand: newHand(orders)}
	if serving != nil {
		run.work, run.quit = serving.work, serving.quit
	}
	err = run.admit(ctx, orders)
	leave()
	if err != nil {
		return nil, err
	}
	if serving == nil {
		return run.hand.finish(orders), nil
	}
	return run.hand.wait(ctx, orders)
}

// Enter admits orders of the bridge itself and leaves them to the running pipeline: it blocks until they are committed. Releases
// find room where others wait for it.
func (p *Pipeline) Enter(ctx context.Context, orders []Order) error {
	run, leave, err := p.joinRunning()
	if err != nil {
		return err
	}
	defer leave()
	return run.admit(ctx, orders)
}

// Feed gives the running pipeline a document again that could not be read before. It blocks until the document is admitted or
// refused; settle hears of it as the source of a delivery would.
func (p *Pipeline) Feed(ctx context.Context, raw Alert, settle func(context.Context, error) error) error {
	run, leave, err := p.joinRunning()
	if err != nil {
		return err
	}
	defer leave()
	d := Delivery{Alert: raw, Settle: settle}
	select {
	case run.alerts <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	mapped, places, err := run.mapAlert(ctx, d)
	run.spawn(run.handle(d, mapped, places, err))
	return nil
}

// Working reports whether the pipeline has the order in hand, or is about to admit it.
func (p *Pipeline) Working(order string) bool { return p.box.has(order) }

var errNotRunning = errors.New("pipeline is not running")

// Resume takes up orders of a running pipeline again that the hold switch had stopped and the store has queued
// by now. It blocks while the outbox is full.
func (p *Pipeline) Resume(ctx context.Context, orders []Order) error {
	run, leave, err := p.joinRunning()
	if err != nil {
		return err
	}
	defer leave()
	return run.enqueue(ctx, orders)
}

// pipelineRun is one call of Run or Submit.
type pipelineRun struct {
	*Pipeline
	work context.Context //nolint:containedctx // the context of all effects of this run: it outlives quit by the drain time
	quit context.Context //nolint:containedctx // ends when no new effect may begin
	hand *hand           // who waits for orders entered by hand; nil for those of sources
}

func (r *pipelineRun) resume(ctx context.Context, next func(context.Context) ([]Order, error)) error {
	if next == nil {
		return nil
	}
	for {
		page, err := next(ctx)
		if err != nil {
			return fmt.Errorf("read pending orders: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		if err := r.enqueue(ctx, page); err != nil {
			return err
		}
	}
}

func (r *pipelineRun) enqueue(ctx context.Context, orders []Order) error {
	for _, o := range orders {
		if r.box.taken(o.ID) {
			continue
		}
		it, err := r.box.reserve(ctx, r, o)
		if err != nil {
			return err
		}
		begin, _ := r.box.decide(it, &o, false)
		r.spawn(begin)
	}
	return nil
}

const (
	receiveBackoffMin = 100 * time.Millisecond
	receiveBackoffMax = 5 * time.Second
)

// read is the loop of one source. The goroutine that received a delivery goes on with it and leaves the reading to a
// fresh one: the alert does not wait for a goroutine to wake up. ended is called when nobody reads the source any more.
func (r *pipelineRun) read(ctx context.Context, s NamedSource, ended func()) {
	backoff := receiveBackoffMin
	for {
		d, err := s.Source.Receive(ctx)
		switch {
		case err == nil:
			r.take(ctx, s, d, ended)
			return
		case ctx.Err() != nil, errors.Is(err, ErrClosed):
			ended()
			return
		case !errors.Is(err, ErrNotConnected):
			r.log.Warn("source failed, trying again", "source_name", s.Name, "err", err)
		}
		if !pause(ctx, jitter(backoff)) {
			ended()
			return
		}
		backoff = min(2*backoff, receiveBackoffMax)
	}
}

// take maps one delivery, lets the reading go on and finishes the delivery. When ctx ends first, the delivery is
// given back unsettled by an error.
func (r *pipelineRun) take(ctx context.Context, s NamedSource, d Delivery, ended func()) {
	select {
	case r.alerts <- struct{}{}:
	case <-ctx.Done():
		r.giveBack(d, context.Cause(ctx))
		ended()
		return
	}
	CrashPoint(CrashReceived)
	r.cfg.Meter.Alert(d.Alert.Source)
	mapped, places, err := r.mapAlert(ctx, d)
	r.Pipeline.work.Go(func() { r.read(ctx, s, ended) })
	r.runAll(r.handle(d, mapped, places, err))
}

func (r *pipelineRun) giveBack(d Delivery, cause error) {
	if err := d.Settle(r.work, cause); err != nil {
		r.log.Warn("delivery could not be given back", "source_name", d.Alert.Source, "err", err)
	}
}

// pause waits for d and answers false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter spreads d over [d/2, d), so that parts that failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // spreads load, guards nothing
}
