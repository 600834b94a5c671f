package bridge

import (
	"fmt"
	"slices"
	"time"
)

// leaseBook holds the leases that are live, or ended by a release that has not gone through.
type leaseBook struct {
	byOrder  map[string]*Lease
	byHost   map[string][]*Lease
	byTarget map[string][]*Lease
}

func newLeaseBook() leaseBook {
	return leaseBook{byOrder: map[string]*Lease{}, byHost: map[string][]*Lease{}, byTarget: map[string][]*Lease{}}
}

func (b *leaseBook) put(l *Lease) {
	b.remove(l.Order)
	b.byOrder[l.Order] = l
	key := hostKey(l.Host)
	b.byHost[key] = append(b.byHost[key], l)
	if l.Target != "" {
		b.byTarget[l.Target] = append(b.byTarget[l.Target], l)
	}
}

func (b *leaseBook) remove(order string) {
	l := b.byOrder[order]
	if l == nil {
		return
	}
	delete(b.byOrder, order)
	without := func(m map[string][]*Lease, key string) {
		m[key] = slices.DeleteFunc(m[key], func(x *Lease) bool { return x == l })
		if len(m[key]) == 0 {
			delete(m, key)
		}
	}
	without(b.byHost, hostKey(l.Host))
	if l.Target != "" {
		without(b.byTarget, l.Target)
	}
}

// of returns the leases of a machine, whether it is named or known by its id.
func (b *leaseBook) of(host, target string) []*Lease {
	found := b.byHost[hostKey(host)]
	if target == "" {
		return found
	}
	all := slices.Clone(found)
	for _, l := range b.byTarget[target] {
		if !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all
}

// effect returns the order that keeps the machine of an order isolated, or nothing.
func (b *leaseBook) effect(o Order, now time.Time) string {
	for _, l := range b.of(o.Host, o.Intent.Target) {
		if l.Live() && !l.Lapsed(now) {
			return l.Effect
		}
	}
	return ""
}

// holds reports whether a reason keeps the machine of an order isolated.
func (b *leaseBook) holds(o Order, now time.Time) bool { return b.effect(o, now) != "" }

// isolation keeps the leases as an isolation or release makes them.
func (l *Ledger) isolation(o Order, iso IsolateHost, from State, now time.Time, j Journal) error {
	if iso.Action == IsolationOff {
		return l.release(o, from, now, j)
	}
	if o.Actor == ActorLease {
		return l.renewal(o, from, now, j)
	}
	own := l.leases.byOrder[o.ID]
	switch {
	case o.State == StateDuplicate && o.Reason == ReasonLease:
		return l.save(l.newLease(o, o.Covers, now), j)
	case o.State == StateSending && from != StateSending && own == nil:
		return l.save(l.newLease(o, o.ID, now), j)
	case own == nil:
		return nil
	case o.State.CameToNothing():
		return l.endAll(own, LeaseFailed, now, j)
	case (o.State == StateAccepted || o.State == StateDone) && from == StateSending && !own.Live():
		// A release overtook it, and then it was found to have happened all the same: the host has to be released again.
		reopened := *own
		reopened.End, reopened.Ended, reopened.EndedBy, reopened.Until = "", time.Time{}, "", now
		reopened.Tries++
		return l.save(reopened, j)
	case o.State == StateSending && own.Target == "" && o.Intent.Target != "":
		known := *own
		known.Target = o.Intent.Target
		return l.save(known, j)
	}
	return nil
}

func (l *Ledger) newLease(o Order, effect string, now time.Time) Lease {
	le := Lease{
		Order: o.ID, Effect: effect, Host: o.Host, Target: o.Intent.Target, Executor: o.Executor, Rule: o.Rule, Actor: o.Actor, Since: now,
	}
	switch {
	case o.For > 0:
		le.Until = now.Add(o.For)
	case o.For == 0:
		le.Until = now.Add(l.policy.Lease.Default)
	}
	if effect == o.ID {
		le.Isolated = now
	}
	return le
}

func (l *Ledger) save(le Lease, j Journal) error {
	l.leases.put(&le)
	return j.PutLease(le)
}

// endAll ends every lease that rests on an effect that came to nothing.
func (l *Ledger) endAll(own *Lease, end LeaseEnd, now time.Time, j Journal) error {
	effect := own.Order
	for _, le := range slices.Clone(l.leases.of(own.Host, own.Target)) {
		if le.Effect != effect {
			continue
		}
		ended := *le
		ended.End, ended.Ended = end, now
		l.leases.remove(le.Order)
		if err := j.PutLease(ended); err != nil {
			return err
		}
	}
	return nil
}

// release ends the leases of a machine when it is decided, and brings them back when nothing comes of it.
func (l *Ledger) release(o Order, from State, now time.Time, j Journal) error {
	onItsWay := o.State == StateQueued || o.State == StateSending
	settled := o.State == StateAccepted || o.State == StateRunning || o.State == StateDone
	switch {
	case onItsWay && (from == "" || from == StateHeld):
		return l.endBy(o, now, j)
	case settled:
		for _, le := range l.endedBy(o) {
			l.leases.remove(le.Order)
		}
	case o.State.CameToNothing() || o.State == StateUnknown:
		for _, le := range l.endedBy(o) {
			back := *le
			back.End, back.Ended, back.EndedBy = "", time.Time{}, ""
			back.Until = now.Add(leaseRetry)
			back.Tries++
			if err := l.save(back, j); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Ledger) endBy(o Order, now time.Time, j Journal) error {
	end, undone := LeaseReleased, false
	if o.Actor == ActorLease {
		end = LeaseLapsed
	}
	for _, le := range slices.Clone(l.leases.of(o.Host, o.Intent.Target)) {
		if !le.Live() || o.Actor == ActorLease && !le.Lapsed(now) {
			continue
		}
		ended := *le
		ended.End, ended.Ended, ended.EndedBy = end, now, o.ID
		if err := l.save(ended, j); err != nil {
			return err
		}
		undone = undone || le.Rule != ""
	}
	if undone && o.Rule == "" && o.Actor != ActorLease {
		return l.undo(o, now, j)
	}
	return nil
}

func (l *Ledger) endedBy(o Order) []*Lease {
	var found []*Lease
	for _, le := range l.leases.of(o.Host, o.Intent.Target) {
		if le.EndedBy == o.ID {
			found = append(found, le)
		}
	}
	return found
}

// undo counts people who take back what rules did; too many of them mean that a rule is wrong.
func (l *Ledger) undo(o Order, now time.Time, j Journal) error {
	if l.policy.UndoMax <= 0 {
		return nil
	}
	l.undos.add(now, o.ID)
	if err := j.AddFact(Fact{What: FactUndo, Key: hostKey(o.Host), Order: o.ID, At: now, Until: now.Add(l.policy.UndoPer)}); err != nil {
		return err
	}
	since := now.Add(-l.policy.UndoPer)
	keep := since
	if l.fresh.After(since) {
		since = l.fresh
	}
	if n := l.undos.count(since, keep); n > l.policy.UndoMax && !l.hold.Active {
		return l.latch(place(fmt.Sprintf("people released %d hosts within %s that rules had isolated", n, l.policy.UndoPer), l.policy.UndoAt), now, j)
	}
	return nil
}

// Latch puts the bridge on hold on behalf of a guard.
func (l *Ledger) Latch(reason string, now time.Time, j Journal) error {
	if l.hold.Active {
		return nil
	}
	return l.latch(reason, now, j)
}

func (l *Ledger) latch(reason string, now time.Time, j Journal) error {
	h := Hold{Active: true, Reason: reason, Actor: ActorGuard, Since: now}
	l.hold = h
	return j.Latch(h)
}

// ActorGuard is who latches the hold when a budget is used up.
const ActorGuard = "guard"

// renewal keeps track of an order that isolates a host anew.
func (l *Ledger) renewal(o Order, from State, now time.Time, j Journal) error {
	for _, le := range l.leases.of(o.Host, o.Intent.Target) {
		if !le.Live() || le.Effect != le.Order {
			continue
		}
		next := *le
		switch {
		case from == "" && (o.State == StateQueued || o.State == StateSending || o.State == StateHeld):
			next.Renewing = o.ID
			next.Tries++
		case le.Renewing != o.ID:
			continue
		case o.State == StateAccepted || o.State == StateDone:
			next.Renewing, next.Isolated = "", now
		case o.State.End():
			next.Renewing = ""
		default:
			continue
		}
		return l.save(next, j)
	}
	return nil
}

// Due returns what has to be done so that hosts stand as their leases say: one release for each machine whose last reason
// lapsed, one renewal for each that the product would soon release by itself. Leases the product has ended
// by then are recorded so.
func (l *Ledger) Due(now time.Time, j Journal) ([]LeaseTask, error) {
	var due []LeaseTask
	seen := map[*Lease]bool{}
	for _, le := range l.sorted() {
		if seen[le] || !le.Live() {
			continue
		}
		holds := false
		group := l.leases.of(le.Host, le.Target)
		for _, other := range group {
			seen[other] = true
			holds = holds || other.Live() && !other.Lapsed(now)
		}
		if !holds {
			due = append(due, LeaseTask{Lease: *le, Release: true})
			continue
		}
		task, renew, err := l.productEnd(group, now, j)
		if err != nil {
			return nil, err
		}
		if renew {
			due = append(due, task)
		}
	}
	return due, nil
}

// sorted returns the leases in a fixed order, so that the same state always leads to the same orders.
func (l *Ledger) sorted() []*Lease {
	all := make([]*Lease, 0, len(l.leases.byOrder))
	for _, le := range l.leases.byOrder {
		all = append(all, le)
	}
	slices.SortFunc(all, func(a, b *Lease) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		if a.Order < b.Order {
			return -1
		}
		return 1
	})
	return all
}

// productEnd looks whether the product ends the isolation of a machine by itself.
func (l *Ledger) productEnd(group []*Lease, now time.Time, j Journal) (LeaseTask, bool, error) {
	off := l.policy.Lease.ProductOff
	var effect *Lease
	for _, le := range group {
		if le.Live() && le.Effect == le.Order && le.Executor == ExecutorKSC && (effect == nil || le.Isolated.After(effect.Isolated)) {
			effect = le
		}
	}
	if off <= 0 || effect == nil {
		return LeaseTask{}, false, nil
	}
	end := effect.Isolated.Add(off)
	if !now.Before(end) {
		return LeaseTask{}, false, l.productEnded(group, now, j)
	}
	margin := min(off/10, 10*time.Minute)
	if !l.policy.Lease.Reassert || effect.Renewing != "" || now.Before(end.Add(-margin)) {
		return LeaseTask{}, false, nil
	}
	// A reason that lapses before the product would let go needs no renewal.
	for _, le := range group {
		if le.Live() && (le.Until.IsZero() || le.Until.After(end)) {
			return LeaseTask{Lease: *effect}, true, nil
		}
	}
	return LeaseTask{}, false, nil
}

func (l *Ledger) productEnded(group []*Lease, now time.Time, j Journal) error {
	for _, le := range slices.Clone(group) {
		if !le.Live() {
			continue
		}
		ended := *le
		ended.End, ended.Ended = LeaseProduct, now
		l.leases.remove(le.Order)
		if err := j.PutLease(ended); err != nil {
			return err
		}
		note := Note{What: NoteLapsed, Detail: fmt.Sprintf("%s: the product has ended the isolation of order %s by itself", le.Host, le.Effect)}
		if err := j.Record(note); err != nil {
			return err
		}
	}
	return nil
}

// Leases returns every lease in memory, oldest first.
func (l *Ledger) Leases() []Lease {
	var out []Lease
	for _, le := range l.sorted() {
		out = append(out, *le)
	}
	return out
}
