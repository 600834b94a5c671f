package store

import (
	"database/sql/driver"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// Of one host by its name or, where that is known, by its id at KSC.
	ofHost   = ` FROM orders INDEXED BY orders_host WHERE isolates = ? AND state IN `
	ofTarget = ` FROM orders INDEXED BY orders_target WHERE isolates IS NOT NULL AND intent_target = ? AND state IN `

	waiting  = `('queued', 'held')`
	underWay = `('queued', 'sending', 'accepted', 'running', 'done', 'unknown')`
)

// released does what follows from a release that came to another state.
func (t *tx) released(r *orderRow) error {
	switch r.order.State {
	case bridge.StateQueued, bridge.StateSending:
		if r.order.Actor == bridge.ActorLease {
			return nil // a reason that lapsed takes nothing from another
		}
		return t.cancelWaiting(r)
	case bridge.StateAccepted, bridge.StateRunning, bridge.StateDone, bridge.StateRefused, bridge.StateDuplicate, bridge.StateShadow, bridge.StateHeld, bridge.StateFailed, bridge.StateExpired,
		bridge.StateCancelled, bridge.StateUnknown:
		return nil
	default:
		return nil
	}
}

// turned closes the windows of the opposite: who is released may be isolated again by the next alert, whatever was done a minute ago.
// How often a host may turn is the business of damping.
func (t *tx) turned(r *orderRow) error {
	const (
		closeOpposite = `UPDATE orders SET dedupe_until = NULL WHERE dedupe_until IS NOT NULL AND params <> ? AND seq < ? AND seq IN (`
		byHost        = `SELECT seq FROM orders INDEXED BY orders_host WHERE isolates = ?`
		byTarget      = ` UNION SELECT seq FROM orders INDEXED BY orders_target WHERE isolates IS NOT NULL AND intent_target = ?`
	)
	o := &r.order
	sql, args := closeOpposite+byHost, []driver.Value{string(r.params), r.seq, strings.ToLower(o.Host)}
	if o.Intent.Target != "" {
		sql, args = sql+byTarget, append(args, o.Intent.Target)
	}
	_, err := t.run(sql+`)`, args...)
	return err
}

// cancelWaiting takes back the isolations of the host that were admitted before the release and have not begun: the newer intent wins.
func (t *tx) cancelWaiting(r *orderRow) error {
	var found []bridge.Order
	err := t.ofHost(&r.order, `SELECT seq`, waiting+` AND seq < ?`, r.seq, func(o bridge.Order) {
		if bridge.IsIsolation(o.Task) {
			found = append(found, o)
		}
	})
	if err != nil {
		return err
	}
	for _, o := range found {
		from := o.State
		o.State, o.Reason, o.Detail = bridge.StateCancelled, bridge.ReasonNone, "released meanwhile by "+r.order.ID
		if _, err := t.change(o, from, ""); err != nil {
			return err
		}
	}
	return nil
}

// releasedBy returns the id of a release of the host that is later than an isolation and on its way or through; empty when there
// is none.
func (t *tx) releasedBy(o bridge.Order) (id string, err error) {
	row, err := t.first(`SELECT seq FROM orders WHERE id = ?`, o.ID)
	if err != nil || row == nil {
		return "", err
	}
	err = t.ofHost(&o, `SELECT seq`, underWay+` AND seq > ?`, asInt(row[0]), func(later bridge.Order) {
		if bridge.IsRelease(later.Task) && later.Actor != bridge.ActorLease {
			id = later.ID
		}
	})
	return id, err
}

// ofHost calls fn with the isolations and releases of the host of an order that meet a condition with one argument.
func (t *tx) ofHost(o *bridge.Order, pick, cond string, arg int64, fn func(o bridge.Order)) error {
	args := []driver.Value{strings.ToLower(o.Host), arg}
	picked := pick + ofHost + cond
	if o.Intent.Target != "" {
		picked += ` UNION ` + pick + ofTarget + cond
		args = append(args, o.Intent.Target, arg)
	}
	return t.each(selectOrder+` WHERE seq IN (`+picked+`) ORDER BY seq`, args, func(row []driver.Value) error {
		fn(scanOrder(row))
		return nil
	})
}
