package api

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	syslogFirstPause = 100 * time.Millisecond
	syslogLastPause  = 5 * time.Second
)

var errSyslogSettled = errors.New("syslog source: the delivery is settled already")

// syslogMessage is one frame that is not settled.
type syslogMessage struct {
	raw      []byte
	received time.Time
	tries    int       // how often it was settled with an error
	due      time.Time // when it comes again
}

// syslogQueue holds what was read and is not settled, at most as many messages as there are places.
type syslogQueue struct {
	cfg      SyslogConfig
	stats    *syslogCounters
	troubles *syslogTroubles

	places chan struct{}      // one for each message that is not settled
	fresh  chan syslogMessage // as large as places: whoever has a place never waits here
	wake   chan struct{}      // something comes again

	mu    sync.Mutex      // guards again and over
	again []syslogMessage // settled with an error
	over  bool            // abandon was called
}

func newSyslogQueue(cfg SyslogConfig, stats *syslogCounters, troubles *syslogTroubles) *syslogQueue {
	return &syslogQueue{
		cfg: cfg, stats: stats, troubles: troubles,
		places: make(chan struct{}, cfg.Queue), fresh: make(chan syslogMessage, cfg.Queue), wake: make(chan struct{}, 1),
	}
}

// put blocks until there is a place, and answers false when ctx ended first.
func (q *syslogQueue) put(ctx context.Context, m syslogMessage) bool {
	select {
	case q.places <- struct{}{}:
		q.fresh <- m
		return true
	case <-ctx.Done():
		return false
	}
}

// next is Receive.
func (q *syslogQueue) next(ctx context.Context, life *bridge.SourceLife) (bridge.Delivery, error) {
	for {
		if ctx.Err() != nil {
			return bridge.Delivery{}, context.Cause(ctx)
		}
		select {
		case <-life.Closing():
			return bridge.Delivery{}, bridge.ErrClosed
		default:
		}
		m, wait := q.takeDue()
		if m != nil {
			return q.deliver(*m), nil
		}
		done := life.Done()
		select {
		case m := <-q.fresh:
			return q.deliver(m), nil
		case <-done:
			if len(q.fresh) > 0 {
				continue
			}
			if wait < 0 {
				return bridge.Delivery{}, bridge.ErrClosed
			}
			done = nil // what comes again is waited for
		default:
		}
		var timer *time.Timer
		var due <-chan time.Time
		if wait >= 0 {
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case m := <-q.fresh:
			return q.deliver(m), nil
		case <-due:
		case <-q.wake:
		case <-done:
		case <-life.Closing():
		case <-ctx.Done():
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// takeDue returns a message whose pause is over, or how long the next one has to wait; -1 = none comes again.
func (q *syslogQueue) takeDue() (*syslogMessage, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.again) == 0 {
		return nil, -1
	}
	soonest := 0
	for i := range q.again {
		if q.again[i].due.Before(q.again[soonest].due) {
			soonest = i
		}
	}
	m := q.again[soonest]
	wait := m.due.Sub(q.cfg.Now())
	if wait > 0 {
		return nil, wait
	}
	last := len(q.again) - 1
	q.again[soonest] = q.again[last]
	q.again[last] = syslogMessage{}
	q.again = q.again[:last]
	return &m, 0
}

func (q *syslogQueue) deliver(m syslogMessage) bridge.Delivery {
	q.stats.delivered.Add(1)
	var settled atomic.Bool
	return bridge.Delivery{
		Alert: bridge.Alert{Source: q.cfg.Name, Preset: q.cfg.Preset, Received: m.received, Raw: m.raw},
		Settle: func(_ context.Context, err error) error {
			if settled.Swap(true) {
				return errSyslogSettled
			}
			if err == nil || errors.Is(err, bridge.ErrBadAlert) {
				<-q.places
				return nil
			}
			q.redeliver(m)
			return nil
		},
	}
}

// redeliver keeps the place of the message: while nothing can be settled, nothing more is read.
func (q *syslogQueue) redeliver(m syslogMessage) {
	pause := syslogLastPause
	if m.tries < 10 { // beyond, the shift would overflow in the end
		pause = min(syslogFirstPause<<m.tries, syslogLastPause)
	}
	m.tries++
	m.due = q.cfg.Now().Add(pause)
	if !q.keep(m) {
		<-q.places
		q.troubles.add(syslogTrouble{reason: syslogStopped, count: 1, err: errSyslogStopped})
		q.troubles.flush()
		return
	}
	q.stats.redelivered.Add(1)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *syslogQueue) keep(m syslogMessage) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.over {
		q.again = append(q.again, m)
	}
	return !q.over
}

// abandon gives up what nobody will be asked for any more. What is in a caller's hands may still be settled.
func (q *syslogQueue) abandon() {
	q.mu.Lock()
	q.over = true
	lost := len(q.again)
	q.again = nil
	q.mu.Unlock()
	for q.drop() {
		lost++
	}
	for range lost {
		<-q.places
	}
	if lost > 0 {
		q.troubles.add(syslogTrouble{reason: syslogStopped, count: int64(lost), err: errSyslogStopped})
	}
}

func (q *syslogQueue) drop() bool {
	select {
	case <-q.fresh:
		return true
	default:
		return false
	}
}
