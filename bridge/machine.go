package bridge

import (
	"slices"
	"time"
)

// Event is what moves an order from one state to another.
type Event string

// The events.
const (
	EventApprove  Event = "approve"  // a person let a held order go
	EventReject   Event = "reject"   // a person said no, or nobody answered in time
	EventResume   Event = "resume"   // what held it is over: the hold was taken back, or KSC has room
	EventPark     Event = "park"     // a guard stopped it before its effect: it waits
	EventRefuse   Event = "refuse"   // a guard or the executor declined; nothing was done
	EventCover    Event = "cover"    // another order does the same
	EventBegin    Event = "begin"    // its intent is on disk
	EventRequeue  Event = "requeue"  // nothing happened: it may begin again
	EventAccept   Event = "accept"   // KSC took it
	EventStart    Event = "start"    // the host works on it
	EventComplete Event = "complete" // the host did it
	EventFail     Event = "fail"     // certainly not done
	EventPretend  Event = "pretend"  // the executor only said what it would do
	EventCancel   Event = "cancel"   // taken back, or overtaken by a newer intent
	EventExpire   Event = "expire"   // its deadline passed before its effect began
	EventLose     Event = "lose"     // its deadline passed, or a crash, while the effect may have happened
)

// Transition is one row of the state machine of orders.
type Transition struct {
	From  State
	Event Event
	To    State
}

// Transitions is the state machine of orders. An order enters it in any state but accepted and running; a state that
// stands in no From is an end.
func Transitions() []Transition {
	return []Transition{
		{StateHeld, EventApprove, StateQueued},
		{StateHeld, EventResume, StateQueued},
		{StateHeld, EventReject, StateRefused},
		{StateHeld, EventCancel, StateCancelled},
		{StateHeld, EventExpire, StateExpired},

		{StateQueued, EventBegin, StateSending},
		{StateQueued, EventPark, StateHeld},
		{StateQueued, EventRefuse, StateRefused},
		{StateQueued, EventCover, StateDuplicate},
		{StateQueued, EventFail, StateFailed},
		{StateQueued, EventCancel, StateCancelled},
		{StateQueued, EventExpire, StateExpired},

		{StateSending, EventAccept, StateAccepted},
		{StateSending, EventComplete, StateDone},
		{StateSending, EventFail, StateFailed},
		{StateSending, EventRefuse, StateRefused},
		{StateSending, EventRequeue, StateQueued},
		{StateSending, EventPark, StateHeld},
		{StateSending, EventCancel, StateCancelled},
		{StateSending, EventExpire, StateExpired},
		{StateSending, EventPretend, StateShadow},
		{StateSending, EventLose, StateUnknown},

		{StateAccepted, EventStart, StateRunning},
		{StateAccepted, EventComplete, StateDone},
		{StateAccepted, EventFail, StateFailed},
		{StateAccepted, EventLose, StateUnknown},

		{StateRunning, EventComplete, StateDone},
		{StateRunning, EventFail, StateFailed},
		{StateRunning, EventLose, StateUnknown},
	}
}

// EventOf returns the event that moves an order so; the empty event when the state machine has no such row.
// Held orders that go on are told apart by their approval.
func EventOf(from, to State) Event {
	for _, t := range Transitions() {
		if t.From == from && t.To == to {
			return t.Event
		}
	}
	return ""
}

// End reports whether nothing leads out of the state.
func (s State) End() bool {
	return !slices.Contains([]State{StateHeld, StateQueued, StateSending, StateAccepted, StateRunning}, s)
}

// Alarm reports whether an order that ends so needs a person: it was lost, or nobody knows whether it was done.
func (s State) Alarm() bool { return s == StateExpired || s == StateUnknown }

// CameToNothing reports whether an order in this state has no effect and will have none.
func (s State) CameToNothing() bool {
	return s == StateRefused || s == StateShadow || s == StateFailed || s == StateExpired || s == StateCancelled
}

// Deadlines are how long orders may stay in their states. Zero values stand for the defaults in brackets.
type Deadlines struct {
	// Approval is for orders held for a person (1 h), GiveUp for undecided effects (30 min), Follow for orders KSC
	// accepted and the host has not confirmed (24 h).
	Approval, GiveUp, Follow time.Duration
}

// Filled returns the deadlines with their defaults.
func (d Deadlines) Filled() Deadlines {
	setDefault(&d.Approval, time.Hour)
	setDefault(&d.GiveUp, 30*time.Minute)
	setDefault(&d.Follow, 24*time.Hour)
	return d
}

// Due returns when an order that enters its state at the given moment has to leave it; zero for ends. A held order that
// needs no approval, and a queued one, are due at NotAfter.
func (d Deadlines) Due(o Order, entered time.Time) time.Time {
	d = d.Filled()
	switch o.State {
	case StateHeld:
		if Approvable(o.Reason) {
			return entered.Add(d.Approval)
		}
		return o.NotAfter
	case StateQueued:
		return o.NotAfter
	case StateSending:
		return entered.Add(d.GiveUp)
	case StateAccepted, StateRunning:
		return entered.Add(d.Follow)
	case StateRefused, StateDuplicate, StateShadow, StateDone, StateFailed, StateExpired, StateCancelled, StateUnknown:
		return time.Time{}
	default:
		return time.Time{}
	}
}

// Overdue returns how an order ends whose state is past its deadline: not approved means refused, not begun means
// expired, and what may have happened is unknown. An order that has ended stays as it is.
func Overdue(o Order) Verdict {
	switch {
	case o.State.End():
		return Verdict{o.State, o.Reason, o.Detail}
	case o.State == StateHeld && Approvable(o.Reason):
		return Verdict{StateRefused, ReasonApproval, "nobody approved it in time"}
	case o.State == StateHeld, o.State == StateQueued:
		return Verdict{StateExpired, ReasonAge, "not begun before " + o.NotAfter.UTC().Format(time.RFC3339)}
	case o.State == StateAccepted, o.State == StateRunning:
		return Verdict{StateUnknown, ReasonDeadline, "KSC accepted it and nobody saw it done in time"}
	default:
		return Verdict{StateUnknown, ReasonDeadline, "nobody found out in time whether it was done"}
	}
}
