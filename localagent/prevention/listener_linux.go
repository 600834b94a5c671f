package prevention

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// maxPending is how many executions may wait for a worker; one more is let go. Each holds two descriptors.
	maxPending = 256
	// maxReports is how many reports may wait for the agent.
	maxReports = 1024
	// idle is how long the loop sleeps at most: the timer that kills the process is wound up then.
	idle = 250 * time.Millisecond
)

// listener is the process that answers the kernel. It starts no program and no other process: while a Go process starts a program
// it cannot run its garbage collector, which would stop the loop in the middle of answering for that very program.
type listener struct {
	cfg Config
	// self is this process, agent the one that started it.
	self, agent int
	since       time.Time

	// exec watches file systems for executions, file watches single files for opens. Two groups, because what exec ignores must not
	// be ignored by file.
	exec, file *group
	wake       int // eventfd
	conn       int // the connection to the agent
	dead       *deadman

	// open guards closed: an answer is written before the groups are closed, or not at all.
	open   sync.RWMutex
	closed bool

	// rules is replaced by the loop alone, from next.
	rules atomic.Pointer[ruleset]
	next  atomic.Pointer[change]

	known   digests
	marks   *marks
	mounts  mountMarks
	safe    safeguard
	breaker breaker

	// The loop's own: what waits, oldest first, and scratch.
	waiting []*pending
	named   []int

	flights flights
	hashing chan *flight
	judging chan judgement
	telling chan telling
	lines   chan asking
	// apart is done when those who read command lines have descriptors of their own.
	apart    sync.WaitGroup
	reports  chan Denial
	counters counters
	// trouble is the last thing that went wrong.
	trouble atomic.Pointer[string]
	// end takes the first reason to end.
	end chan error
}

// counters are those of Status.
type counters struct {
	decided, hashed, timeouts, busy, denials, spared, dropped atomic.Uint64
}

// change is a new set of rules on its way to the loop; done is closed when it holds.
type change struct {
	rules *ruleset
	done  chan struct{}
}

// loop answers until stop is closed or something breaks. It runs on a thread of its own.
func (l *listener) loop(stop <-chan struct{}) error {
	// The loop comes before the hashing of its own workers; without the right to do that it goes on as it is.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10)
	buf := make([]byte, eventBuffer)
	polls := []unix.PollFd{
		{Fd: int32(l.exec.fd), Events: unix.POLLIN}, {Fd: int32(l.file.fd), Events: unix.POLLIN}, {Fd: int32(l.wake), Events: unix.POLLIN}, //nolint:gosec // descriptors are small
	}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		now := time.Now()
		if err := l.dead.wind(now); err != nil {
			return err
		}
		l.expire(now)
		l.takeChange()
		if _, err := unix.Poll(polls, l.patience(now)); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		for i, g := range []*group{l.exec, l.file} {
			if polls[i].Revents == 0 {
				continue
			}
			if _, err := g.read(buf, func(e event) { l.handle(g, e) }); err != nil {
				return err
			}
		}
		if polls[2].Revents != 0 {
			var drop [8]byte
			_, _ = unix.Read(l.wake, drop[:])
		}
	}
}

// patience is how long the loop may sleep, in milliseconds.
func (l *listener) patience(now time.Time) int {
	wait := idle
	if len(l.waiting) > 0 {
		wait = min(wait, l.waiting[0].due.Sub(now))
	}
	return max(int(wait/time.Millisecond), 0) + 1
}

// expire answers what has waited too long: it goes on, unless it is known that it must not.
func (l *listener) expire(now time.Time) {
	n := 0
	for _, p := range l.waiting {
		if !p.answered() && p.due.After(now) {
			break
		}
		n++
		if p.cleared.Load() {
			p.answer(false)
		} else if _, first := p.answer(true); first && p.g.asks {
			l.counters.timeouts.Add(1)
			d := p.denial(Undecided, files.Digests{})
			d.Why = fmt.Sprintf("the file could not be judged within %s", l.cfg.Deadline)
			l.report(d)
		}
	}
	if n > 0 {
		l.flights.leave(l.waiting[:n])
	}
	clear(l.waiting[:n])
	l.waiting = l.waiting[n:]
}

// wait puts p among those that wait and reports whether there was room.
func (l *listener) wait(p *pending) bool {
	if len(l.waiting) >= maxPending {
		kept := l.waiting[:0]
		for _, o := range l.waiting {
			if !o.answered() {
				kept = append(kept, o)
			}
		}
		clear(l.waiting[len(kept):])
		l.waiting = kept
	}
	if len(l.waiting) >= maxPending {
		return false
	}
	l.waiting = append(l.waiting, p)
	return true
}

// takeChange makes new rules hold. The loop does it between two answers, so that no file is ignored by the rules of before.
func (l *listener) takeChange() {
	c := l.next.Swap(nil)
	if c == nil {
		return
	}
	l.rules.Store(c.rules)
	if err := l.exec.heedAll(); err != nil {
		l.fault("flush", err)
	}
	close(c.done)
}

// setRules hands rules to the loop and waits until they hold.
func (l *listener) setRules(ctx context.Context, rules *ruleset) error {
	c := &change{rules, make(chan struct{})}
	l.next.Store(c)
	l.nudge()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// nudge wakes the loop.
func (l *listener) nudge() {
	var one [8]byte
	one[0], one[7] = 1, 1 // not zero in either byte order
	_, _ = unix.Write(l.wake, one[:])
}

// handle answers one question from memory, or hands it to a worker. It must not block, log, or open files.
func (l *listener) handle(g *group, e event) {
	if e.fd < 0 {
		l.counters.dropped.Add(1)
		l.finish(e)
		return
	}
	if e.pid == 1 || e.pid == l.agent || e.pid == l.self {
		l.respond(g, e.fd, true)
		l.finish(e)
		return
	}
	file, err := look(e.fd)
	if err != nil || !file.regular {
		l.respond(g, e.fd, true)
		l.finish(e)
		return
	}
	rules := l.rules.Load()
	l.named = l.named[:0]
	name := ""
	if rules.paths() {
		name = nameOf(e.fd)
		l.named = rules.named(l.named, name)
	}
	if g == l.file {
		l.named = l.marks.of(l.named, file.made(), rules)
	}
	sums := l.known.get(file.Key)
	rule, md5, sha256 := rules.find(l.named, sums)
	if rule < 0 && !md5 && !sha256 {
		l.counters.decided.Add(1)
		l.respond(g, e.fd, true)
		if g == l.exec && file.rooted {
			l.ignore(e.fd, file)
		}
		l.finish(e)
		return
	}
	if name == "" {
		name = nameOf(e.fd)
	}
	p := &pending{
		l: l, g: g, fd: e.fd, pidfd: e.pidfd, pid: e.pid, open: e.mask&(unix.FAN_OPEN_EXEC|unix.FAN_OPEN_EXEC_PERM) == 0, file: file, path: name,
		rules: rules, named: append([]int(nil), l.named...), due: time.Now().Add(l.cfg.Deadline),
	}
	if !g.asks {
		p.due = p.due.Add(maxHashing) // nobody waits
	}
	if !l.wait(p) || !l.hand(p, rule, sums, md5, sha256) {
		l.overrun(p, rule, sums)
	}
}

// hand gives p to a worker and reports whether one takes it.
func (l *listener) hand(p *pending, rule int, sums files.Digests, md5, sha256 bool) bool {
	if rule < 0 {
		return l.flights.board(p, md5, sha256, l.hashing)
	}
	select {
	case l.judging <- judgement{p, rule, sums}:
		return true
	default:
		return false
	}
}

// overrun answers at once because everybody is busy: what was denied a moment ago is denied again, all else goes on.
func (l *listener) overrun(p *pending, rule int, sums files.Digests) {
	o, why := Undecided, "too many executions waited to be judged"
	caller, own := Caller{PID: p.pid}, false
	deny := rule >= 0 && l.cfg.Mode == Block && l.safe.wasCleared(p.file.ID, p.rules.rules[rule].ID) && l.breaker.reason(p.rules.rules[rule].ID) == ""
	if deny {
		caller, own = l.caller(p)
	}
	if deny && !own {
		o, why = Denied, ""
		l.counters.denials.Add(1)
	} else {
		l.counters.busy.Add(1)
	}
	p.answer(o != Denied)
	d := p.denial(o, sums)
	d.Caller = caller
	if d.Why = why; rule >= 0 {
		d.Rule = p.rules.rules[rule].ID
	}
	l.report(d)
	p.close()
}

// ignore tells the kernel to ask no more about a file no rule is about. The file is looked at again after that: had it been
// written to in between, the kernel would have had nothing to take back.
func (l *listener) ignore(fd int, before seen) {
	if err := l.exec.ignore(fd); err != nil {
		l.fault("ignore", err)
		return
	}
	if after, err := look(fd); err != nil || after != before {
		if err := l.exec.heed(fd); err != nil {
			l.fault("heed", err)
		}
	}
}

func (l *listener) finish(e event) {
	if e.fd >= 0 {
		_ = unix.Close(e.fd)
	}
	if e.pidfd >= 0 {
		_ = unix.Close(e.pidfd)
	}
}

// report hands a denial to the agent; without room it is counted.
func (l *listener) report(d Denial) {
	select {
	case l.reports <- d:
	default:
		l.counters.dropped.Add(1)
	}
}

// fault remembers what went wrong without ending the listener.
func (l *listener) fault(doing string, err error) {
	text := cut(fmt.Sprintf("%s: %v", doing, err), maxErrText)
	l.trouble.Store(&text)
}
