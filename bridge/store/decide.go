package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Decide implements bridge.Desk: it approves or rejects a held order. An approved order belongs to the running bridge from then on.
// Errors wrap bridge.ErrNotApprovable, bridge.ErrNotFound and bridge.ErrAmbiguous.
func (s *Store) Decide(ctx context.Context, d bridge.Decision) (bridge.Order, error) {
	return s.decide(ctx, d.Order, d.Actor, func(t *tx, o bridge.Order) (bridge.Order, error) {
		return bridge.Decide(o, d, s.cfg.Policy.FourEyes, t.now, s.cfg.NotAfter(o, t.now))
	})
}

// Cancel implements bridge.Desk. Errors wrap bridge.ErrStale when the order has begun or ended, bridge.ErrNotFound and
// bridge.ErrAmbiguous.
func (s *Store) Cancel(ctx context.Context, id, actor, why string) (bridge.Order, error) {
	if actor == "" {
		return bridge.Order{}, errors.New("cancel: says not who")
	}
	return s.decide(ctx, id, actor, func(_ *tx, o bridge.Order) (bridge.Order, error) {
		if o.State != bridge.StateHeld && o.State != bridge.StateQueued {
			return o, fmt.Errorf("cancel order %s: it is %s: %w", o.ID, o.State, bridge.ErrStale)
		}
		o.State, o.Reason, o.Detail = bridge.StateCancelled, bridge.ReasonNone, "cancelled by "+actor
		if why != "" {
			o.Detail += ": " + why
		}
		return o, nil
	})
}

// decide commits what a person says about an order. An error of word is the person's to read, nothing is changed then.
func (s *Store) decide(ctx context.Context, id, actor string, word func(t *tx, o bridge.Order) (bridge.Order, error)) (bridge.Order, error) {
	var out bridge.Order
	err := s.do(ctx, func(t *tx) error {
		o, err := t.conn.order(t.ctx, id)
		if err != nil {
			return refused(err)
		}
		from := o.State
		if o, err = word(t, o); err != nil {
			return refusal{err}
		}
		out, err = t.change(o, from, actor)
		return err
	})
	if err != nil {
		return bridge.Order{}, err
	}
	return out, nil
}

// change moves an order as the store itself or a person at the desk decided; it is the running bridge's to go on with.
func (t *tx) change(o bridge.Order, from bridge.State, approver string) (bridge.Order, error) {
	row, err := newOrderRow(o, OwnerRun)
	if err != nil {
		return o, refusal{fmt.Errorf("move: %w", err)}
	}
	if approver != "" {
		row.approver = approver
	}
	err = t.move(&row, from)
	return row.order, err
}

// refused marks the errors of a look-up that are the caller's; others are the file's.
func refused(err error) error {
	if errors.Is(err, bridge.ErrNotFound) || errors.Is(err, bridge.ErrAmbiguous) {
		return refusal{err}
	}
	return err
}
