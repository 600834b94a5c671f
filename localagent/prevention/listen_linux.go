package prevention

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// shieldAge is how long the list of protected files is believed.
	shieldAge = time.Minute
	// endPatience is how long the listener waits for workers that read files; the end of the process ends them.
	endPatience = 2 * time.Second
)

// errDisabled ends a listener that finds the emergency switch on.
var errDisabled = errors.New("the emergency switch is on")

// Listen is the whole life of the listener process: it watches the file systems, answers the kernel, and ends when ctx does, when the
// agent closes its end of conn (or dies), or when the emergency switch is on. With its end everything may be executed. cfg is the agent's;
// conn is the descriptor the agent handed over (3). The error has been told to the agent already.
//
// The process must do nothing else: above all it must not start programs, because to start one would wait for its own answer.
func Listen(ctx context.Context, cfg Config, conn *os.File) error {
	cfg, err := cfg.checked()
	if err != nil {
		return err
	}
	fd, err := unix.FcntlInt(conn.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return fmt.Errorf("connection of the listener: %w", err)
	}
	link := os.NewFile(uintptr(fd), "agent")
	defer func() { _ = link.Close() }()
	if err = listen(ctx, cfg, link); err != nil {
		_ = send(link, say{Err: err.Error()})
	}
	return err
}

func listen(ctx context.Context, cfg Config, conn *os.File) error {
	rules, err := loadRules(cfg.State)
	if err != nil {
		return err
	}
	l := &listener{
		cfg: cfg, self: os.Getpid(), agent: os.Getppid(), breaker: breaker{limit: cfg.Breaker},
		hashing: make(chan *flight, maxPending), judging: make(chan judgement, queued), telling: make(chan telling, queued),
		reports: make(chan Denial, maxReports), end: make(chan error, 1),
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
	_, err := l.mounts.scan(l.exec, l.cfg.Mounts)
	if watched, skipped := l.mounts.lists(); err == nil && len(watched) == 0 {
		err = fmt.Errorf("no file system can be watched: %v", skipped)
	}
	if err == nil {
		for _, err := range l.marks.sync(l.rules.Load()) {
			l.fault("mark", err)
		}
		l.since = l.cfg.Now()
		err = send(conn, say{Status: l.status()})
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
			if disabled(l.cfg.Disable) {
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
			answer.Err = err.Error()
		}
		answer.Status = l.status()
		writing.Lock()
		err := send(conn, answer)
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
		l.breaker.set("")
		return nil
	case doReload:
		if a.Broken != "" {
			l.breaker.set(a.Broken)
		}
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
		// The rule that came last is the one somebody waits for; others have had their answer.
		if len(rules) > 0 {
			return failed[rules[len(rules)-1].Path]
		}
		return nil
	default:
		return fmt.Errorf("the listener does not know %q", a.Do)
	}
}

// status is what the agent cannot know by itself.
func (l *listener) status() *Status {
	c := &l.counters
	s := &Status{
		PID: l.self, Since: l.since, Marks: l.marks.len(), Known: l.known.len(), Breaker: l.breaker.reason(),
		Decided: c.decided.Load(), Hashed: c.hashed.Load(), Timeouts: c.timeouts.Load(), Busy: c.busy.Load(),
		Denials: c.denials.Load(), Spared: c.spared.Load(), Dropped: c.dropped.Load(),
	}
	s.Filesystems, s.Skipped = l.mounts.lists()
	if t := l.trouble.Load(); t != nil {
		s.LastError = *t
	}
	return s
}
