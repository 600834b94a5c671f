package store

import (
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// concerns reports whether some rule of the ledger is about an order that has a way to go. It is asked for every order: most are
// none of the ledger's business and cost nothing for it.
func (w *writer) concerns(o *bridge.Order) bool {
	if o.Task == nil {
		return false
	}
	policy := &w.store.cfg.Policy
	kind := o.Task.Kind()
	if policy.CountsLive() || kind == bridge.KindIsolateHost || o.State == bridge.StateHeld && bridge.Approvable(o.Reason) {
		return true
	}
	for i := range policy.Limits {
		if policy.Limits[i].Covers(kind) {
			return true
		}
	}
	return false
}

// judgeBegin asks the ledger about an order that is about to enter StateSending. latch is why the hold has to be latched once the
// order is stored.
func (t *tx) judgeBegin(r *orderRow) (latch string, err error) {
	o := &r.order
	if !t.w.concerns(o) {
		// The hold concerns every order that has an effect.
		h, err := t.hold()
		if err != nil || !h.Active || o.Task == nil {
			return "", err
		}
	}
	l, err := t.ledger()
	if err != nil {
		return "", err
	}
	j := l.Begin(*o, t.now)
	if j.State != bridge.StateQueued {
		r.judged(j)
	}
	return j.Latch, nil
}

// after tells the ledger of an order that was stored, and does what follows from it. from is empty for a new one.
func (t *tx) after(r *orderRow, from bridge.State, latch string) (asked bool, err error) {
	o := &r.order
	if latch != "" {
		l, err := t.ledger()
		if err != nil {
			return false, err
		}
		if err := l.Latch(latch, t.now, t); err != nil {
			return false, err
		}
	}
	switch {
	case o.Task == nil:
		// The ledger judges by the task; what it must know about this order it learns when it is loaded again.
		t.w.forget()
		return false, nil
	case from == "" && o.State.End() && o.Reason != bridge.ReasonLease && o.Actor != bridge.ActorLease, !t.w.concerns(o):
		return false, nil
	}
	l, err := t.ledger()
	if err != nil {
		return false, err
	}
	if asked, err = l.Moved(*o, from, t.now, t); err != nil {
		return false, err
	}
	if asked {
		t.audit(AuditRecord{What: bridge.NoteAsk, Detail: cut("order " + o.ID + ", host " + o.Host)})
	}
	if bridge.IsRelease(o.Task) && o.State != from {
		err = t.released(r)
	}
	begins := o.State != from && (o.State == bridge.StateQueued || o.State == bridge.StateSending)
	if err == nil && begins && o.Task.Kind() == bridge.KindIsolateHost {
		err = t.turned(r)
	}
	return asked, err
}

// due returns when the order has to leave its state. A change of fields alone gives it no more time.
func (t *tx) due(o *bridge.Order, from bridge.State) time.Time {
	due := asTime(nanos(t.w.store.cfg.Policy.Due(*o, t.now)))
	if from == o.State && !o.Due.IsZero() && o.Due.Before(due) && !due.Equal(o.NotAfter) {
		return o.Due
	}
	return due
}
