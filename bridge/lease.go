package bridge

import (
	"fmt"
	"strings"
	"time"
)

// ActorLease is the actor of the orders by which leases release a host or isolate it anew.
const ActorLease = "lease"

// Lease is one reason why a host is isolated. A host stays isolated until its last reason lapses or a release is sent.
type Lease struct {
	// Order is the id of the order that gives the reason; it names the lease. Effect is the order that isolates the host: Order
	// itself, or the one that covers it; empty when Order ended as unknown.
	Order, Effect string
	// Host is the host as the order named it, Target its id at KSC once known.
	Host, Target string
	// Executor is who isolates: "ksc" or "local".
	Executor string
	// Rule or Actor is who wanted it.
	Rule, Actor string
	Since       time.Time
	// Until is when the reason lapses; zero = never.
	Until time.Time
	// Isolated is when the isolation was last sent, on the lease of the effect; the product's own end counts from it. Zero while
	// it is being sent for the first time.
	Isolated time.Time
	// Renewing is the order that isolates anew while it is on its way. Tries counts the orders for this lease that came to
	// nothing since Isolated, Retry is when the next one may be sent.
	Renewing string
	Tries    int
	Retry    time.Time
	// EndedBy is the release that ended it while that is on its way: the lease comes back when nothing comes of the release.
	// Sent says that the release has begun, Crossed that it began while the isolation was being sent: nobody knows which of them
	// the host saw last.
	EndedBy       string
	Sent, Crossed bool
	// End is empty while the lease holds, else one of the LeaseEnd words; Ended is when.
	End   LeaseEnd
	Ended time.Time
}

// LeaseEnd says how a lease ended.
type LeaseEnd string

// The ends of a lease.
const (
	LeaseReleased LeaseEnd = "released"          // a person released the host
	LeaseLapsed   LeaseEnd = "lapsed"            // its time was over
	LeaseProduct  LeaseEnd = "lapsed_by_product" // the vendor's product ended the isolation by itself
	LeaseFailed   LeaseEnd = "failed"            // the isolation came to nothing
)

// Live reports whether the lease holds.
func (l Lease) Live() bool { return l.End == "" }

// Kept reports whether a ledger has to find the lease again at the next start: it holds, or its release is on its way.
func (l Lease) Kept() bool { return l.Live() || l.EndedBy != "" }

// isolates reports whether the order of the lease isolates the host itself.
func (l Lease) isolates() bool { return l.Effect == l.Order }

// undecided reports whether the isolation is being sent for the first time, so that nobody knows yet whether it happened.
func (l Lease) undecided() bool { return l.isolates() && l.Isolated.IsZero() }

// moving reports whether an order that isolates the host for this lease is on its way.
func (l Lease) moving() bool { return l.undecided() || l.Renewing != "" }

// sent returns when the isolation was last sent or, for a reason more, when it came.
func (l Lease) sent() time.Time {
	if l.Isolated.IsZero() {
		return l.Since
	}
	return l.Isolated
}

// reopen makes an ended lease hold again.
func (l *Lease) reopen() {
	l.End, l.Ended = "", time.Time{}
	l.leave()
	l.Tries++
}

// lapse ends the time of the lease, if that is not over already.
func (l *Lease) lapse(now time.Time) {
	if !l.Lapsed(now) {
		l.Until = now
	}
}

// released takes note that KSC took the release that ended the lease, or the host did it. What KSC has taken waits there
// for the host, so the lease comes back only if the host turns out not to do it.
func (l *Lease) released(s State, now time.Time) {
	switch {
	case l.Crossed && !l.moving():
		l.reopen()
		l.lapse(now)
	case l.Crossed || s == StateDone || s == StateUnknown:
		l.leave()
	}
}

// leave forgets the release that ended the lease.
func (l *Lease) leave() { l.EndedBy, l.Sent, l.Crossed = "", false, false }

// tryLater puts the next order for the lease off.
func (l *Lease) tryLater(now time.Time) { l.Retry = now.Add(leaseRetry) }

// Lapsed reports whether the time of a live lease is over.
func (l Lease) Lapsed(now time.Time) bool {
	return l.Live() && !l.Until.IsZero() && !now.Before(l.Until)
}

// IsIsolation reports whether the task isolates a host.
func IsIsolation(t Task) bool {
	iso, ok := t.(IsolateHost)
	return ok && iso.Action == IsolationOn
}

// hostKey is under what a host is found again.
func hostKey(host string) string { return strings.ToLower(host) }

// machineKey is under what the machine of an order is found again, however the order spells its host: its id at KSC where that
// is known.
func machineKey(o Order) string {
	if o.Intent.Target != "" {
		return hostKey(o.Intent.Target)
	}
	return hostKey(o.Host)
}

const (
	// leaseRetry is when an order for a lease that came to nothing is tried again.
	leaseRetry = time.Minute
	// byTarget is after how many tries a host is named by its id at KSC.
	byTarget = 3
)

// LeaseTask is what has to be done so that a host stands as its leases say.
type LeaseTask struct {
	Lease Lease
	// Release says that the last reason lapsed; else the isolation is to be sent anew before the product ends it.
	Release bool
}

// Order returns the order that does it. Its id is the same however often it is asked for, so it is admitted once, and
// another one after that came to nothing. Where that goes on, every second one names the host by its id at KSC: hosts are renamed.
func (t LeaseTask) Order() (Order, error) {
	le := t.Lease
	task, word := IsolateHost{Action: IsolationOn}, "renew"
	if t.Release {
		task, word = IsolateHost{Action: IsolationOff}, "release"
	}
	o := Order{Host: le.Host, Task: task, Mode: ModeEnforce, Via: ViaAuto, Actor: ActorLease}
	switch {
	case le.Executor == ExecutorLocal:
		o.Via = ViaLocal
	case le.Target != "" && le.Tries >= byTarget && le.Tries%2 == 1:
		o.Host = le.Target
	}
	var err error
	o.ID, err = NewOrderID(ActorLease, fmt.Sprintf("%s/%s/%d/%d", word, le.Order, le.sent().UnixNano(), le.Tries), "", task, le.Host)
	return o, err
}
