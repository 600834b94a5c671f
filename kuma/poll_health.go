package kuma

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

var errPollSettled = errors.New("the delivery is settled already")

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
