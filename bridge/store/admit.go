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
	insertAlert = `INSERT INTO alerts (seq, source, id, preset, received, raw_of, raw) VALUES (?,?,?,?,?,?,?)`
	insertOrder = `INSERT INTO orders (seq, id, state, owner, admitted, updated, alert, alert_id, source, rule, at, actor, host,
	task, params, subject, mode, via, lasts, dedupe, dedupe_window, dedupe_until, alert_time, created, not_after, reason, detail,
	covers, executor, attempts, ref, intent_target, intent_names, intent_second, intent_key, intent_body)
	VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`
	selectLive = `SELECT id FROM orders WHERE dedupe = ? AND dedupe_until > ? LIMIT 1`
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

// Admit implements bridge.Store. Every order needs an id and a state; what the store fills in is Updated, Created when
// it is zero, and for a duplicate State, Reason (ReasonDedupe) and Covers. A window is opened by the first order
// that is held or on its way and lasts from then; refused, shadow and duplicate orders open none, and one that came
// to nothing (refused, failed, expired, cancelled) covers nothing more. An admission whose orders are all known adds
// nothing, its alerts included. Intent.Second has whole seconds.
func (s *Store) Admit(ctx context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	ready, err := prepareAdmission(a)
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
func prepareAdmission(a bridge.Admission) (admission, error) {
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
		row, err := newOrderRow(a.Orders[i])
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
		if _, err := t.run(insertAlert, al.seq, text(al.Source), text(al.ID), text(al.Preset), nanos(al.Received), rawOf, raw); err != nil {
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
	if o.Dedupe != "" && o.State != bridge.StateRefused && o.State != bridge.StateDuplicate {
		live, err := t.first(selectLive, o.Dedupe, nanos(t.now))
		if err != nil {
			return bridge.Admitted{}, err
		}
		switch {
		case live != nil:
			o.State, o.Reason, o.Covers = bridge.StateDuplicate, bridge.ReasonDedupe, asText(live[0])
		case o.Window > 0 && o.State != bridge.StateShadow:
			r.dedupeUntil = t.now.Add(o.Window)
		}
	}
	run, err := t.freeSecond(r)
	if err != nil {
		return bridge.Admitted{}, err
	}
	r.seq = t.lastOrder + 1
	n, err := t.run(insertOrder, r.insertArgs(t.w.store.cfg.Owner)...)
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
	return bridge.Admitted{Order: *o}, nil
}

// order reads the whole order of an id.
func (t *tx) order(id string) (bridge.Order, error) {
	row, err := t.first(selectOrder+` WHERE id = ?`, id)
	if err != nil {
		return bridge.Order{}, err
	}
	if row == nil {
		return bridge.Order{}, fmt.Errorf("order %s: %w", id, ErrNotFound)
	}
	return scanOrder(row), nil
}
