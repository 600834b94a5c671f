package prevention

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readyPatience is how long a listener may take until it answers: it hashes the protected programs first.
	readyPatience = time.Minute
	// leavePatience is how long it may take to end.
	leavePatience = 5 * time.Second
	askPatience   = time.Second
	// A listener that ends by itself is started again after firstPause, then after twice that, up to lastPause; one that ran for
	// lastPause begins anew.
	firstPause = time.Second
	lastPause  = time.Minute
)

// link is the connection to a listener that runs.
type link struct {
	conn *os.File
	// mu guards the rest.
	mu      sync.Mutex
	seq     uint64
	waiting map[uint64]chan say
	gone    bool
}

var errGone = errors.New("the listener ended")

// ask sends a message and waits for its answer.
func (l *link) ask(ctx context.Context, a ask) (say, error) {
	answer := make(chan say, 1)
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return say{}, errGone
	}
	l.seq++
	a.Seq = l.seq
	_ = l.conn.SetWriteDeadline(time.Now().Add(askPatience)) // a stopped listener takes nothing
	l.waiting[a.Seq] = answer
	err := send(l.conn, a)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, a.Seq)
	}()
	if err != nil {
		return say{}, fmt.Errorf("ask the listener: %w", err)
	}
	select {
	case s, ok := <-answer:
		switch {
		case !ok:
			return say{}, errGone
		case s.Err != "":
			return say{}, errors.New(s.Err)
		case s.Status == nil:
			return say{}, errors.New("the listener answered without a status")
		}
		return s, nil
	case <-ctx.Done():
		return say{}, fmt.Errorf("ask the listener: %w", context.Cause(ctx))
	}
}

// run keeps a listener running until ctx ends.
func (m *machine) run(ctx context.Context) error {
	if _, err := m.probe(ctx); err != nil {
		return err
	}
	telling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var teller sync.WaitGroup
	teller.Go(func() {
		each(telling, m.reports, func(d Denial) {
			if m.cfg.Denied != nil {
				m.cfg.Denied(d)
			}
		})
	})
	defer func() {
		cancel()
		teller.Wait()
		for len(m.reports) > 0 {
			if d := <-m.reports; m.cfg.Denied != nil {
				m.cfg.Denied(d)
			}
		}
	}()
	pause := firstPause
	for ctx.Err() == nil {
		if m.cfg.disabled() {
			m.say("the emergency switch is on")
			sleep(ctx, idle)
			continue
		}
		began := time.Now()
		err := m.listenOnce(ctx)
		if ctx.Err() != nil || m.cfg.disabled() {
			continue
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		m.cfg.Logger.ErrorContext(ctx, "the listener of the execution guard ended, nothing is denied until it is back", "err", err)
		m.mu.Lock()
		m.restarts++
		m.mu.Unlock()
		m.say(err.Error())
		sleep(ctx, pause)
		pause = min(2*pause, lastPause)
	}
	return nil
}

func (m *machine) say(trouble string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble = trouble
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// listenOnce is the life of one listener process. It answers why the process ended.
func (m *machine) listenOnce(ctx context.Context) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "listener")
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return errors.Join(err, unix.Close(pair[0]), theirs.Close())
	}
	conn := os.NewFile(uintptr(pair[0]), "listener")
	cmd := exec.Command(m.cfg.Listener[0], m.cfg.Listener[1:]...) //nolint:gosec,noctx // the owner's command; its end is the end of conn
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr // the last words of a program that breaks
	// A session of its own: what stops or ends the agent's group at a terminal does not stop the answers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("start the listener: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	said := m.converse(ctx, conn)
	_ = conn.Close()
	var status error
	select {
	case status = <-exited:
	case <-time.After(leavePatience):
		_ = cmd.Process.Kill()
		status = <-exited
	}
	switch {
	case said != nil:
		return said
	case status != nil:
		return fmt.Errorf("%w: %w; SIGKILL is what the kernel's timer sends when it does not answer", errGone, status)
	default:
		return errGone
	}
}

// converse talks with a listener until it ends or ctx does. It answers what the listener said about its end, or nil.
func (m *machine) converse(ctx context.Context, conn *os.File) error {
	_ = conn.SetReadDeadline(time.Now().Add(readyPatience))
	unblock := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer unblock()
	_ = conn.SetWriteDeadline(time.Now().Add(askPatience))
	if err := send(conn, beginningOf(m.cfg)); err != nil {
		return fmt.Errorf("tell the listener how to guard: %w", err)
	}
	buf := make([]byte, maxPacket)
	var first say
	if err := receive(conn, buf, &first); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("the listener was not ready within %s", readyPatience)
		}
		return nil // it ended without a word: its exit status says why
	}
	if first.Status == nil {
		return fmt.Errorf("the listener did not begin: %s", first.Err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("connection of the listener: %w", err)
	}
	if ctx.Err() != nil {
		return nil
	}
	l := &link{conn: conn, waiting: make(map[uint64]chan say)}
	var opening sync.WaitGroup
	var refused error
	opening.Go(func() { refused = m.open(ctx, l) })
	err := m.hear(l, buf)
	m.mu.Lock()
	m.link = nil
	m.mu.Unlock()
	l.mu.Lock()
	l.gone = true
	for _, w := range l.waiting {
		close(w)
	}
	clear(l.waiting)
	l.mu.Unlock()
	opening.Wait()
	m.mu.Lock()
	m.link = nil
	m.mu.Unlock()
	return errors.Join(refused, err)
}

// open makes the listener read the rules once more before it counts as running: they may have changed since it read them.
func (m *machine) open(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(ctx, applyDeadline)
	defer cancel()
	s, err := l.ask(ctx, ask{Do: doReload})
	if err != nil {
		_ = l.conn.SetReadDeadline(time.Now()) // ends the conversation
		return fmt.Errorf("the listener did not take the rules: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last, m.trouble, m.link = *s.Status, "", l
	m.cfg.Logger.InfoContext(ctx, "the execution guard listens", "mode", string(m.cfg.mode()), "state", m.cfg.State)
	return nil
}

// hear takes what the listener says until it is gone.
func (m *machine) hear(l *link, buf []byte) error {
	for {
		var s say
		if err := receive(l.conn, buf, &s); err != nil {
			return nil //nolint:nilerr // the end; the exit status says why
		}
		switch {
		case s.Denial != nil:
			select {
			case m.reports <- s.Denial.unpack():
			default:
				m.mu.Lock()
				m.lost++
				m.mu.Unlock()
			}
		case s.Seq == 0:
			return fmt.Errorf("the listener: %s", s.Err)
		default:
			l.mu.Lock()
			if w, ok := l.waiting[s.Seq]; ok {
				w <- s
				delete(l.waiting, s.Seq)
			}
			l.mu.Unlock()
		}
	}
}
