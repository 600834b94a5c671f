package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// syslogReason is why something did not become a delivery. The words stand in logs.
type syslogReason string

const (
	syslogBroken  syslogReason = "broken frame"         // framing, size, or the end of the connection inside a message
	syslogSlow    syslogReason = "slow frame"           // a message took too long
	syslogStopped syslogReason = "stop"                 // whole messages nobody took before the end
	syslogPeer    syslogReason = "unknown peer"         // not among Peers
	syslogFull    syslogReason = "too many connections" // of all or of one address
	syslogNoTLS   syslogReason = "tls handshake"
)

// lost reports whether a message is known to be lost.
func (r syslogReason) lost() bool {
	switch r {
	case syslogBroken, syslogSlow, syslogStopped:
		return true
	case syslogPeer, syslogFull, syslogNoTLS:
		return false
	default:
		return false
	}
}

var errSyslogStopped = errors.New("read and not taken when the source stopped")

// SyslogStats are counters since NewSyslog; all but Unsettled and Conns only grow.
type SyslogStats struct {
	// Received counts whole messages, Delivered those handed to Receive's caller, redeliveries included.
	Received, Delivered, Redelivered int64
	// Broken counts messages that broke the framing, a limit, or a time, or whose connection failed inside them.
	Broken int64
	// Lost counts whole messages that were read and not taken when the source stopped.
	Lost int64
	// Refused counts connections that were not let in: peer, number, TLS.
	Refused int64
	// Idle counts connections closed because they were silent for too long.
	Idle int64
	// Unsettled is how many messages are read and not settled, Conns how many connections there are.
	Unsettled, Conns int
}

type syslogCounters struct {
	received, delivered, redelivered, idle atomic.Int64
}

// Stats returns the counters.
func (s *Syslog) Stats() SyslogStats {
	out := SyslogStats{
		Received: s.stats.received.Load(), Delivered: s.stats.delivered.Load(), Redelivered: s.stats.redelivered.Load(),
		Idle: s.stats.idle.Load(), Unsettled: len(s.queue.places), Conns: s.peers.count(),
	}
	for reason, n := range s.troubles.totals() {
		switch {
		case reason == syslogStopped:
			out.Lost += n
		case reason.lost():
			out.Broken += n
		default:
			out.Refused += n
		}
	}
	return out
}

// syslogTrouble is something that did not become a delivery, count times.
type syslogTrouble struct {
	reason syslogReason
	peer   string
	count  int64
	err    error
}

// syslogTroubles tells of troubles once a second a reason, from one goroutine at a time: a peer can cause them at will, and writing
// an audit record may block.
type syslogTroubles struct {
	source string
	log    *slog.Logger
	note   func(bridge.Note)
	wake   chan struct{}

	telling sync.Mutex // held while somebody is told

	mu      sync.Mutex // guards pending and total
	pending []syslogTrouble
	total   map[syslogReason]int64
}

func newSyslogTroubles(cfg SyslogConfig) *syslogTroubles {
	return &syslogTroubles{
		source: cfg.Name, log: cfg.Logger, note: cfg.OnNote, wake: make(chan struct{}, 1), total: map[syslogReason]int64{},
	}
}

// add never blocks. Troubles of one reason are told as one, with the peer and error of the first.
func (t *syslogTroubles) add(trouble syslogTrouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total[trouble.reason] += trouble.count
	for i := range t.pending {
		if t.pending[i].reason == trouble.reason {
			t.pending[i].count += trouble.count
			return
		}
	}
	t.pending = append(t.pending, trouble)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *syslogTroubles) totals() map[syslogReason]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.total)
}

// run tells of troubles until ctx ends: the first at once, later ones a second apart.
func (t *syslogTroubles) run(ctx context.Context) {
	defer t.flush()
	for {
		select {
		case <-t.wake:
		case <-ctx.Done():
			return
		}
		t.flush()
		if !syslogPause(ctx, time.Second) {
			return
		}
	}
}

func (t *syslogTroubles) flush() {
	t.telling.Lock()
	defer t.telling.Unlock()
	t.mu.Lock()
	list := t.pending
	t.pending = nil
	t.mu.Unlock()
	for _, p := range list {
		t.log.Warn("syslog connection or message was refused", "source_name", t.source, "reason", string(p.reason), "peer", p.peer,
			"count", p.count, "err", p.err)
		if p.reason.lost() {
			t.note(bridge.Note{What: bridge.NoteLoss, Source: t.source, Count: p.count, Detail: fmt.Sprintf("%s: %.300v", p.reason, p.err)})
		}
	}
}

// syslogPause waits and reports whether ctx is still alive.
func syslogPause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
