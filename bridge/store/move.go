package store

import (
	"context"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// maxPlaces bounds the memory of writer.places.
const maxPlaces = 4096

const (
	selectPlace = `SELECT seq, state, intent_key, intent_second FROM orders WHERE id = ?`
	updateOrder = `UPDATE orders SET state = ?, owner = ?, updated = ?, reason = ?, detail = ?, covers = ?, executor = ?, attempts = ?,
	ref = ?, not_after = ?, mode = ?, via = ?, lasts = ?, subject = ?, intent_names = ?, due = ?, approval = ?, trail = trail || ',' || ?
	WHERE seq = ? AND id = ? AND state = ? AND intent_key IS ? AND intent_second IS ?`
	updateIntent = `UPDATE orders SET intent_target = ?, intent_second = ?, intent_key = ?, intent_body = ? WHERE seq = ?`
	closeWindow  = `UPDATE orders SET dedupe_until = NULL WHERE seq = ? AND dedupe_until IS NOT NULL`
)

// Move implements bridge.Store. It stores State, Reason, Detail, Covers, Executor, Attempts, Ref, NotAfter, Mode, Via,
// For, Subject, Approval and Intent of o and fills in Updated and Due; what an order is (host, task, origin, window) never changes.
// An order that is to enter StateSending is judged by the guards of Config.Policy first; State, Reason, Detail and Covers
// of the answer say what they made of it. A change that is no row of bridge.Transitions is an error; fields alone may change in
// any state. The order belongs to the Owner of this store from then on. An unknown id is bridge.ErrNotFound.
func (s *Store) Move(ctx context.Context, o bridge.Order, from bridge.State) (bridge.Order, error) {
	if err := s.lawful(o.ID, from, o.State); err != nil {
		return bridge.Order{}, err
	}
	ready, err := newOrderRow(o, s.cfg.Owner)
	if err != nil {
		return bridge.Order{}, fmt.Errorf("move: %w", err)
	}
	var out bridge.Order
	err = s.do(ctx, func(t *tx) error {
		row := ready // a copy: the transaction may be tried twice
		err := t.move(&row, from)
		out = row.order
		return err
	})
	if err != nil {
		return bridge.Order{}, err
	}
	return out, nil
}

// step is a change of an order's state.
type step struct{ from, to bridge.State }

// steps returns the rows of the state machine.
func steps() map[step]bridge.Event {
	out := make(map[step]bridge.Event)
	for _, t := range bridge.Transitions() {
		out[step{t.From, t.To}] = bridge.EventOf(t.From, t.To)
	}
	return out
}

// lawful refuses what the state machine has no row for.
func (s *Store) lawful(id string, from, to bridge.State) error {
	if from == to || s.steps[step{from, to}] != "" {
		return nil
	}
	return fmt.Errorf("move order %s from %s to %s: orders never go this way", id, from, to)
}

// move changes an order as Store.Move does.
func (t *tx) move(r *orderRow, from bridge.State) error {
	o := &r.order
	o.Updated = t.now
	var latch string
	if o.State == bridge.StateSending && from != bridge.StateSending {
		var err error
		if latch, err = t.judgeBegin(r); err != nil {
			return err
		}
		if err := t.w.store.lawful(o.ID, from, o.State); err != nil {
			return err
		}
	}
	o.Due = t.due(o, from)
	if err := t.store(r, from); err != nil {
		return err
	}
	_, err := t.after(r, from, latch)
	return err
}

// store writes the order over what is in the file if that is still in the state from.
func (t *tx) store(r *orderRow, from bridge.State) error {
	o := &r.order
	nothing := o.State.CameToNothing() && !from.CameToNothing()
	if seq, ok := t.w.places[o.ID]; ok && !nothing {
		// Most moves follow the admission at once and leave the intent as it is: one statement that checks all of it.
		r.seq = seq
		if n, err := t.update(r, from); err != nil || n == 1 {
			return err
		}
	}
	place, err := t.first(selectPlace, o.ID)
	if err != nil {
		return err
	}
	if place == nil {
		return refusal{fmt.Errorf("move order %s: %w", o.ID, bridge.ErrNotFound)}
	}
	if state := bridge.State(asText(place[1])); state != from {
		return refusal{fmt.Errorf("move order %s from %s to %s: it is %s: %w", o.ID, from, o.State, state, bridge.ErrStale)}
	}
	r.seq = asInt(place[0])
	t.w.place(o.ID, r.seq)
	if place[2] != r.keyValue() || place[3] != nanos(o.Intent.Second) {
		run, err := t.freeSecond(r)
		if err != nil {
			return err
		}
		if _, err := t.run(updateIntent, text(o.Intent.Target), nanos(o.Intent.Second), r.keyValue(), text(o.Intent.Body), r.seq); err != nil {
			return err
		}
		t.w.slots.remember(r.key, run)
	}
	if nothing {
		if _, err := t.run(closeWindow, r.seq); err != nil {
			return err
		}
	}
	n, err := t.update(r, from)
	if err == nil && n != 1 {
		err = fmt.Errorf("move order %s: %d rows changed", o.ID, n)
	}
	return err
}

// update stores what Move may change if the row is still as expected, and records the change.
func (t *tx) update(r *orderRow, from bridge.State) (int64, error) {
	o := &r.order
	n, err := t.run(updateOrder, string(o.State), r.owner, nanos(o.Updated), text(o.Reason), text(o.Detail), text(o.Covers),
		text(o.Executor), number(o.Attempts), text(o.Ref), nanos(o.NotAfter), text(o.Mode), text(o.Via), number(o.For),
		text(string(r.subject)), text(string(r.names)), nanos(o.Due), text(string(r.approval)), t.nextAudit(), r.seq, o.ID, string(from),
		r.keyValue(), nanos(o.Intent.Second))
	if err == nil && n == 1 {
		t.audit(r.record(AuditMove, from, o.State))
	}
	return n, err
}

// place remembers where an order stands, so that the next move need not look for it. Whether it is still there
// is checked by the statement that uses it.
func (w *writer) place(id string, seq int64) {
	if w.places == nil || len(w.places) >= maxPlaces {
		w.places = make(map[string]int64, maxPlaces)
	}
	w.places[id] = seq
}
