package prevention

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// maxHashing bounds the hashing of one file.
	maxHashing = time.Minute
	// maxTold is the size up to which a denied file is hashed for the report alone.
	maxTold = 64 << 20
	// judges and tellers are how many goroutines decide about matches and describe them; what does not fit in their queues
	// is decided at once.
	judges  = 2
	tellers = 2
	queued  = 64
)

// flight is one hashing of a file and all who wait for it. The first of them lends its descriptor.
type flight struct {
	flightKey
	riders []*pending
	// begun says that a worker reads the file.
	begun bool
}

type flightKey struct {
	files.Key
	md5, sha256 bool
}

// flights keeps a file from being hashed twice at the same time. Its zero value is ready.
type flights struct {
	// mu guards under and the riders of its flights.
	mu    sync.Mutex
	under map[flightKey]*flight
}

// board lets p wait for the flight of its file, or for a fresh one that a worker takes; false = no worker is free.
func (f *flights) board(p *pending, md5, sha256 bool, workers chan<- *flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := flightKey{p.file.Key, md5, sha256}
	if fl, ok := f.under[key]; ok {
		fl.riders = append(fl.riders, p)
		return true
	}
	fl := &flight{flightKey: key, riders: []*pending{p}}
	select {
	case workers <- fl:
	default:
		return false
	}
	if f.under == nil {
		f.under = make(map[flightKey]*flight)
	}
	f.under[key] = fl
	return true
}

// begin returns whose descriptor is read; nil = nobody waits any more, and the flight is over.
func (f *flights) begin(fl *flight) *pending {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(fl.riders) == 0 {
		delete(f.under, fl.flightKey)
		return nil
	}
	fl.begun = true
	return fl.riders[0]
}

// leave takes those who were answered out of their flights, and gives their descriptors back: there is room for so many, and a process
// may ask again and again. Whoever lends his descriptor to a worker stays. A flight that has not begun waits on without riders: the next
// question about its file takes it.
func (f *flights) leave(answered []*pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fl := range f.under {
		lent := 0
		if fl.begun {
			lent = 1
		}
		kept := fl.riders[:min(lent, len(fl.riders))]
		for _, p := range fl.riders[len(kept):] {
			if slices.Contains(answered, p) {
				p.close()
			} else {
				kept = append(kept, p)
			}
		}
		clear(fl.riders[len(kept):])
		fl.riders = kept
	}
}

// land ends a flight and returns who waited for it.
func (f *flights) land(fl *flight) []*pending {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.under, fl.flightKey)
	riders := fl.riders
	fl.riders = nil
	return riders
}

// judgement is a file a rule is about.
type judgement struct {
	p    *pending
	rule int
	sums files.Digests
}

// telling is a report that lacks what takes long to find out; with deny the process still waits for its answer.
type telling struct {
	p    *pending
	d    Denial
	deny bool
}

// hash reads the file of a flight and decides about all who wait for it.
func (l *listener) hash(ctx context.Context, fl *flight) {
	leader := l.flights.begin(fl)
	if leader == nil {
		return
	}
	sums, err := l.sums(ctx, leader, fl.md5, fl.sha256)
	for _, p := range l.flights.land(fl) {
		l.landed(p, sums, err)
	}
}

func (l *listener) landed(p *pending, sums files.Digests, err error) {
	if err != nil {
		p.answer(true)
		d := p.denial(Undecided, sums)
		d.Why = "hash: " + err.Error()
		l.report(d)
		p.close()
		return
	}
	rule, _, _ := p.rules.find(p.named, sums)
	if rule >= 0 {
		l.judge(judgement{p, rule, sums})
		return
	}
	l.counters.hashed.Add(1)
	p.answer(true)
	p.close()
}

// sums hashes the open file and remembers the result, unless the file was changed by then.
func (l *listener) sums(ctx context.Context, p *pending, md5, sha256 bool) (files.Digests, error) {
	ctx, cancel := context.WithTimeout(ctx, maxHashing)
	defer cancel()
	fd, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return files.Digests{}, fmt.Errorf("dup: %w", err)
	}
	f := os.NewFile(uintptr(fd), "")
	defer func() { _ = f.Close() }()
	before, err := look(fd)
	if err != nil {
		return files.Digests{}, err
	}
	var once files.Cache
	sums, err := once.Of(ctx, f, md5, sha256)
	if err != nil {
		return files.Digests{}, err
	}
	if after, err := look(fd); err == nil && after == before {
		sums = l.known.put(after.Key, sums)
	}
	return sums, nil
}

// judge decides about a file a rule is about, answers, and reports.
func (l *listener) judge(j judgement) {
	p, r := j.p, &j.p.rules.rules[j.rule]
	d := p.denial(Denied, j.sums)
	d.Rule = r.ID
	var own bool
	if d.Caller, own = l.caller(p); own {
		l.spare(p, d, Own, "the agent itself started it")
		return
	}
	if why := l.safe.judge(p.file.ID, r, p.path, l.marks.places.holds); why != "" {
		l.spare(p, d, Shielded, why)
		return
	}
	// An interpreter that reads the file next is asked about from here on.
	if err := l.marks.see(p.fd, p.file.made()); err != nil {
		l.fault("mark a file", err)
	}
	if l.cfg.Mode == LogOnly {
		l.spare(p, d, Logged, "")
		return
	}
	if !l.mayDeny(p, r, j.sums) {
		l.spare(p, d, Broken, l.breaker.reason(r.ID))
		return
	}
	l.safe.clear(p.file.ID, r.ID)
	p.cleared.Store(true)
	select {
	case l.telling <- telling{p, d, true}:
	default:
		l.deny(p, d)
	}
}

// caller says who asks, and whether the agent itself started it. Where the agent is process 1, orphans of strangers are its children, too.
func (l *listener) caller(p *pending) (c Caller, own bool) {
	c, err := identify(p.pid)
	if err != nil || !alive(p.pidfd) {
		return Caller{PID: p.pid}, false
	}
	return c, c.PPID == l.agent && l.agent > 1
}

// mayDeny asks the breaker. When that stops the rule the process goes on before it is written down.
func (l *listener) mayDeny(p *pending, r *Rule, sums files.Digests) bool {
	if p.open {
		return l.breaker.reason(r.ID) == ""
	}
	sum := r.digest()
	if sum == "" {
		sum = sums.SHA256
	}
	ok, tripped := l.breaker.count(r.ID, p.file.ID, sum, time.Now())
	if tripped {
		p.answer(true)
		if err := l.breaker.save(); err != nil {
			l.fault("breaker", err)
		}
	}
	return ok
}

// deny answers and reports. A process that was let go meanwhile is reported as that.
func (l *listener) deny(p *pending, d Denial) {
	if allowed, _ := p.answer(false); allowed {
		l.counters.spared.Add(1)
		d.Outcome, d.Why = Undecided, fmt.Sprintf("a rule is about the file, but that was known only after %s", l.cfg.Deadline)
	} else {
		l.counters.denials.Add(1)
	}
	l.report(d)
	p.close()
}

// spare lets the process go on and reports why.
func (l *listener) spare(p *pending, d Denial, o Outcome, why string) {
	p.answer(true)
	l.counters.spared.Add(1)
	d.Outcome, d.Why = o, why
	select {
	case l.telling <- telling{p, d, false}:
	default:
		l.report(d)
		p.close()
	}
}

// tell finds out the command line while the process still waits, answers it, and then hashes the file for the report.
func (l *listener) tell(ctx context.Context, t telling) {
	if t.d.Caller.Start != 0 {
		if line := l.line(ctx, t.p.pid); alive(t.p.pidfd) {
			t.d.Caller.Cmdline = line
		}
	}
	if t.deny {
		t.p.answer(false)
	}
	if t.d.SHA256 == "" && t.p.file.Size <= maxTold {
		if sums, err := l.sums(ctx, t.p, false, true); err == nil {
			t.d.SHA256 = sums.SHA256
		}
	}
	if t.deny {
		l.deny(t.p, t.d)
		return
	}
	l.report(t.d)
	t.p.close()
}
