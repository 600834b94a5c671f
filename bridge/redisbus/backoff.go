package redisbus

import (
	"context"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// backoff doubles from first to last; each pause is drawn from the upper half, so that many clients of
// one server do not come back in step.
type backoff struct {
	first, last time.Duration
	random      func() float64
	n           int
}

func newBackoff(random func() float64) backoff {
	return backoff{first: firstPause, last: lastPause, random: random}
}

func (b *backoff) next() time.Duration {
	d := b.last
	if b.n < 30 { // beyond, the shift would overflow
		d = min(b.first<<b.n, b.last)
	}
	b.n++
	return d/2 + time.Duration(b.random()*float64(d/2))
}

func (b *backoff) reset() { b.n = 0 }

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
