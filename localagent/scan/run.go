package scan

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// queued is how many files wait for a worker.
	queued = 256
	// tick is how often progress is told and hanging threads are looked for.
	tick = 500 * time.Millisecond
	// grace is how much longer than its time a file may hold a thread before the thread is given up.
	grace = 5 * time.Second
	// maxLost is how many threads may hang in the kernel (a dead network filesystem) before the scan is given up.
	maxLost = 8
	// maxRunning bounds the processes told for one finding.
	maxRunning = 64
)

// Why a scan ends early.
var (
	errTime  = errors.New("its time is over")
	errBytes = errors.New("it has looked at as many bytes as it may")
	errFiles = errors.New("it has looked at as many files as it may")
	errHung  = errors.New("too many files hang in the kernel")
)

// run is one scan: one walker finds objects, workers look at them.
type run struct {
	s        *Scanner
	engine   Engine
	info     EngineInfo
	progress func(Progress)
	queue    chan object
	// stop ends the scan early; the first reason counts.
	stop context.CancelCauseFunc
	// walked is closed when nothing more comes into queue, done when nobody works any more.
	walked, done chan struct{}

	// mu guards what follows.
	mu              sync.Mutex
	res             Result
	skipped, failed tally
	seen            map[files.ID]struct{}
	slots           map[*slot]struct{}
	settled         int64
	lost            int
	expected        int64
	taken           int64 // bytes promised to workers
	closed          bool  // the result is out: nothing is written to it any more
	broken          error // why the scan did not go on, when that is no limit of its Config
}

// slot is the place of the walker or of one worker. The mutex of its run guards it.
type slot struct {
	walker bool
	// on is what it is busy with since then; empty = it waits.
	on    string
	since time.Time
	limit time.Duration
	// lost says that it did not come back in time: what it says later does not count.
	lost bool
}

func newRun(s *Scanner, e Engine, info EngineInfo, progress func(Progress)) *run {
	if progress == nil {
		progress = func(Progress) {}
	}
	return &run{
		s: s, engine: e, info: info, progress: progress, queue: make(chan object, queued),
		walked: make(chan struct{}), done: make(chan struct{}),
		res:     Result{Engine: info, Started: s.cfg.Now()},
		skipped: tally{}, failed: tally{}, seen: map[files.ID]struct{}{}, slots: map[*slot]struct{}{},
	}
}

// scan returns when all is looked at or given up. Threads that hang in the kernel are left behind: nobody can end them.
func (r *run) scan(ctx context.Context, objects []bridge.ScanObject) {
	r.res.Objects = disabled(objects)
	for i, o := range objects {
		if o.Enabled {
			r.res.Objects[i].State = ObjectNotReached
		}
	}
	limited, cancel := context.WithTimeoutCause(ctx, r.s.cfg.MaxTime, errTime)
	defer cancel()
	work, stop := context.WithCancelCause(limited)
	defer stop(nil)
	r.stop = stop
	r.mu.Lock()
	r.start(&slot{walker: true}, func(sl *slot) { r.walk(work, sl, objects) })
	for range r.s.cfg.Workers {
		r.start(&slot{}, func(sl *slot) { r.work(work, sl) })
	}
	r.mu.Unlock()
	r.oversee(work)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	cause := context.Cause(work)
	if cause != nil && r.res.Truncated == "" {
		r.res.Truncated = causeWords(cause)
	}
	if errors.Is(cause, ErrEngineGone) || errors.Is(cause, errHung) {
		r.broken = cause
	}
}

func causeWords(cause error) string {
	if errors.Is(cause, context.Canceled) {
		return "it was cancelled"
	}
	return cause.Error()
}

// start runs f in the slot. The caller holds mu.
func (r *run) start(sl *slot, f func(*slot)) {
	r.slots[sl] = struct{}{}
	go onThread(r.s.cfg.Priority, func(err error) {
		if err != nil {
			r.s.cfg.Logger.Warn("scan at normal priority", "err", err)
		}
		f(sl)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.leave(sl)
	})
}

// leave takes a slot out; the last one ends the scan. The caller holds mu.
func (r *run) leave(sl *slot) {
	if _, ok := r.slots[sl]; !ok {
		return
	}
	delete(r.slots, sl)
	if len(r.slots) == 0 {
		close(r.done)
	}
}

// busy notes what the slot does from this moment on; "" = it waits for others.
func (r *run) busy(sl *slot, on string, limit time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sl.on, sl.since, sl.limit = on, r.s.cfg.Now(), limit
}

// oversee tells progress and gives up what hangs, until all are done or ctx has ended and nobody stirs any more.
func (r *run) oversee(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	ended := ctx.Done()
	var patience <-chan time.Time
	for {
		select {
		case <-r.done:
			r.progress(r.now(true))
			return
		case <-ended:
			ended = nil
			timer := time.NewTimer(grace)
			defer timer.Stop()
			patience = timer.C
		case <-patience:
			r.progress(r.now(true))
			return
		case <-t.C:
			r.progress(r.now(false))
			r.giveUp(ctx)
		}
	}
}

func (r *run) now(end bool) Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Progress{Done: r.settled, Found: r.res.Found, Bytes: r.res.Bytes, Findings: r.res.Infected}
	p.Expected = max(r.expected, r.res.Found)
	select {
	case <-r.walked:
		p.Expected = r.res.Found
	default:
		if r.expected == 0 && !end {
			p.Expected = 0
		}
	}
	return p
}

// giveUp leaves behind what did not come back in time, and puts others in its place.
func (r *run) giveUp(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.s.cfg.Now()
	for sl := range r.slots {
		if sl.on == "" || now.Sub(sl.since) < sl.limit+grace {
			continue
		}
		sl.lost = true
		if sl.walker {
			r.broken = errors.New("the walk hangs in the kernel at " + verdict.Shown(sl.on))
			r.res.Truncated = r.broken.Error()
			close(r.walked)
			r.leave(sl)
			continue
		}
		r.failed.add(reasonHung, sl.on)
		r.settled++
		if r.lost++; r.lost > maxLost {
			r.stop(errHung)
		} else {
			r.start(&slot{}, func(sl *slot) { r.work(ctx, sl) })
		}
		r.leave(sl)
	}
}

// work looks at what comes.
func (r *run) work(ctx context.Context, sl *slot) {
	for !r.isLost(sl) {
		select {
		case o := <-r.queue:
			r.look(ctx, sl, o)
			continue
		case <-ctx.Done():
			return
		default:
		}
		select {
		case o := <-r.queue:
			r.look(ctx, sl, o)
		case <-ctx.Done():
			return
		case <-r.walked:
			if len(r.queue) == 0 {
				return
			}
		}
	}
}

func (r *run) isLost(sl *slot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sl.lost
}

// result is what is told.
func (r *run) result(ctx context.Context) Result {
	r.mu.Lock()
	res := r.res
	res.Skipped, res.Failed = r.skipped.groups(), r.failed.groups()
	r.mu.Unlock()
	res.Objects = slices.Clone(res.Objects)
	res.Findings = slices.Clone(res.Findings)
	slices.SortStableFunc(res.Findings, func(a, b Finding) int { return cmp.Compare(a.Path, b.Path) })
	if len(res.Findings) > 0 {
		running, answered := r.running(ctx)
		if !answered {
			res.Engine.Notes = append(slices.Clone(res.Engine.Notes), "which processes run what was found is not known: the system does not answer")
		}
		for i := range res.Findings {
			f := &res.Findings[i]
			f.Processes = running[f.Stat.ID]
			if len(f.Processes) > maxRunning {
				f.Processes = f.Processes[:maxRunning]
			}
		}
	}
	res.Ended = r.s.cfg.Now()
	return res
}

// running returns the processes by the file they run, unless the system does not answer in time (a program on a dead network filesystem):
// then the thread that asks is left behind.
func (r *run) running(ctx context.Context) (images map[files.ID][]bridge.Process, answered bool) {
	out := make(chan map[files.ID][]bridge.Process, 1)
	go func() { out <- runningImages(ctx, r.s.cfg.Roots.Proc) }()
	patience := time.NewTimer(grace)
	defer patience.Stop()
	select {
	case images = <-out:
		return images, true
	case <-patience.C:
		return nil, false
	}
}
