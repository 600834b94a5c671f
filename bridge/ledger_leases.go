package bridge

import (
	"fmt"
	"slices"
	"time"
)

// A lease is written when its order is being sent, or becomes a reason more for an isolation that is known to have been taken. An
// isolation on its way covers no other order: if it came to nothing, the reason would be lost with it. A lease ends when a
// release is decided and comes back when nothing comes of the release, so the host is released again. Of an
// isolation and a release that are being sent at once nobody knows which the host saw last: if both happened, the host
// is released once more.

// happened reports whether an order that was being sent may have had its effect.
func happened(s State) bool {
	return s == StateAccepted || s == StateRunning || s == StateDone || s == StateUnknown
}

// isolation keeps the leases as an order that isolates a host makes them.
func (l *Ledger) isolation(o Order, from State, now time.Time, j Journal) error {
	own := l.leases.byOrder[o.ID]
	switch {
	case o.State == StateDuplicate && o.Reason == ReasonLease:
		return l.save(l.newLease(o, o.Covers, now), j)
	case o.State == StateSending && from != StateSending:
		return l.save(l.newLease(o, o.ID, now), j)
	case from == StateSending && happened(o.State):
		return l.isolated(o, own, now, j)
	case own != nil && (o.State.CameToNothing() || from == StateSending && o.State != StateSending):
		return l.cameToNothing(own, now, j)
	default:
		return nil
	}
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
	if by := l.leases.byOrder[effect]; by != nil && effect != o.ID {
		// Whoever isolated the host has to release it.
		le.Target, le.Executor = by.Target, by.Executor
	}
	return le
}

func (l *Ledger) save(le Lease, j Journal) error {
	if le.Kept() {
		l.leases.put(&le)
	} else {
		l.leases.remove(le.Order)
	}
	return j.PutLease(le)
}

// isolated takes note that an isolation happened, or may have.
func (l *Ledger) isolated(o Order, own *Lease, now time.Time, j Journal) error {
	if own == nil {
		return l.unwanted(o, now, j)
	}
	next := *own
	next.Isolated = own.Since
	if o.State == StateUnknown {
		next.Effect = ""
	}
	return l.save(next, j)
}

// unwanted makes sure that a host is released that was isolated after everything that asked for it was taken back.
func (l *Ledger) unwanted(o Order, now time.Time, j Journal) error {
	le := l.newLease(o, o.ID, now)
	le.Until, le.Isolated = now, now
	if o.State == StateUnknown {
		le.Effect = ""
	}
	return l.save(le, j)
}

// cameToNothing ends the leases that rest on an isolation that did not happen. A host that is isolated all the same stays
// so for the reasons that are left.
func (l *Ledger) cameToNothing(own *Lease, now time.Time, j Journal) error {
	if own.Isolated.After(own.Since) {
		return nil // another order isolated the host anew since
	}
	machine := l.leases.machine(own.Host, own.Target)
	l.leases.remove(own.Order)
	other := latest(l.leases.machine(own.Host, own.Target))
	for _, le := range machine {
		if le.Effect != own.Order {
			continue
		}
		next := *le
		switch {
		case le != own && other != nil:
			next.Effect, next.Target, next.Executor = other.Order, other.Target, other.Executor
		case le.Live():
			next.End, next.Ended = LeaseFailed, now
		default:
			next.leave()
		}
		if err := l.save(next, j); err != nil {
			return err
		}
	}
	return nil
}

// release ends the leases of a machine when it is decided, and brings them back when nothing comes of it.
func (l *Ledger) release(o Order, from State, now time.Time, j Journal) error {
	switch {
	case (o.State == StateQueued || o.State == StateSending) && from != StateSending:
		// Once more when it begins: only then is it known by which names the host goes.
		return l.endBy(o, now, j)
	case o.State == StateQueued:
		return l.eachEndedBy(o.ID, j, func(le *Lease) { le.Sent, le.Crossed = false, false })
	case o.State == StateSending:
		return nil
	case o.State == StateAccepted || o.State == StateRunning || o.State == StateDone || o.State == StateUnknown && from != StateSending:
		return l.eachEndedBy(o.ID, j, func(le *Lease) { le.released(o.State, now) })
	case from == "" && o.Actor == ActorLease:
		return l.putOff(o, now, j)
	default:
		return l.bringBack(o, now, j)
	}
}

func (l *Ledger) eachEndedBy(release string, j Journal, change func(*Lease)) error {
	for _, le := range l.leases.endedBy(release) {
		next := *le
		change(&next)
		if err := l.save(next, j); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) endBy(o Order, now time.Time, j Journal) error {
	end, undone := LeaseReleased, false
	if o.Actor == ActorLease {
		end = LeaseLapsed
	}
	for _, le := range l.leases.machine(o.Host, o.Intent.Target) {
		next := *le
		switch {
		case le.EndedBy != "" && !le.Sent && o.State == StateSending:
			next.EndedBy = o.ID // the release that goes first decides
		case !le.Live() || o.Actor == ActorLease && !le.Lapsed(now):
			continue
		default:
			undone = undone || le.Rule != "" && !le.Lapsed(now)
			next.End, next.Ended, next.EndedBy = end, now, o.ID
		}
		next.Sent = o.State == StateSending
		next.Crossed = next.Sent && le.moving()
		if err := l.save(next, j); err != nil {
			return err
		}
	}
	if undone && o.Rule == "" && o.Actor != ActorLease {
		return l.undo(o, now, j)
	}
	return nil
}

// bringBack makes the leases hold again that a release ended of which nothing came.
func (l *Ledger) bringBack(o Order, now time.Time, j Journal) error {
	return l.eachEndedBy(o.ID, j, func(le *Lease) {
		le.reopen()
		switch o.State {
		case StateCancelled:
			// Taken back by a person, or by a newer reason: everything is as before.
		case StateRefused, StateHeld:
			le.tryLater(now)
		default:
			le.lapse(now)
			le.tryLater(now)
		}
	})
}

// putOff makes the leases wait whose release or renewal was not even admitted.
func (l *Ledger) putOff(o Order, now time.Time, j Journal) error {
	for _, le := range l.leases.machine(o.Host, o.Intent.Target) {
		if !le.Live() {
			continue
		}
		next := *le
		next.Tries++
		next.tryLater(now)
		if err := l.save(next, j); err != nil {
			return err
		}
	}
	return nil
}

// renewal keeps track of an order that isolates a host anew.
func (l *Ledger) renewal(o Order, from State, now time.Time, j Journal) error {
	le := l.leases.renewing(o.ID)
	switch {
	case from == "" && o.State.End():
		return l.putOff(o, now, j)
	case from == "":
		if le = lastSent(l.leases.machine(o.Host, o.Intent.Target)); le == nil {
			return nil
		}
		next := *le
		next.Renewing = o.ID
		return l.save(next, j)
	case from == StateSending && happened(o.State):
		return l.renewed(o, le, now, j)
	case o.State == StateFailed && le == nil:
		return l.notRenewed(o, now, j)
	case !o.State.End() || le == nil:
		return nil
	}
	next := *le
	next.Renewing = ""
	next.Tries++
	next.tryLater(now)
	return l.save(next, j)
}

func (l *Ledger) renewed(o Order, le *Lease, now time.Time, j Journal) error {
	if le == nil {
		if slices.ContainsFunc(l.leases.machine(o.Host, o.Intent.Target), isLive) {
			return nil
		}
		return l.unwanted(o, now, j)
	}
	next := *le
	next.Renewing, next.Isolated, next.Tries, next.Retry = "", o.Intent.Second, 0, time.Time{}
	if next.Isolated.IsZero() {
		next.Isolated = now
	}
	next.Effect = le.Order
	return l.save(next, j)
}

// notRenewed takes back what renewed believed of an order that KSC took and the host did not do.
func (l *Ledger) notRenewed(o Order, now time.Time, j Journal) error {
	if o.Intent.Second.IsZero() {
		return nil
	}
	for _, le := range l.leases.machine(o.Host, o.Intent.Target) {
		if !le.Live() || !le.Isolated.Equal(o.Intent.Second) {
			continue
		}
		next := *le
		next.Isolated = le.Since
		next.Tries++
		next.tryLater(now)
		return l.save(next, j)
	}
	return nil
}

// undo counts hosts that people release although rules want them isolated; too many of them mean that a rule is wrong.
func (l *Ledger) undo(o Order, now time.Time, j Journal) error {
	if l.policy.UndoMax <= 0 {
		return nil
	}
	f := Fact{What: FactUndo, Key: hostKey(o.Host), Order: o.ID, At: l.notBefore(now), Until: now.Add(l.policy.UndoPer)}
	l.countUndo(f)
	if err := j.AddFact(f); err != nil {
		return err
	}
	if n := l.undos.count(now.Add(-l.policy.UndoPer)); n > l.policy.UndoMax && !l.hold.Active {
		return l.latch(ActorUndo, place(fmt.Sprintf("people released %d hosts within %s that rules had isolated", n, l.policy.UndoPer), l.policy.UndoAt), now, j)
	}
	return nil
}

// countUndo counts a host once, however many releases it took.
func (l *Ledger) countUndo(f Fact) {
	l.undos.drop(f.Key)
	l.undos.add(f.At, f.Key)
}

// Latch puts the bridge on hold on behalf of a guard.
func (l *Ledger) Latch(reason string, now time.Time, j Journal) error {
	if l.hold.Active {
		return nil
	}
	return l.latch(ActorGuard, reason, now, j)
}

func (l *Ledger) latch(actor, reason string, now time.Time, j Journal) error {
	h := Hold{Active: true, Reason: reason, Actor: actor, Since: now}
	l.hold = h
	return j.Latch(h)
}

// Who latches the hold: ActorGuard when a budget is used up, ActorUndo when people took too much back.
const (
	ActorGuard = "guard"
	ActorUndo  = "guard:undo"
)

// Leases returns every lease in memory, oldest first.
func (l *Ledger) Leases() []Lease {
	var out []Lease
	for _, le := range l.leases.all() {
		out = append(out, *le)
	}
	return out
}
