package sensor

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// The ways in which a sensor sees processes.
const (
	// MethodEvents is the kernel's proc connector: every start is seen.
	MethodEvents = "proc connector"
	// MethodPolling is listing the processes again and again: what is shorter than the pause between two lists is not seen.
	MethodPolling = "polling"
)

// Status is what a sensor does and has done since it was made.
type Status struct {
	// Method is one of the Method… words, "" while the sensor does not run; Why says why it polls, and what that means.
	Method, Why string
	// Processes is how many are known, Events how many messages of the kernel were read, Execs how many starts of programs were seen;
	// of these Unseen ended before their image could be read.
	Processes             int64
	Events, Execs, Unseen uint64
	// Overruns is how often the kernel dropped events because its buffer was full. The processes were listed after each.
	Overruns uint64
	// Alerts were made, Suppressed left out by rates and windows, Lost made and not kept for want of room. With several receivers Lost
	// and Waiting are sums over them.
	Alerts, Suppressed, Lost uint64
	// Waiting is how many alerts nobody has taken yet: in the spool, in memory or in the hands of Receive's caller.
	Waiting int
	// EmitError is why the last call of an Emit failed, SpoolError why the spool cannot be used, ConnectionsError why connections cannot be
	// listed; nil = they do well.
	EmitError, SpoolError, ConnectionsError error
	// Learning is how long the baseline still learns, Pairs how many pairs of parent and child it knows, Refused how many starts were
	// not counted for want of room.
	Learning time.Duration
	Pairs    int
	Refused  uint64
	// Connections is how many connections to listed addresses were seen.
	Connections uint64
}

type counters struct {
	processes                                                        atomic.Int64
	events, execs, unseen, overruns, alerts, suppressed, connections atomic.Uint64
}

// watching is how the sensor goes about it.
type watching struct {
	mu      sync.Mutex // guards the rest
	method  string
	why     error // why it polls
	flowErr error
	loss    time.Time // when a loss was logged last
}

// Status returns what the sensor does. It does not block.
func (s *Sensor) Status() Status {
	s.state.mu.Lock()
	st := Status{Method: s.state.method, ConnectionsError: s.state.flowErr}
	if s.state.why != nil {
		st.Why = s.state.why.Error()
	}
	s.state.mu.Unlock()
	c := &s.count
	st.Processes, st.Events, st.Execs, st.Unseen = c.processes.Load(), c.events.Load(), c.execs.Load(), c.unseen.Load()
	st.Overruns, st.Alerts, st.Suppressed, st.Connections = c.overruns.Load(), c.alerts.Load(), c.suppressed.Load(), c.connections.Load()
	for _, box := range s.outboxes {
		waiting, lost, disk, emit := box.waits()
		st.Waiting, st.Lost = st.Waiting+waiting, st.Lost+lost
		st.SpoolError, st.EmitError = errors.Join(st.SpoolError, disk), errors.Join(st.EmitError, emit)
	}
	if s.known != nil {
		st.Learning, st.Pairs, st.Refused = s.known.left()
	}
	return st
}

// Ready is closed when the sensor first watches.
func (s *Sensor) Ready() <-chan struct{} { return s.life.Ready() }

// Connected reports whether the sensor watches, by events or by polling.
func (s *Sensor) Connected() bool { return s.method() != "" }

// Err returns why the sensor polls, or nil.
func (s *Sensor) Err() error {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	return s.state.why
}

func (s *Sensor) method() string {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	return s.state.method
}

// watches notes how the sensor sees processes from here on.
func (w *watching) watches(method string, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.method, w.why = method, why
}

// mayLogLoss reports whether no loss was logged for a minute.
func (w *watching) mayLogLoss(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.loss.IsZero() && now.Sub(w.loss) < time.Minute {
		return false
	}
	w.loss = now
	return true
}
