package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

var errSyslogRunning = errors.New("syslog source: Run was called before, or the source is closed")

// syslogLife is the frame of the source: Run once, Close once, both in any order.
type syslogLife struct {
	mu      sync.Mutex // guards started, closed and stop
	started bool
	closed  bool
	stop    context.CancelFunc

	closing chan struct{} // closed by shut
	done    chan struct{} // closed when Run ended, or by shut when it never began
	ready   chan struct{} // closed when the port was first open
	once    sync.Once
}

func newSyslogLife() *syslogLife {
	return &syslogLife{closing: make(chan struct{}), done: make(chan struct{}), ready: make(chan struct{})}
}

// begin marks the start of Run and returns the context that ends with ctx or with shut.
func (l *syslogLife) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.closed {
		return nil, nil, errSyslogRunning
	}
	l.started = true
	ctx, l.stop = context.WithCancel(ctx)
	return ctx, l.stop, nil
}

func (l *syslogLife) end() { close(l.done) }

func (l *syslogLife) stood() { l.once.Do(func() { close(l.ready) }) }

// shut ends Run and waits for it. It reports whether this was the first call that saw the end.
func (l *syslogLife) shut(ctx context.Context) (bool, error) {
	l.mu.Lock()
	first := !l.closed
	if first {
		l.closed = true
		close(l.closing)
		if l.started {
			l.stop()
		} else {
			close(l.done)
		}
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		return first, nil
	case <-ctx.Done():
		return first, fmt.Errorf("wait for the syslog source to end: %w", context.Cause(ctx))
	}
}

// syslogHealth is whether the port is open, and why not. It logs changes, not repetitions.
type syslogHealth struct {
	log *slog.Logger

	mu   sync.Mutex // guards open and err
	open bool
	err  error
}

func (h *syslogHealth) up() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

func (h *syslogHealth) last() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *syslogHealth) rise(ctx context.Context, addr string) {
	h.mu.Lock()
	h.open, h.err = true, nil
	h.mu.Unlock()
	h.log.InfoContext(ctx, "syslog port is open", "address", addr)
}

// fall is called with nil when the port is closed because the source ends.
func (h *syslogHealth) fall(ctx context.Context, err error) {
	h.mu.Lock()
	told := h.err != nil && err != nil && h.err.Error() == err.Error()
	h.open, h.err = false, err
	h.mu.Unlock()
	if err != nil && !told {
		h.log.WarnContext(ctx, "syslog port is not open, trying again", "err", err)
	}
}
