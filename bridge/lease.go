package bridge

import (
	"strings"
	"time"
)

// ActorLease is the actor of the orders by which leases release a host or isolate it anew.
const ActorLease = "lease"

// Lease is one reason why a host is isolated. A host stays isolated until its last reason lapses or a release is sent.
type Lease struct {
	// Order is the id of the order that gives the reason; it names the lease. Effect is the order that isolates the host: Order
	// itself, or the one that covers it.
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
	// Isolated is when the isolation was last sent, on the lease of the effect; the product's own end counts from it.
	Isolated time.Time
	// Renewing is the order that isolates anew while it is on its way; Tries counts the orders sent for this lease.
	Renewing string
	Tries    int
	// EndedBy is the release that ended it; the lease comes back when that release comes to nothing.
	EndedBy string
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

// leaseRetry is when a release that came to nothing is tried again.
const leaseRetry = time.Minute

// LeaseTask is what has to be done so that a host stands as its leases say.
type LeaseTask struct {
	Lease Lease
	// Release says that the last reason lapsed; else the isolation is to be sent anew before the product ends it.
	Release bool
}

// Order returns the order that does it. Its id is the same however often it is asked for, so it is admitted once.
func (t LeaseTask) Order() (Order, error) {
	task, word := IsolateHost{Action: IsolationOn}, "renew"
	if t.Release {
		task, word = IsolateHost{Action: IsolationOff}, "release"
	}
	o := Order{Host: t.Lease.Host, Task: task, Mode: ModeEnforce, Via: ViaAuto, Actor: ActorLease}
	if t.Lease.Executor == ExecutorLocal {
		o.Via = ViaLocal
	}
	var err error
	o.ID, err = NewOrderID(ActorLease, word+"/"+t.Lease.Order+"/"+itoa(t.Lease.Tries), "", task, t.Lease.Host)
	return o, err
}
