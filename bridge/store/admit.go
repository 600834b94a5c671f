package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// intentStep is how far apart in time equal bodies for one host are kept, so that a search for one never finds the other.
const intentStep = 5 * time.Second

const (
	insertAlert = `INSERT INTO alerts (seq, source, id, preset, tenant, in_case, received, raw_of, raw) VALUES (?,?,?,?,?,?,?,?,?)`
	insertOrder = `INSERT INTO orders (seq, id, state, owner, admitted, updated, alert, alert_id, source, rule, at, actor, host,
	task, params, subject, mode, via, lasts, dedupe, dedupe_window, dedupe_until, alert_time, created, not_after, reason, detail,
	covers, executor, attempts, ref, intent_target, intent_names, intent_second, intent_key, intent_body, due, approval, isolates, trail)
	VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`
	// A duplicate with a window is one reason more for what another order does: it covers as long as that one came to something.
	selectLive = `SELECT id FROM orders o WHERE dedupe = ? AND dedupe_until > ? AND (state <> 'duplicate' OR EXISTS (
	SELECT 1 FROM orders e WHERE e.id = o.covers AND e.state NOT IN ('refused', 'failed', 'expired', 'cancelled'))) LIMIT 1`
)

// admission is an Admission made ready for the writer.
type admission struct {
	alerts []alertRow
	orders []orderRow
}

type alertRow struct {
	bridge.Alert
	digest []byte
	seq    int64
	sameAs int // index of the alert with the same document, or its own
}

// Admit implements bridge.Store. Every order needs an id and a state; what the store fills in is Updated, Due, Created when
// it is zero, and what the window and the guards of Config.Policy make of it: State, Reason, Detail and Covers. A window is
// opened by the first order that is held or on its way, or that became one more reason of a lease, and lasts from then; other
// refused, shadow and duplicate orders open none, and one that came to nothing (refused, failed, expired, cancelled)
// covers nothing more. An admission whose orders are all known adds nothing, its alerts included. Intent.Second has whole seconds;
// only orders that enter as sending keep Intent.Second and Intent.Body.
func (s *Store) Admit(ctx context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	ready, err := prepareAdmission(a, s.cfg.Owner)
	if err != nil {
		return nil, fmt.Errorf("admit: %w", err)
	}
	var out []bridge.Admitted
	err = s.do(ctx, func(t *tx) error {
		var err error
		out, err = t.admit(ready)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// prepareAdmission does what needs no transaction, so that the writer does not have to.
func prepareAdmission(a bridge.Admission, owner string) (admission, error) {
	var ready admission
	var errs []error
	for i := range a.Alerts {
		row := alertRow{Alert: a.Alerts[i], sameAs: i}
		for j := range i {
			if ready.alerts[j].sameAs == j && bytes.Equal(ready.alerts[j].Raw, row.Raw) {
				row.sameAs, row.digest = j, ready.alerts[j].digest
				break
			}
		}
		if row.digest == nil {
			sum := sha256.Sum256(row.Raw)
			row.digest = sum[:]
		}
		if len(row.Raw) > maxStored {
			errs = append(errs, fmt.Errorf("alert %d: document of %d bytes: at most %d are stored", i, len(row.Raw), maxStored))
		}
		ready.alerts = append(ready.alerts, row)
	}
	for i := range a.Orders {
		row, err := newOrderRow(a.Orders[i], owner)
		if err != nil {
			errs = append(errs, fmt.Errorf("order %d: %w", i, err))
			continue
		}
		for j := range a.Alerts {
			if o := &a.Orders[i]; a.Alerts[j].ID == o.AlertID && a.Alerts[j].Source == o.Source {
				row.alert = j + 1
				break
			}
		}
		ready.orders = append(ready.orders, row)
	}
	return ready, errors.Join(errs...)
}

func (t *tx) admit(a admission) ([]bridge.Admitted, error) {
	out := make([]bridge.Admitted, 0, len(a.orders))
	for i := range a.alerts {
		a.alerts[i].seq = t.lastAlert + int64(i) + 1
	}
	added := len(a.orders) == 0
	for i := range a.orders {
		row := a.orders[i] // a copy: the transaction may be tried twice
		var digest []byte
		if row.alert > 0 {
			row.alertSeq, digest = a.alerts[row.alert-1].seq, a.alerts[row.alert-1].digest
		}
		ad, err := t.admitOrder(&row, digest)
		if err != nil {
			return nil, err
		}
		added = added || !ad.Known
		out = append(out, ad)
	}
	if !added {
		return out, nil
	}
	for i := range a.alerts {
		al := &a.alerts[i]
		raw, rawOf := blob(al.Raw), number(int64(0))
		if al.sameAs != i {
			raw, rawOf = nil, a.alerts[al.sameAs].seq
		}
		if _, err := t.run(insertAlert, al.seq, text(al.Source), text(al.ID), text(al.Preset), text(al.Tenant), text(al.Case), nanos(al.Received), rawOf, raw); err != nil {
			return nil, err
		}
	}
	t.lastAlert += int64(len(a.alerts))
	return out, nil
}

func (t *tx) admitOrder(r *orderRow, digest []byte) (bridge.Admitted, error) {
	o := &r.order
	o.Updated = t.now
	if o.Created.IsZero() {
		o.Created = t.now
	}
	if o.Strike != "" {
		// Alerts are counted, so a redelivery has to be told before the guards are asked. Other guards only look until the order is in.
		known, err := t.first(selectOrder+` WHERE id = ?`, o.ID)
		if err != nil {
			return bridge.Admitted{}, err
		}
		if known != nil {
			return bridge.Admitted{Order: scanOrder(known), Known: true}, nil
		}
	}
	latch, err := t.judgeNew(r)
	if err != nil {
		return bridge.Admitted{}, err
	}
	o.Due = t.due(o, "")
	run, err := t.freeSecond(r)
	if err != nil {
		return bridge.Admitted{}, err
	}
	r.seq, r.trail = t.lastOrder+1, t.nextAudit()
	n, err := t.run(insertOrder, r.insertArgs()...)
	if err != nil {
		return bridge.Admitted{}, err
	}
	if n == 0 {
		stored, err := t.order(o.ID)
		return bridge.Admitted{Order: stored, Known: true}, err
	}
	t.lastOrder = r.seq
	t.w.slots.remember(r.key, run)
	rec := r.record(AuditAdmit, "", o.State)
	rec.Alert = digest
	t.audit(rec)
	t.w.place(o.ID, r.seq)
	asked, err := t.after(r, "", latch)
	return bridge.Admitted{Order: *o, Asked: asked}, err
}

// judgeNew asks the windows, then the ledger about an order that is not in the store. latch is why the hold has to be
// latched once it is.
func (t *tx) judgeNew(r *orderRow) (latch string, err error) {
	o := &r.order
	opens := o.Dedupe != "" && o.State != bridge.StateRefused && o.State != bridge.StateDuplicate
	// An isolation is a reason to keep its host isolated even when its window is open: the ledger comes first for it.
	isolates := bridge.IsIsolation(o.Task)
	if isolates {
		if err := t.judgeMemory(r); err != nil {
			return "", err
		}
	}
	if opens && (!isolates || !o.State.End()) {
		live, err := t.first(selectLive, o.Dedupe, nanos(t.now))
		if err != nil {
			return "", err
		}
		if live != nil {
			verdict := bridge.Verdict{State: bridge.StateDuplicate, Reason: bridge.ReasonDedupe, Detail: o.Detail}
			r.judged(bridge.Judgement{Verdict: verdict, Covers: asText(live[0])})
			return "", nil
		}
	}
	if !isolates {
		if err := t.judgeMemory(r); err != nil {
			return "", err
		}
	}
	if o.State == bridge.StateSending {
		if latch, err = t.judgeBegin(r); err != nil {
			return "", err
		}
	}
	reason := o.State == bridge.StateDuplicate && o.Reason == bridge.ReasonLease
	if opens && o.Window > 0 && (reason || !o.State.End()) {
		r.dedupeUntil = t.now.Add(o.Window)
	}
	return latch, nil
}

// judgeMemory asks the ledger about a new order if some rule of it is about the order.
func (t *tx) judgeMemory(r *orderRow) error {
	o := &r.order
	if o.Strike == "" && (o.State.End() || !t.w.concerns(o)) {
		return nil
	}
	l, err := t.ledger()
	if err != nil {
		return err
	}
	j, err := l.Admit(*o, t.now, t)
	if err == nil && j.State != bridge.StateQueued {
		r.judged(j)
	}
	return err
}

// order reads the whole order of an id.
func (t *tx) order(id string) (bridge.Order, error) {
	row, err := t.first(selectOrder+` WHERE id = ?`, id)
	if err != nil {
		return bridge.Order{}, err
	}
	if row == nil {
		return bridge.Order{}, fmt.Errorf("order %s: %w", id, bridge.ErrNotFound)
	}
	return scanOrder(row), nil
}
