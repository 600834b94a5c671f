package bridge

import (
	"fmt"
	"time"
)

// Ledger is the memory of the guards that judge from what happened before: thresholds, leases, damping, budgets, live tasks,
// the undo rate. It has no clock and does no I/O: the store asks it inside the transaction that admits or moves an order,
// keeps what it writes to the Journal, and fills a fresh one from that at its start. One goroutine at a time uses it.
type Ledger struct {
	policy Policy
	hold   Hold
	// fresh is when a person last resumed: budgets count from then on.
	fresh time.Time

	charges  map[chargeKey]*window
	flips    map[string]*window // by machine
	strikes  map[string]*window // by Order.Strike
	asks     map[string]time.Time
	undos    window
	live     map[string]string // order id → machine, of what KSC has not finished
	onHost   map[string]int    // live tasks by machine
	onServer map[string]int    // live tasks by KSC profile
	leases   leaseBook
}

// chargeKey is one counter of a limit.
type chargeKey struct {
	limit int
	by    string
}

// NewLedger returns an empty ledger.
func NewLedger(p Policy) *Ledger {
	setDefault(&p.Lease.Default, defaultLease)
	return &Ledger{
		policy: p, charges: map[chargeKey]*window{}, flips: map[string]*window{}, strikes: map[string]*window{}, asks: map[string]time.Time{},
		live: map[string]string{}, onHost: map[string]int{}, onServer: map[string]int{}, leases: newLeaseBook(),
	}
}

// Judgement is a verdict with what goes with it.
type Judgement struct {
	Verdict
	// Covers is the order that does what a duplicate asks for.
	Covers string
	// Latch, when set, puts the bridge on hold for this reason.
	Latch string
}

// SetHold tells the ledger how the hold stands. A resume gives every budget a fresh start: the person who resumed has
// seen what happened.
func (l *Ledger) SetHold(h Hold) {
	if l.hold.Active && !h.Active {
		l.fresh = h.Since
		clear(l.charges)
		l.undos = window{}
	}
	l.hold = h
}

// notBefore is the moment under which something counts that happens now. It is never before the last resume, or a clock that was set
// back would let it count for nothing after a restart.
func (l *Ledger) notBefore(now time.Time) time.Time {
	if l.fresh.After(now) {
		return l.fresh
	}
	return now
}

// Restore takes up what an earlier ledger kept: the hold and the moment of the last resume first, then facts in the order in which
// they were added, leases and live tasks.
func (l *Ledger) Restore(h Hold, fresh time.Time) { l.hold, l.fresh = h, fresh }

// RestoreFact takes up one fact. Charges and undos from before the last resume count no more.
func (l *Ledger) RestoreFact(f Fact) {
	old := f.At.Before(l.fresh)
	switch f.What {
	case FactCharge:
		if !old {
			l.charge(f)
		}
	case FactFlip:
		windowOf(l.flips, f.Key).add(f.At, f.Order)
	case FactUndo:
		if !old {
			l.countUndo(f)
		}
	case FactStrike:
		windowOf(l.strikes, f.Key).add(f.At, f.Order)
	case FactAsk:
		l.asks[f.Key] = f.At
	}
}

// RestoreLease takes up one lease if it is still of use, see Lease.Kept.
func (l *Ledger) RestoreLease(le Lease) {
	if le.Kept() {
		l.leases.put(&le)
	}
}

// RestoreLive takes up one order that KSC has not finished; host is Intent.Target where that is known, else Order.Host.
func (l *Ledger) RestoreLive(order, host string) { l.enter(order, hostKey(host)) }

func windowOf(m map[string]*window, key string) *window {
	w := m[key]
	if w == nil {
		w = &window{}
		m[key] = w
	}
	return w
}

// Admit judges an order that is new, as the stateless guards left it: StateQueued in the verdict means it keeps its state.
func (l *Ledger) Admit(o Order, now time.Time, j Journal) (Judgement, error) {
	ok := Judgement{Verdict: Verdict{State: StateQueued}}
	switch o.State {
	case StateQueued, StateSending, StateHeld, StateShadow:
	default:
		return ok, nil
	}
	if o.Strike != "" {
		n, err := l.strike(o, now, j)
		if err != nil {
			return ok, err
		}
		if n < o.StrikeCount {
			return Judgement{Verdict: Verdict{
				StateRefused, ReasonThreshold,
				place(fmt.Sprintf("alert %d of %d within %s", n, o.StrikeCount, o.StrikeWithin), o.At),
			}}, nil
		}
	}
	if o.State == StateQueued || o.State == StateSending {
		if c := l.covered(o, now); c.State != StateQueued {
			return c, nil
		}
	}
	return ok, nil
}

func (l *Ledger) strike(o Order, now time.Time, j Journal) (int, error) {
	w := windowOf(l.strikes, o.Strike)
	w.add(now, o.ID)
	n := w.count(now.Add(-o.StrikeWithin))
	return n, j.AddFact(Fact{What: FactStrike, Key: o.Strike, Order: o.ID, At: now, Until: now.Add(o.StrikeWithin)})
}

// Begin judges an order that is about to be sent: StateQueued means go on. It is the last guard, and the only one that
// counts what other orders do at the same moment.
func (l *Ledger) Begin(o Order, now time.Time) Judgement {
	ok := Judgement{Verdict: Verdict{State: StateQueued}}
	if IsRelease(o.Task) {
		if o.Actor == ActorLease && l.leases.holds(o, now) {
			return Judgement{Verdict: Verdict{StateCancelled, ReasonLease, "there is a newer reason to keep the host isolated"}}
		}
		return ok
	}
	if l.hold.Active {
		return Judgement{Verdict: holdVerdict(l.hold)}
	}
	if o.Actor == ActorLease {
		if !l.leases.holds(o, now) {
			return Judgement{Verdict: Verdict{StateCancelled, ReasonLease, "no reason keeps the host isolated any more"}}
		}
		return l.overLive(o, now)
	}
	for _, judge := range []func(Order, time.Time) Judgement{l.covered, l.damped, l.overLimit, l.overLive} {
		if v := judge(o, now); v.State != StateQueued {
			return v
		}
	}
	return ok
}

func holdVerdict(h Hold) Verdict {
	return Verdict{StateHeld, ReasonHold, fmt.Sprintf("on hold since %s: %s", h.Since.UTC().Format(time.RFC3339), h.Reason)}
}

// covered finds the isolation a host has already: the order becomes a reason of it.
func (l *Ledger) covered(o Order, now time.Time) Judgement {
	ok := Judgement{Verdict: Verdict{State: StateQueued}}
	if !IsIsolation(o.Task) || o.Actor == ActorLease {
		return ok
	}
	machine := l.leases.machine(o.Host, o.Intent.Target)
	by := latest(machine)
	if by == nil || !holds(machine, now) {
		return ok
	}
	return Judgement{
		Verdict: Verdict{StateDuplicate, ReasonLease, "the host is isolated already; this is one reason more to keep it so"}, Covers: by.Order,
	}
}

// damped stops a host from going back and forth; a person's approval outweighs it.
func (l *Ledger) damped(o Order, now time.Time) Judgement {
	ok := Judgement{Verdict: Verdict{State: StateQueued}}
	if l.policy.FlapMax <= 0 || !IsIsolation(o.Task) || o.Approval.By != "" || o.Rule == "" {
		return ok
	}
	w := l.flips[machineKey(o)]
	if w == nil || w.count(now.Add(-l.policy.FlapWithin)) < l.policy.FlapMax {
		return ok
	}
	return Judgement{Verdict: Verdict{StateHeld, ReasonDamping, place(
		fmt.Sprintf("isolated and released %d times within %s: a person has to look", l.policy.FlapMax, l.policy.FlapWithin), l.policy.FlapAt)}}
}

// Moved takes note of an order that was admitted (from is empty) or moved. Asked is set when the order waits for a person
// and this host was not asked about lately.
func (l *Ledger) Moved(o Order, from State, now time.Time, j Journal) (asked bool, err error) {
	began := o.State == StateSending && from != StateSending
	undone := from == StateSending && (o.State == StateQueued || o.State == StateHeld || o.State.CameToNothing())
	l.follow(o)
	if began {
		err = l.began(o, now, j)
	} else if undone {
		err = l.undone(o, j)
	}
	if _, is := o.Task.(IsolateHost); is && err == nil {
		switch {
		case IsRelease(o.Task):
			err = l.release(o, from, now, j)
		case o.Actor == ActorLease:
			err = l.renewal(o, from, now, j)
		default:
			err = l.isolation(o, from, now, j)
		}
	}
	if err != nil || o.State != StateHeld || !Approvable(o.Reason) {
		return false, err
	}
	return l.ask(o, now, j)
}

func (l *Ledger) began(o Order, now time.Time, j Journal) error {
	if o.Actor == ActorLease {
		return nil
	}
	if f, counts := l.chargeOf(o, now); counts {
		l.charge(f)
		if err := j.AddFact(f); err != nil {
			return err
		}
	}
	if _, is := o.Task.(IsolateHost); is && l.policy.FlapMax > 0 {
		key := machineKey(o)
		windowOf(l.flips, key).add(now, o.ID)
		return j.AddFact(Fact{What: FactFlip, Key: key, Order: o.ID, At: now, Until: now.Add(l.policy.FlapWithin)})
	}
	return nil
}

// undone gives back what an order took that had no effect in the end.
func (l *Ledger) undone(o Order, j Journal) error {
	if l.uncharge(o) {
		if err := j.DropFacts(o.ID, FactCharge); err != nil {
			return err
		}
	}
	if _, is := o.Task.(IsolateHost); !is || l.policy.FlapMax <= 0 {
		return nil
	}
	for _, w := range l.flips {
		w.drop(o.ID) // an order that KSC did not take may have lost the id of its host
	}
	return j.DropFacts(o.ID, FactFlip)
}

func (l *Ledger) ask(o Order, now time.Time, j Journal) (bool, error) {
	key := hostKey(o.Host)
	if last, ok := l.asks[key]; ok && now.Sub(last).Abs() < l.policy.AskEvery {
		return false, nil
	}
	l.asks[key] = now
	return true, j.AddFact(Fact{What: FactAsk, Key: key, Order: o.ID, At: now, Until: now.Add(l.policy.AskEvery)})
}

// Prune forgets what counts no more, so that a bridge that runs for months does not grow.
func (l *Ledger) Prune(now time.Time) {
	prune := func(m map[string]*window, keep time.Duration) {
		for key, w := range m {
			if w.forget(now.Add(-keep)); w.empty() {
				delete(m, key)
			}
		}
	}
	prune(l.flips, l.policy.FlapWithin)
	prune(l.strikes, maxStrike)
	for key, at := range l.asks {
		if now.Sub(at).Abs() >= l.policy.AskEvery {
			delete(l.asks, key)
		}
	}
}

// defaultLease is how long an isolation lasts when nobody says.
const defaultLease = 4 * time.Hour

// maxStrike is the longest time a threshold may look back.
const maxStrike = 24 * time.Hour
