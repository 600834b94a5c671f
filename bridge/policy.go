package bridge

import (
	"slices"
	"time"
)

// Limit is a budget: how many orders may begin within a span of time. Releases are never limited.
type Limit struct {
	// Task is what is limited; All means every task together, without Task.
	Task Kind
	All  bool
	// Max is how many; 0 = only Share counts. Share is a part (0 to 1] of the known hosts, at least one order; 0 = only Max counts.
	Max   int
	Share float64
	Per   time.Duration
	// By counts apart: LimitBySource, LimitByRule, or all together when empty.
	By string
	// At is the place of the setting ("edr-bridge.yaml:9").
	At string
}

// The values of Limit.By.
const (
	LimitBySource = "source"
	LimitByRule   = "rule"
)

// Covers reports whether the limit counts tasks of this kind.
func (l Limit) Covers(k Kind) bool { return l.All || l.Task == k }

// Hours is a span of the week in which rules may act with a task; outside, their orders wait for a person.
type Hours struct {
	// Task is what it is about; All means every task.
	Task Kind
	All  bool
	// Days are the days on which the span begins; empty = every day.
	Days []time.Weekday
	// From and To are times since midnight on the clock of Zone, To up to 24 h; From after To reaches over midnight.
	From, To time.Duration
	// Zone is where the clock hangs; nil = time.Local.
	Zone *time.Location
	At   string
}

// Contains reports whether the moment lies in the span.
func (h Hours) Contains(t time.Time) bool {
	zone := h.Zone
	if zone == nil {
		zone = time.Local
	}
	t = t.In(zone)
	clock := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	if h.From < h.To {
		return h.on(t.Weekday()) && clock >= h.From && clock < h.To
	}
	before := time.Weekday((int(t.Weekday()) + 6) % 7)
	return h.on(t.Weekday()) && clock >= h.From || h.on(before) && clock < h.To
}

func (h Hours) on(day time.Weekday) bool {
	return len(h.Days) == 0 || slices.Contains(h.Days, day)
}

// LiveTasks is the budget of response tasks that KSC has not finished: KES keeps 100 and drops the oldest beyond, finished
// or not (support.kaspersky.com/help/KUMA/3.4, topic 300229).
type LiveTasks struct {
	// Hold is how many may be live before others wait; 0 = no such budget. Keep more are there for isolateHost alone.
	// onDemandScan waits at three quarters of Hold.
	Hold, Keep int
	// PerHost counts for each host apart instead of for the whole server; the vendor's page does not tell which it is.
	PerHost bool
	At      string
}

// room returns how many live tasks there may be before an order of the kind waits.
func (b LiveTasks) room(k Kind) int {
	switch k {
	case KindIsolateHost:
		return b.Hold + b.Keep
	case KindOnDemandScan:
		return b.Hold * 3 / 4
	default:
		return b.Hold
	}
}

// LeasePolicy says how isolations end.
type LeasePolicy struct {
	// Default is how long an isolation lasts whose order does not say (Order.For 0); 0 = 4 h.
	Default time.Duration
	// ProductOff is after how long the vendor's product ends an isolation by itself; 0 = never. Reassert isolates anew
	// before that moment; else the lease is recorded as lapsed.
	ProductOff time.Duration
	Reassert   bool
}

// Policy is what the guards go by that judge from what happened before. The zero value limits nothing.
type Policy struct {
	Limits []Limit
	// FlapMax is how many times a host may be isolated or released within FlapWithin before its next isolation waits for a person;
	// 0 = any number.
	FlapMax    int
	FlapWithin time.Duration
	FlapAt     string
	// UndoMax is how many isolations of rules people may take back within UndoPer before the hold is latched; 0 = any number.
	UndoMax int
	UndoPer time.Duration
	UndoAt  string
	// Live is the budget of a KSC server, LiveOf that of the server of a profile where several are configured.
	Live   LiveTasks
	LiveOf map[string]LiveTasks
	Lease  LeasePolicy
	// AskEvery is how long an approval asked for about a host is not asked for again.
	AskEvery time.Duration
	// FourEyes keeps people from approving what they asked for themselves.
	FourEyes bool
	// Known returns how many hosts there are, for limits with a Share; nil or false = nobody knows, and the guard refuses.
	Known func() (int, bool)
	Deadlines
}

// live returns the budget of the server of a profile; empty = the only server.
func (p Policy) live(profile string) LiveTasks {
	if budget, own := p.LiveOf[profile]; own {
		return budget
	}
	return p.Live
}

// CountsLive reports whether the unfinished tasks of some KSC are limited.
func (p Policy) CountsLive() bool {
	if p.Live.Hold > 0 {
		return true
	}
	for _, budget := range p.LiveOf {
		if budget.Hold > 0 {
			return true
		}
	}
	return false
}
