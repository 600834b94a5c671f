package bridge

import (
	"fmt"
	"time"
)

// renewMargin is how long before the product's own end a host is isolated anew, at most.
const renewMargin = 10 * time.Minute

// Due returns what has to be done so that hosts stand as their leases say: one release for each machine whose last reason
// lapsed, one renewal for each that the product would soon release by itself. Leases the product has ended
// by then are recorded so.
func (l *Ledger) Due(now time.Time, j Journal) ([]LeaseTask, error) {
	var due []LeaseTask
	seen := map[string]bool{}
	for _, le := range l.leases.all() {
		if seen[le.Order] || !le.Live() {
			continue
		}
		machine := l.leases.machine(le.Host, le.Target)
		for _, other := range machine {
			seen[other.Order] = true
		}
		task, is, err := l.dueOf(machine, now, j)
		if err != nil {
			return nil, err
		}
		if is {
			due = append(due, task)
		}
	}
	return due, nil
}

// dueOf looks at the leases of one machine, at least one of them live.
func (l *Ledger) dueOf(machine []*Lease, now time.Time, j Journal) (LeaseTask, bool, error) {
	held := holds(machine, now)
	var first *Lease
	tried, wait, moving := false, false, false
	for _, le := range machine {
		moving = moving || le.moving()
		if !le.Live() {
			continue
		}
		if first == nil {
			first = le
		}
		tried = tried || le.Tries > 0
		wait = wait || now.Before(le.Retry)
	}
	effect := lastSent(machine)
	off := l.policy.Lease.ProductOff
	// While an isolation is on its way nobody can tell when the product will end it.
	ends := off > 0 && effect != nil && !moving
	// A host nobody wants isolated any more is released once at least, whatever the product is said to do.
	if ends && (held || tried) && !now.Before(effect.sent().Add(off)) {
		return LeaseTask{}, false, l.productEnded(machine, now, j)
	}
	if !held {
		return LeaseTask{Lease: *first, Release: true}, !wait, nil
	}
	if !ends || wait || !l.policy.Lease.Reassert {
		return LeaseTask{}, false, nil
	}
	end := effect.sent().Add(off)
	if now.Before(end.Add(-min(off/10, renewMargin))) {
		return LeaseTask{}, false, nil
	}
	// A reason that lapses before the product would let go needs no renewal.
	for _, le := range machine {
		if le.Live() && (le.Until.IsZero() || le.Until.After(end)) {
			return LeaseTask{Lease: *effect}, true, nil
		}
	}
	return LeaseTask{}, false, nil
}

// productEnded ends the leases of a machine that KSC isolated.
func (l *Ledger) productEnded(machine []*Lease, now time.Time, j Journal) error {
	for _, le := range machine {
		if !le.Live() || le.Executor != ExecutorKSC {
			continue
		}
		ended := *le
		ended.End, ended.Ended = LeaseProduct, now
		if err := l.save(ended, j); err != nil {
			return err
		}
		note := Note{What: NoteLapsed, Detail: fmt.Sprintf("%s: the product has ended the isolation of order %s by itself", le.Host, le.Effect)}
		if err := j.Record(note); err != nil {
			return err
		}
	}
	return nil
}
