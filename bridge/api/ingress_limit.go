package api

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ingressRates is IngressRate at work.
type ingressRates struct{ requests, documents *rate.Limiter }

func newIngressRates(r IngressRate, most int) *ingressRates {
	limiter := func(perSecond float64, least int) *rate.Limiter {
		if perSecond == 0 {
			return nil
		}
		return rate.NewLimiter(rate.Limit(perSecond), max(least, int(perSecond)))
	}
	return &ingressRates{limiter(r.Requests, 1), limiter(r.Documents, most)}
}

// tooMuch takes n of the limit, or returns how long the sender has to wait for them; nil never makes anybody wait.
func tooMuch(l *rate.Limiter, now time.Time, n int) time.Duration {
	if l == nil {
		return 0
	}
	reserved := l.ReserveN(now, n)
	if !reserved.OK() {
		return time.Second
	}
	wait := reserved.DelayFrom(now)
	if wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}

const (
	maxFailing   = 4096
	failingRate  = 5  // failures a second that cost a peer nothing
	failingBurst = 20 // and at once
	// failingBody is how large a body may be to be read of a peer that keeps failing: signing one costs some 30 µs.
	failingBody = 64 << 10
	// failingDelay is how long such a peer waits for its next refusal, and maxDelayed how many do at once.
	failingDelay = time.Second
	maxDelayed   = 64
)

// ingressFailing knows the peers that fail to authenticate. They wait for their refusals and may not send large bodies; good requests
// from the same address, as behind a proxy, are not slowed.
type ingressFailing struct {
	now     func() time.Time
	delay   time.Duration
	delayed chan struct{}

	mu    sync.Mutex // guards peers
	peers map[netip.Addr]*rate.Limiter
}

func newIngressFailing(now func() time.Time) *ingressFailing {
	return &ingressFailing{now: now, delay: failingDelay, delayed: make(chan struct{}, maxDelayed), peers: map[netip.Addr]*rate.Limiter{}}
}

// often reports whether the peer has used up its failures.
func (f *ingressFailing) often(peer netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.peers[peer]
	return l != nil && l.TokensAt(f.now()) < 1
}

// failed counts a failure and waits if there were too many, at most until ctx ends or closing is closed.
func (f *ingressFailing) failed(ctx context.Context, peer netip.Addr, closing <-chan struct{}) {
	if f.count(peer) {
		return
	}
	select {
	case f.delayed <- struct{}{}:
		defer func() { <-f.delayed }()
	default:
		return
	}
	timer := time.NewTimer(f.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-closing:
	}
}

func (f *ingressFailing) count(peer netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	l := f.peers[peer]
	if l == nil {
		f.makeRoom(now)
		l = rate.NewLimiter(failingRate, failingBurst)
		f.peers[peer] = l
	}
	return l.AllowN(now, 1)
}

// makeRoom forgets peers that behave again, or else any one: many that fail a little are held by the other limits.
func (f *ingressFailing) makeRoom(now time.Time) {
	if len(f.peers) < maxFailing {
		return
	}
	for peer, l := range f.peers {
		if l.TokensAt(now) >= failingBurst {
			delete(f.peers, peer)
		}
	}
	for peer := range f.peers {
		if len(f.peers) < maxFailing {
			return
		}
		delete(f.peers, peer)
	}
}

// ingressLog says once a second a source and reason what was refused, and how often.
type ingressLog struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex // guards seen
	seen map[refusalKey]*refusalCount
}

type refusalKey struct {
	source string
	reason IngressReason
}

type refusalCount struct {
	said   time.Time
	silent int
}

func newIngressLog(log *slog.Logger, now func() time.Time) *ingressLog {
	return &ingressLog{log: log, now: now, seen: map[refusalKey]*refusalCount{}}
}

// refused tells of a request; count includes those nobody was told of.
func (l *ingressLog) refused(source string, reason IngressReason, peer string, err error) {
	if count, ok := l.due(refusalKey{source, reason}); ok {
		l.log.Warn("request was refused", "source_name", source, "reason", string(reason), "peer", peer, "count", count, "err", err)
	}
}

func (l *ingressLog) due(key refusalKey) (count int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.seen[key]
	if c == nil {
		c = &refusalCount{}
		l.seen[key] = c
	}
	now := l.now()
	c.silent++
	if since := now.Sub(c.said); since >= 0 && since < time.Second {
		return 0, false
	}
	count = c.silent
	c.said, c.silent = now, 0
	return count, true
}

// Write takes what net/http has to say, which peers can cause at will: failed handshakes, mostly.
func (l *ingressLog) Write(p []byte) (int, error) {
	if count, ok := l.due(refusalKey{reason: RefusedConn}); ok {
		l.log.Warn("connection failed", "count", count, "err", strings.TrimSpace(string(p[:min(len(p), 300)])))
	}
	return len(p), nil
}
