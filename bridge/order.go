package bridge

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// Mode says how far a rule may go.
type Mode string

// The modes, from nothing to everything. The zero value counts as shadow.
const (
	ModeOff     Mode = "off"     // the rule is not evaluated
	ModeShadow  Mode = "shadow"  // orders are recorded as what would have been done
	ModeApprove Mode = "approve" // orders wait for a person
	ModeEnforce Mode = "enforce" // orders are carried out
)

func (m Mode) rank() int {
	switch m {
	case ModeOff:
		return 0
	case ModeApprove:
		return 2
	case ModeEnforce:
		return 3
	case ModeShadow:
		return 1
	default:
		return 1
	}
}

// Under returns the lower of the mode and its ceiling; empty modes count as shadow.
func (m Mode) Under(ceiling Mode) Mode {
	if m.rank() > ceiling.rank() {
		m = ceiling
	}
	if m == "" {
		return ModeShadow
	}
	return m
}

// ParseMode returns the mode spelled so; the empty string is an error.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case ModeOff, ModeShadow, ModeApprove, ModeEnforce:
		return m, nil
	default:
		return "", fmt.Errorf("unknown mode %q: want off, shadow, approve or enforce", s)
	}
}

// State is where an order stands.
type State string

// The states of an order. Queued, sending, accepted and running are on the way; held waits for a person;
// the others are ends.
const (
	StateRefused   State = "refused"   // a guard said no; nothing was sent
	StateDuplicate State = "duplicate" // another order covers it (Order.Covers)
	StateShadow    State = "shadow"    // would have been carried out
	StateHeld      State = "held"      // waits for approval or for resume
	StateQueued    State = "queued"    // admitted, not begun
	StateSending   State = "sending"   // its intent is on disk; the effect may have happened
	StateAccepted  State = "accepted"  // KSC took it; the host has not confirmed
	StateRunning   State = "running"   // the host works on it
	StateDone      State = "done"      // the host did it
	StateFailed    State = "failed"    // certainly not done
	StateExpired   State = "expired"   // too old to send
	StateCancelled State = "cancelled" // taken back by a person before it began
	StateUnknown   State = "unknown"   // may have happened; never resent by itself
)

// States lists every state in the order of an order's life.
func States() []State {
	return []State{
		StateRefused, StateDuplicate, StateShadow, StateHeld, StateQueued, StateSending, StateAccepted, StateRunning,
		StateDone, StateFailed, StateExpired, StateCancelled, StateUnknown,
	}
}

// Pending reports whether the bridge still has to do something about the order.
func (s State) Pending() bool { return s == StateQueued || s == StateSending }

// Via is the executor a user asked for.
type Via string

// The executors. ViaAuto takes KSC where it is configured, else the local agent for this machine.
const (
	ViaAuto  Via = "auto"
	ViaKSC   Via = "ksc"
	ViaLocal Via = "local"
)

// Order is a task addressed to one host.
type Order struct {
	// ID is derived from source, alert id, rule, task, host and params: the same request has the same id.
	ID string
	// AlertID and Source name the alert it comes from; empty for orders entered by hand.
	AlertID, Source string
	// Rule is the name of the rule, At its place as "file:line"; both empty for orders entered by hand.
	Rule, At string
	// Actor is who entered the order by hand ("cli:root"); empty for rules.
	Actor string
	// Host is the endpoint as the alert or the user named it.
	Host string
	// Subject is the process the order is about, when it was named by pid; its Tree also holds without one.
	Subject Process
	Task    Task
	Mode    Mode
	Via     Via
	// For is how long an isolation or block lasts; 0 = the task's default.
	For time.Duration
	// Dedupe is the key under which a second order within Window is a duplicate; empty = no window.
	Dedupe string
	Window time.Duration
	// Strike is the key under which alerts count towards the rule's threshold (`after`); empty = no threshold.
	Strike string
	// StrikeCount is how many alerts with that key, this one included, it takes before the order may act: 2 to 10000,
	// 0 without a threshold.
	StrikeCount int
	// StrikeWithin is the time span those alerts must come in: 1s to 24h, 0 without a threshold.
	StrikeWithin time.Duration
	// AlertTime is when the alert happened; zero = unknown.
	AlertTime time.Time
	Created   time.Time
	// NotAfter is the last moment the effect may begin.
	NotAfter time.Time

	State  State
	Reason Reason
	// Detail says in words what led to State; Covers names the order a duplicate is covered by.
	Detail, Covers string
	// Executor is the name of the executor that has it: "ksc" or "local".
	Executor string
	Intent   Intent
	Attempts int
	// Ref is what the executor calls it: the incident id of KSC.
	Ref string
	// Approval is what a person decided about it.
	Approval Approval
	// Due is when the order has to have left State; zero for ends.
	Due     time.Time
	Updated time.Time
}

// Intent is what is committed before an effect begins, so that after a crash or a lost answer the executor
// can find out whether it happened.
type Intent struct {
	// Target is the host's id at KSC (KLHST_WKS_HOSTNAME); empty for local orders.
	Target string
	// Names are the other names of the host (FQDN, NetBIOS, DNS, display name, address), for the guards. A name that begins
	// with GroupPrefix is the path of the administration group the host is in.
	Names []string
	// Second is the KLINCDT_ADDED the bridge chose: UTC, whole seconds, unique for Target and Body.
	Second time.Time
	// Body is the exact text that is sent as KLINCDT_BODY.
	Body string
}

// GroupPrefix marks the administration group of a host among Intent.Names: "group:Managed devices/Servers".
const GroupPrefix = "group:"

// Receipt is what an executor answered.
type Receipt struct {
	// State is StateAccepted (KSC took it) or StateDone (seen to be done).
	State State
	// Ref is what the executor calls it, Detail what it saw, for people.
	Ref, Detail string
}

// NewOrderID derives the id: "o" and 24 hex digits over length-prefixed fields, so that no two
// different field lists collide by concatenation.
func NewOrderID(source, alertID, rule string, t Task, host string) (string, error) {
	params, err := EncodeParams(t)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	var n [8]byte
	for _, f := range []string{source, alertID, rule, string(t.Kind()), host, string(params)} {
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	return "o" + hex.EncodeToString(h.Sum(nil)[:12]), nil
}
