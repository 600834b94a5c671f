package api

import (
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Status is what a running bridge says about itself.
type Status struct {
	// Version is the version of the program, PID its process id, Started when it began (UTC).
	Version string
	PID     int
	Started time.Time
	// Mode is the ceiling for every rule.
	Mode bridge.Mode
	Hold bridge.Hold
	Counts
}

// Counts is how much of what stands in the store at some moment.
type Counts struct {
	// Held, Queued, Sending, Accepted and Running are how many orders are in these states.
	Held, Queued, Sending, Accepted, Running int64
	// Leases is how many leases hold, DeadLetters how many documents wait for a person.
	Leases, DeadLetters int64
}

// status is Status on the wire.
type status struct {
	Version     text             `json:"version"`
	PID         int              `json:"pid"`
	Started     time.Time        `json:"started,omitzero"`
	Mode        bridge.Mode      `json:"mode"`
	Hold        hold             `json:"hold"`
	Orders      map[string]int64 `json:"orders"`
	Leases      int64            `json:"leases"`
	DeadLetters int64            `json:"dead_letters"`
}

// byState names the counts of orders by their state.
func (c *Counts) byState() map[bridge.State]*int64 {
	return map[bridge.State]*int64{
		bridge.StateHeld: &c.Held, bridge.StateQueued: &c.Queued, bridge.StateSending: &c.Sending,
		bridge.StateAccepted: &c.Accepted, bridge.StateRunning: &c.Running,
	}
}

func encodeStatus(s Status) (status, error) {
	h, err := encodeHold(s.Hold)
	w := status{
		Version: text(s.Version), PID: s.PID, Started: utc(s.Started), Mode: s.Mode, Hold: h, Orders: map[string]int64{},
		Leases: s.Leases, DeadLetters: s.DeadLetters,
	}
	for state, n := range s.byState() {
		w.Orders[string(state)] = *n
	}
	return w, err
}

func (w status) decode() (Status, error) {
	h, err := w.Hold.decode()
	s := Status{Version: string(w.Version), PID: w.PID, Started: utc(w.Started), Mode: w.Mode, Hold: h}
	s.Leases, s.DeadLetters = w.Leases, w.DeadLetters
	for state, n := range s.byState() {
		*n = w.Orders[string(state)]
	}
	return s, err
}
