package kuma

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

var (
	errPollRunning = errors.New("the source was run or closed before")
	errPollSettled = errors.New("the delivery is settled already")
)

// pollLife is the common frame of the sources: Run once, Close once, both in any order.
type pollLife struct {
	// mu guards started, closed and stop.
	mu      sync.Mutex
	started bool
	closed  bool
	stop    context.CancelFunc

	closing chan struct{} // closed by shut
	done    chan struct{} // closed when Run ended, or by shut when it never began
	ready   chan struct{} // closed when the source first stood
	once    sync.Once
}

func newPollLife() *pollLife {
	return &pollLife{closing: make(chan struct{}), done: make(chan struct{}), ready: make(chan struct{})}
}

// begin marks the start of Run and returns the context that ends with ctx or with shut.
func (l *pollLife) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.closed {
		return nil, nil, errPollRunning
	}
	l.started = true
	ctx, l.stop = context.WithCancel(ctx)
	return ctx, l.stop, nil
}

func (l *pollLife) end() { close(l.done) }

func (l *pollLife) stood() { l.once.Do(func() { close(l.ready) }) }

// shut ends Run and waits for it. It reports whether this was the first call.
func (l *pollLife) shut(ctx context.Context) (bool, error) {
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
		return first, fmt.Errorf("wait for the source to end: %w", context.Cause(ctx))
	}
}

func (l *pollLife) isClosed() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// isOver reports whether Run has ended or the source was closed.
func (l *pollLife) isOver() bool {
	select {
	case <-l.closing:
		return true
	case <-l.done:
		return true
	default:
		return false
	}
}

// pollHealth is whether a source reaches KUMA, and why not. It logs changes, not repetitions.
type pollHealth struct {
	log *slog.Logger
	// mu guards up and err.
	mu  sync.Mutex
	up  bool
	err error
}

func (h *pollHealth) connected() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}

func (h *pollHealth) last() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *pollHealth) rise(ctx context.Context) {
	h.mu.Lock()
	was := h.up
	h.up, h.err = true, nil
	h.mu.Unlock()
	if !was {
		h.log.InfoContext(ctx, "kuma source connected")
	}
}

func (h *pollHealth) fall(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	was, before := h.up, h.err
	h.up, h.err = false, err
	h.mu.Unlock()
	if was || before == nil || errors.Is(err, ErrCredentials) != errors.Is(before, ErrCredentials) {
		h.log.WarnContext(ctx, "kuma source not connected", "err", err)
	}
}

// pollBackoff doubles from first to last; each pause is drawn from the upper half.
type pollBackoff struct {
	random func() float64
	n      int
}

func (b *pollBackoff) next(first, last time.Duration) time.Duration {
	d := last
	if b.n < 20 { // beyond, the shift would overflow
		d = min(first<<b.n, last)
	}
	b.n++
	return d/2 + time.Duration(b.random()*float64(d/2))
}

func (b *pollBackoff) reset() { b.n = 0 }

// pollWait waits and reports whether ctx is still alive.
func pollWait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// pollSignal leaves one message, unless one waits already.
func pollSignal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
