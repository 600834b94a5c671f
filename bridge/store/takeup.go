package store

import (
	"cmp"
	"context"
	"database/sql/driver"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// takeUpChunk is how many orders one transaction takes up, so that alerts do not wait long behind it.
	takeUpChunk = 256
	// maxTaken bounds how many queued orders are counted as if KSC had them already; there is no room behind so many anyway.
	maxTaken        = 1000
	selectQueuedKSC = `SELECT id, coalesce(intent_target, host) FROM orders INDEXED BY orders_state WHERE state = 'queued' AND executor = 'ksc' ORDER BY seq LIMIT ?`
)

// TakeUp implements bridge.Cabinet. It takes orders held for ReasonHold, ReasonLimit and ReasonLiveTasks, the latter as far as KSC has room beside
// what is queued for it; under a hold it does nothing. Others, and those that have moved on, are left alone. It
// commits in parts; what a later part could not do is in the error.
func (s *Store) TakeUp(ctx context.Context, orders []bridge.Order) ([]bridge.Order, error) {
	var taken []bridge.Order
	for len(orders) > 0 {
		n := min(len(orders), takeUpChunk)
		var part []bridge.Order
		err := s.do(ctx, func(t *tx) error {
			var err error
			part, err = t.takeUp(orders[:n])
			return err
		})
		if err != nil {
			return taken, err
		}
		taken, orders = append(taken, part...), orders[n:]
	}
	return taken, nil
}

func (t *tx) takeUp(orders []bridge.Order) (taken []bridge.Order, err error) {
	hold, err := t.hold()
	if err != nil || hold.Active {
		return nil, err
	}
	var room *bridge.Ledger
	for _, known := range orders {
		row, err := t.first(selectOrder+` WHERE id = ?`, known.ID)
		if err != nil {
			return nil, err
		}
		if row == nil {
			continue
		}
		o := scanOrder(row)
		if o.State != bridge.StateHeld || o.Reason != bridge.ReasonHold && o.Reason != bridge.ReasonLimit && o.Reason != bridge.ReasonLiveTasks {
			continue
		}
		if bridge.IsIsolation(o.Task) {
			by, err := t.releasedBy(o)
			if err != nil {
				return nil, err
			}
			if by != "" {
				o.State, o.Reason, o.Detail = bridge.StateCancelled, bridge.ReasonNone, "released meanwhile by "+by
				if _, err := t.change(o, bridge.StateHeld, ""); err != nil {
					return nil, err
				}
				continue
			}
		}
		if o.Reason == bridge.ReasonLiveTasks && o.Task != nil {
			if room == nil {
				if room, err = t.room(); err != nil {
					return nil, err
				}
			}
			if !room.Room(o) {
				continue
			}
			room.RestoreLive(o.ID, cmp.Or(o.Intent.Target, o.Host))
		}
		o.Detail = "taken up again, it was held for " + string(o.Reason)
		o.State, o.Reason = bridge.StateQueued, bridge.ReasonNone
		if o, err = t.change(o, bridge.StateHeld, ""); err != nil {
			return nil, err
		}
		taken = append(taken, o)
	}
	return taken, nil
}

// room returns a ledger that counts what KSC has not finished and what is queued for it: both will take its places.
func (t *tx) room() (*bridge.Ledger, error) {
	l := bridge.NewLedger(bridge.Policy{Live: t.w.store.cfg.Policy.Live})
	restore := func(row []driver.Value) error {
		l.RestoreLive(asText(row[0]), asText(row[1]))
		return nil
	}
	if err := t.each(selectAtKSC, nil, restore); err != nil {
		return nil, err
	}
	return l, t.each(selectQueuedKSC, []driver.Value{int64(maxTaken)}, restore)
}
