package prevention

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// shieldAge is how long the list of protected files is believed.
	shieldAge = time.Minute
	// endPatience is how long the listener waits for workers that read files; the end of the process ends them.
	endPatience = 2 * time.Second
	// beginPatience is how long it waits for the agent's words about how to guard.
	beginPatience = 10 * time.Second
	// maxErrText bounds an error as it is told.
	maxErrText = 4096
)

// errDisabled ends a listener that finds the emergency switch on.
var errDisabled = errors.New("the emergency switch is on")

// Listen is the whole life of the listener process: it watches the file systems, answers the kernel, and ends when ctx does, when the
// agent closes its end of conn (or dies), or when the emergency switch is on. With its end everything may be executed. How to guard is
// told by the agent; of cfg only Protected, Mounts, Logger and Now count. conn is the descriptor the agent handed over (3);
// it is closed. The error has
// been told to the agent already.
//
// The process must do nothing else: above all it must not start programs, because to start one would wait for its own answer.
func Listen(ctx context.Context, cfg Config, conn *os.File) error {
	fd, err := unix.FcntlInt(conn.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return fmt.Errorf("connection of the listener: %w", err)
	}
	_ = conn.Close()
	link := os.NewFile(uintptr(fd), "agent")
	defer func() { _ = link.Close() }()
	var told beginning
	_ = link.SetReadDeadline(time.Now().Add(beginPatience))
	if err = receive(link, make([]byte, maxPacket), &told); err == nil {
		cfg, err = told.adopt(cfg).checked()
	}
	_ = link.SetReadDeadline(time.Time{})
	if err == nil {
		err = listen(ctx, cfg, link, fd)
	}
	if err != nil {
		_ = send(link, say{Err: cut(err.Error(), maxErrText)})
	}
	return err
}

func listen(ctx context.Context, cfg Config, conn *os.File, fd int) error {
	rules, err := loadRules(cfg.State)
	if err != nil {
		return err
	}
	l := &listener{
		cfg: cfg, conn: fd, self: os.Getpid(), agent: os.Getppid(), breaker: breaker{limit: cfg.Breaker, state: cfg.State},
		hashing: make(chan *flight, maxPending), judging: make(chan judgement, queued), telling: make(chan telling, queued), lines: make(chan asking, tellers),
		reports: make(chan Denial, maxReports), end: make(chan error, 1),
	}
	if err := l.breaker.load(); err != nil {
		return err
	}
	if err := l.safe.refresh(ctx, cfg.Protected); err != nil {
		return err
	}
	if err := l.openGroups(); err != nil {
		return err
	}
	l.rules.Store(newRuleset(rules))
	// A processor for each worker that hashes, and some for the others, so that the loop never waits for one.
	runtime.GOMAXPROCS(runtime.NumCPU() + cfg.Workers + judges + tellers)
	if l.dead, err = newDeadman(cfg.Stall); err != nil {
		l.closeGroups()
		return err
	}
	return l.serve(ctx, conn)
}

func (l *listener) openGroups() (err error) {
	if l.exec, err = newGroup(l.cfg.Mode); err != nil {
		return err
	}
	if l.file, err = newGroup(l.cfg.Mode); err != nil {
		l.exec.close()
		return err
	}
	if l.marks, err = newMarks(l.file); err == nil {
		l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if err != nil {
		l.closeGroups()
	}
	return err
}

// closeGroups lets everything go on that waits, and takes all marks away.
func (l *listener) closeGroups() {
	l.open.Lock()
	defer l.open.Unlock()
	if !l.closed {
		l.closed = true
		l.exec.close()
		l.file.close()
	}
}

// serve runs the parts of the listener. The loop is first and last: marks without it would stop the machine.
func (l *listener) serve(ctx context.Context, conn *os.File) error {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	var loop, others sync.WaitGroup
	loop.Go(func() {
		runtime.LockOSThread()
		l.over(l.loop(stop))
	})
	l.startWorkers(work, &others)
	l.apart.Wait() // before there are files they would keep open
	_, err := l.mounts.scan(l.exec, l.cfg.Mounts)
	if watched, skipped := l.mounts.lists(); err == nil && len(watched) == 0 {
		err = fmt.Errorf("no file system can be watched: %s", verdict.List(skipped))
	}
	if err == nil {
		for _, err := range l.marks.sync(l.rules.Load()) {
			l.fault("mark", err)
		}
		l.since = l.cfg.Now()
		err = sendStatus(conn, say{Status: l.status()})
	}
	if err != nil {
		l.over(err)
	} else {
		l.startWatchers(work, stop, conn, &others)
	}
	var why error
	select {
	case why = <-l.end:
	case <-ctx.Done():
	}
	close(stop)
	cancel()
	l.nudge()
	loop.Wait() // the timer kills the process when this does not end
	l.closeGroups()
	l.dead.stop()
	_ = conn.SetReadDeadline(time.Now())
	ended := make(chan struct{})
	go func() { others.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(endPatience):
	}
	return why
}

// over ends the listener for a reason; the first counts.
func (l *listener) over(err error) {
	select {
	case l.end <- err:
	default:
	}
}

func (l *listener) startWorkers(ctx context.Context, wg *sync.WaitGroup) {
	for range l.cfg.Workers {
		wg.Go(func() { each(ctx, l.hashing, func(f *flight) { l.hash(ctx, f) }) })
	}
	for range judges {
		wg.Go(func() { each(ctx, l.judging, l.judge) })
	}
	for range tellers {
		wg.Go(func() { each(ctx, l.telling, func(t telling) { l.tell(ctx, t) }) })
		l.apart.Add(1)
		wg.Go(func() { l.readLines(ctx) })
	}
}

// each calls do for what comes until ctx ends.
func each[T any](ctx context.Context, from <-chan T, do func(T)) {
	for {
		select {
		case v := <-from:
			do(v)
		case <-ctx.Done():
			return
		}
	}
}

func (l *listener) startWatchers(ctx context.Context, stop <-chan struct{}, conn *os.File, wg *sync.WaitGroup) {
	rescan := func() {
		if _, err := l.mounts.scan(l.exec, l.cfg.Mounts); err != nil {
			l.fault("mounts", err)
		}
	}
	wg.Go(func() {
		if err := l.mounts.follow(stop, rescan); err != nil {
			l.over(err)
		}
	})
	wg.Go(func() { l.marks.follow(stop, l.fault) })
	wg.Go(func() { l.every(ctx, shieldAge, func() { l.refresh(ctx) }) })
	wg.Go(func() {
		l.every(ctx, idle, func() {
			if l.cfg.disabled() {
				l.over(errDisabled)
			}
		})
	})
	var writing sync.Mutex
	wg.Go(func() {
		each(ctx, l.reports, func(d Denial) {
			writing.Lock()
			defer writing.Unlock()
			if err := send(conn, say{Denial: packDenial(d)}); err != nil {
				l.counters.dropped.Add(1)
			}
		})
	})
	wg.Go(func() { l.over(l.obey(ctx, conn, &writing)) })
}

func (l *listener) refresh(ctx context.Context) {
	if err := l.safe.refresh(ctx, l.cfg.Protected); err != nil {
		l.fault("protected files", err)
	}
}

// every calls do again and again until ctx ends.
func (l *listener) every(ctx context.Context, pause time.Duration, do func()) {
	t := time.NewTicker(pause)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			do()
		case <-ctx.Done():
			return
		}
	}
}

// obey does what the agent asks until it is gone, which is no error.
func (l *listener) obey(ctx context.Context, conn *os.File, writing *sync.Mutex) error {
	buf := make([]byte, maxPacket)
	for {
		var a ask
		if err := receive(conn, buf, &a); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || ctx.Err() != nil {
				return nil //nolint:nilerr // its end is the end
			}
			return fmt.Errorf("the agent: %w", err)
		}
		answer := say{Seq: a.Seq}
		if err := l.do(ctx, a); err != nil {
			answer.Err = cut(err.Error(), maxErrText)
		}
		answer.Status = l.status()
		writing.Lock()
		err := sendStatus(conn, answer)
		writing.Unlock()
		if err != nil {
			return fmt.Errorf("answer the agent: %w", err)
		}
	}
}

func (l *listener) do(ctx context.Context, a ask) error {
	switch a.Do {
	case doStatus:
		return nil
	case doResume:
		l.breaker.resume()
		return l.breaker.save()
	case doReload:
		rules, err := loadRules(l.cfg.State)
		if err != nil {
			return err
		}
		set := newRuleset(rules)
		if err := l.setRules(ctx, set); err != nil {
			return err
		}
		failed := l.marks.sync(set)
		for _, err := range failed {
			l.fault("mark", err)
		}
		if l.breaker.keep(set) {
			if err := l.breaker.save(); err != nil {
				l.fault("breaker", err)
			}
		}
		return l.missing(set, a.Rule, failed)
	default:
		return fmt.Errorf("the listener does not know %q", a.Do)
	}
}

// missing says what keeps a rule from being in effect. Others have had their answer.
func (l *listener) missing(set *ruleset, rule string, failed map[string]error) error {
	i, ok := set.id[rule]
	if !ok {
		return nil
	}
	if why := l.breaker.reason(rule); why != "" {
		return fmt.Errorf("%s: remove the rule, or resume", why)
	}
	if name := set.rules[i].Path; name != "" {
		return errors.Join(failed[name], failed[path.Dir(name)])
	}
	return nil
}

// status is what the agent cannot know by itself.
func (l *listener) status() *Status {
	c := &l.counters
	s := &Status{
		PID: l.self, Since: l.since, Marks: l.marks.len(), Known: l.known.len(), Breaker: l.breaker.text(),
		Decided: c.decided.Load(), Hashed: c.hashed.Load(), Timeouts: c.timeouts.Load(), Busy: c.busy.Load(),
		Denials: c.denials.Load(), Spared: c.spared.Load(), Dropped: c.dropped.Load(),
	}
	s.Filesystems, s.Skipped = l.mounts.lists()
	if t := l.trouble.Load(); t != nil {
		s.LastError = *t
	}
	return s
}
