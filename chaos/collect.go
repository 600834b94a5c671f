package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

const pageSize = 10_000

// settled reports whether every alert has its orders and none of them is on its way, nor a lease waiting for its end.
func (a *act) settled(ctx context.Context) (settled bool, err error) {
	st, err := a.stage.open(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	open := []bridge.State{bridge.StateQueued, bridge.StateSending}
	if a.cfg.console {
		open = append(open, bridge.StateAccepted, bridge.StateRunning)
	}
	for _, s := range open {
		orders, err := st.Orders(ctx, bridge.OrderFilter{State: s, Limit: 1})
		if err != nil || len(orders) > 0 {
			return false, err
		}
	}
	leases, err := st.Leases(ctx)
	if err != nil || len(leases) > 0 {
		return false, err
	}
	orders, err := allOrders(ctx, st)
	asked := 0
	for i := range orders {
		if orders[i].AlertID != "" {
			asked++
		}
	}
	return asked >= len(a.feed.wants), err
}

// collect reads both records once the bridge has ended.
func (a *act) collect(ctx context.Context) (e evidence, err error) {
	st, err := a.stage.open(ctx)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	e.wants, e.incidents = a.feed.wants, a.stage.ksc.Incidents()
	if e.orders, err = allOrders(ctx, st); err != nil {
		return e, err
	}
	if e.leases, err = st.Leases(ctx); err != nil {
		return e, err
	}
	if e.chain, err = st.VerifyAudit(ctx, nil); err != nil {
		return e, fmt.Errorf("verify the audit chain: %w", err)
	}
	for after := int64(0); ; {
		page, err := st.Audit(ctx, bridge.AuditFilter{After: after, Limit: pageSize})
		if err != nil || len(page) == 0 {
			return e, err
		}
		e.audit = append(e.audit, page...)
		after = page[len(page)-1].Seq
	}
}

// allOrders reads every order of the store.
func allOrders(ctx context.Context, st *store.Store) (all []bridge.Order, err error) {
	for before := ""; ; {
		page, err := st.Orders(ctx, bridge.OrderFilter{Before: before, Limit: pageSize})
		if err != nil || len(page) == 0 {
			return all, err
		}
		all = append(all, page...)
		before = page[len(page)-1].ID
	}
}
