package ioc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// progressEvery is how often a scan reports how far it is.
	progressEvery = 500 * time.Millisecond
	// grace is how long the collectors may take to end when the scan has to: a thread that hangs in the kernel ends never.
	grace = 5 * time.Second
)

// errTime ends a scan that takes too long.
var errTime = errors.New("the time for the scan is over")

// Scan looks for everything in q at once and blocks until it is done, until a limit of cfg is reached, which Result.Stopped tells, or
// until ctx ends. It changes nothing on the machine. What no document asks for is not collected; files come last and
// are walked once, with the terms first that cost least. Progress is called about twice a second, and at the end, from the
// goroutine that called Scan; nil = nobody. Errors are *verdict.Error: a cfg that is wrong, or the end of ctx, with
// the result as far as it got; or a collector that hangs, which is left behind with all it saw, so that nothing matches.
func Scan(ctx context.Context, q *Query, cfg Config, progress func(Progress)) (Result, error) {
	cfg, err := cfg.check()
	if err != nil {
		return Result{}, verdict.Refuse(bridge.ReasonInvalid, "settings of the IOC scan: %w", err)
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	s := &scan{q: q, cfg: cfg, judge: newJudge(q, cfg.MaxRecords), skipped: map[string]*Skipped{}, began: time.Now()}
	s.result = Result{
		Began: cfg.Now().UTC(), Matches: []Match{}, Files: []Target{}, Undecided: []Text{}, Report: q.Report(),
		Collected: []Collected{}, Skipped: []Skipped{},
	}
	limited, stop := context.WithTimeoutCause(ctx, cfg.MaxTime, errTime)
	defer stop()
	begun := s.result
	done := make(chan struct{})
	go func() { // who waits for it does so for a time only
		defer close(done)
		s.collect(limited)
	}()
	ended := limited.Done()
	var patience <-chan time.Time
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-tick.C:
			progress(s.progress())
		case <-ended:
			ended = nil
			timer := time.NewTimer(grace)
			defer timer.Stop()
			patience = timer.C
		case <-patience:
			k, _ := s.kind.Load().(Kind)
			begun.Counts, begun.Ended, begun.Stopped = s.counts(), cfg.Now().UTC(), fmt.Sprintf("the collector of %s hangs", k)
			return begun, verdict.Untouched("%s: %w", begun.Stopped, context.Cause(limited))
		}
	}
	s.finish()
	if cause := context.Cause(limited); cause != nil && s.result.Stopped == "" && !s.whole {
		s.result.Stopped = cause.Error()
	}
	s.result.Ended = cfg.Now().UTC()
	progress(s.progress())
	if cause := context.Cause(ctx); cause != nil && !s.whole {
		return s.result, verdict.Untouched("the IOC scan was stopped: %w", cause)
	}
	return s.result, nil
}

// scan is one run of Scan.
type scan struct {
	q     *Query
	cfg   Config
	judge *judge
	began time.Time

	// kind is the Kind at work.
	kind                                   atomic.Value
	objects, files, folders, hashed, bytes atomic.Int64

	// mu guards skipped.
	mu      sync.Mutex
	skipped map[string]*Skipped

	// What follows belongs to the goroutine of collect until that has ended. whole says that everything was looked at, walked is how many
	// roots were.
	result Result
	whole  bool
	walked int
}

// collect goes through the kinds.
func (s *scan) collect(ctx context.Context) {
	seen := map[Kind]bool{}
	for _, k := range s.q.Kinds() {
		if context.Cause(ctx) != nil {
			return
		}
		s.kind.Store(k)
		s.judge.begin(k, seen)
		before := s.objects.Load()
		var err error
		if k == KindFile {
			err = s.collectFiles(ctx)
		} else {
			err = s.collectKind(ctx, k)
		}
		c := Collected{Kind: k, Objects: s.objects.Load() - before}
		if err != nil {
			c.Error = Text(err.Error())
		}
		s.result.Collected = append(s.result.Collected, c)
		seen[k] = true
	}
	s.whole = context.Cause(ctx) == nil
}

// collectKind looks at all objects of a kind other than files.
func (s *scan) collectKind(ctx context.Context, k Kind) error {
	c := s.judge.clerk(k)
	return collectorOf(k)(ctx, host{now: s.cfg.Now}, newObject(k), func(o *object) {
		s.objects.Add(1)
		c.look(c.ix.early, o)
		var r *Record
		c.settle(func() *Record {
			if r == nil {
				r = newRecord(o)
			}
			return r
		})
		o.clear()
	})
}

// newRecord writes down what is known of the object.
func newRecord(o *object) *Record {
	r := &Record{Kind: o.kind, Fields: map[string][]Text{}}
	for at, f := range fields(o.kind) {
		for _, v := range o.values[at] {
			r.Fields[f.name] = append(r.Fields[f.name], Text(v.shown(f.shape)))
		}
	}
	return r
}

// skip counts something that was not looked at; path may be empty.
func (s *scan) skip(why string, n int64, path string) {
	const listed = 16
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.skipped[why]
	if k == nil {
		k = &Skipped{Why: why, Paths: []Text{}}
		s.skipped[why] = k
	}
	k.Count += n
	if path != "" && len(k.Paths) < listed {
		k.Paths = append(k.Paths, Text(path))
	}
}

func (s *scan) counts() Counts {
	return Counts{Files: s.files.Load(), Folders: s.folders.Load(), Hashed: s.hashed.Load(), Bytes: s.bytes.Load()}
}

func (s *scan) progress() Progress {
	k, _ := s.kind.Load().(Kind)
	return Progress{Kind: k, Objects: s.objects.Load(), Counts: s.counts(), Elapsed: time.Since(s.began)}
}

// finish turns what was seen into matches.
func (s *scan) finish() {
	r := &s.result
	r.Counts = s.counts()
	targets := newTargets()
	for i := range s.q.documents {
		d := &s.q.documents[i]
		solve := newSolver(d, &s.judge.cases[i])
		parts, decided := solve.parts(len(d.terms))
		if !decided || s.judge.cases[i].lost {
			r.Undecided = append(r.Undecided, Text(d.id))
		}
		if len(parts) > 0 {
			r.Matches = append(r.Matches, s.match(d, parts, targets))
		}
	}
	r.Files = append(r.Files, targets.list...)
	for _, k := range s.skipped {
		r.Skipped = append(r.Skipped, *k)
	}
	sortSkipped(r.Skipped)
}

// match writes down one document that matches.
func (s *scan) match(d *document, parts map[Kind][]*variant, targets *targets) Match {
	m := Match{ID: Text(d.id), Name: Text(d.name), Entry: Text(d.entry)}
	total := newTermset(len(d.terms))
	objects := make([]int64, len(d.terms))
	for _, variants := range parts {
		for _, v := range variants {
			total.add(v.terms)
			v.terms.each(func(i int) { objects[i] += v.count })
		}
	}
	place := make([]int, len(d.terms))
	total.each(func(i int) {
		place[i] = len(m.Terms)
		t := d.terms[i]
		m.Terms = append(m.Terms, Hit{Text(t.id), Text(t.search), Text(t.condition), Text(t.content), objects[i]})
	})
	for _, k := range kinds() {
		for _, v := range parts[k] {
			listed := v.records[:min(len(v.records), s.cfg.MaxRecords-len(m.Records))]
			m.More += v.count - int64(len(listed))
			for _, r := range listed {
				one := Record{Kind: r.Kind, Fields: r.Fields}
				v.terms.each(func(i int) { one.Terms = append(one.Terms, place[i]) })
				m.Records = append(m.Records, one)
			}
			for _, r := range v.records {
				targets.add(r.target, m.ID)
			}
			if k == KindFile {
				s.result.MoreFiles += v.count - int64(len(v.records))
			}
		}
	}
	return m
}

// errCollector wraps what kept a collector from seeing everything.
func errCollector(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
