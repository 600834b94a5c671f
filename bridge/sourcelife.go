package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrSourceRunning is returned by SourceLife.Begin the second time, or after the end.
var ErrSourceRunning = errors.New("the source was run or closed before")

// SourceLife is the frame of a source that has a loop of its own: its Run once, its Close once, both in any order. Its methods
// may be called by many goroutines.
type SourceLife struct {
	// mu guards started, closed and stop.
	mu      sync.Mutex
	started bool
	closed  bool
	stop    context.CancelFunc

	closing chan struct{} // closed by Shut
	done    chan struct{} // closed by End, or by Shut when Begin was never called
	ready   chan struct{} // closed by Stood
	once    sync.Once
}

// NewSourceLife returns the frame of a source that has not begun.
func NewSourceLife() *SourceLife {
	return &SourceLife{closing: make(chan struct{}), done: make(chan struct{}), ready: make(chan struct{})}
}

// Begin marks the start of Run and returns the context that ends with ctx or with Shut. Who began calls End.
func (l *SourceLife) Begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.closed {
		return nil, nil, ErrSourceRunning
	}
	l.started = true
	ctx, l.stop = context.WithCancel(ctx)
	return ctx, l.stop, nil
}

// End marks the end of Run.
func (l *SourceLife) End() { close(l.done) }

// Stood marks that the source can be read; it may be called again.
func (l *SourceLife) Stood() { l.once.Do(func() { close(l.ready) }) }

// Shut ends Run and waits for it, at most until ctx ends. It reports whether this was the first call.
func (l *SourceLife) Shut(ctx context.Context) (bool, error) {
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

// Closing is closed when Shut was called.
func (l *SourceLife) Closing() <-chan struct{} { return l.closing }

// Done is closed when Run has ended or never will begin.
func (l *SourceLife) Done() <-chan struct{} { return l.done }

// Ready is closed when the source first stood.
func (l *SourceLife) Ready() <-chan struct{} { return l.ready }

// IsClosed reports whether Shut was called.
func (l *SourceLife) IsClosed() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// IsOver reports whether Run has ended or Shut was called.
func (l *SourceLife) IsOver() bool {
	select {
	case <-l.closing:
		return true
	case <-l.done:
		return true
	default:
		return false
	}
}
