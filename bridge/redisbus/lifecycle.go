package redisbus

import (
	"context"
	"fmt"
	"sync"
)

// lifecycle is the common frame of the sources: Run once, Close once, both in any order.
type lifecycle struct {
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

func newLifecycle() *lifecycle {
	return &lifecycle{closing: make(chan struct{}), done: make(chan struct{}), ready: make(chan struct{})}
}

// begin marks the start of Run and returns the context that ends with ctx or with shut.
func (l *lifecycle) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.closed {
		return nil, nil, errRunning
	}
	l.started = true
	ctx, l.stop = context.WithCancel(ctx)
	return ctx, l.stop, nil
}

func (l *lifecycle) end() { close(l.done) }

func (l *lifecycle) stood() { l.once.Do(func() { close(l.ready) }) }

// shut ends Run and waits for it. It reports whether this was the first call.
func (l *lifecycle) shut(ctx context.Context) (bool, error) {
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

func (l *lifecycle) isClosed() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// isOver reports whether Run has ended or the source was closed.
func (l *lifecycle) isOver() bool {
	select {
	case <-l.closing:
		return true
	case <-l.done:
		return true
	default:
		return false
	}
}
