package store

import (
	"context"
	"database/sql/driver"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Pending implements bridge.Cabinet. An order belongs to the Owner of the store that moved it last.
func (s *Store) Pending(ctx context.Context, foreign time.Time, p bridge.Page) ([]bridge.Order, bridge.Page, error) {
	return s.inStates(ctx, p, ` AND (owner = ? OR updated <= ?)`, []driver.Value{s.cfg.Owner, nanos(foreign)}, bridge.StateQueued, bridge.StateSending)
}

// Held implements bridge.Cabinet. No reasons mean all.
func (s *Store) Held(ctx context.Context, reasons []bridge.Reason, p bridge.Page) ([]bridge.Order, bridge.Page, error) {
	var cond string
	var args []driver.Value
	for _, r := range reasons {
		args = append(args, string(r))
	}
	if len(args) > 0 {
		cond = ` AND reason IN (?` + strings.Repeat(`,?`, len(args)-1) + `)`
	}
	return s.inStates(ctx, p, cond, args, bridge.StateHeld)
}

// Accepted implements bridge.Cabinet.
func (s *Store) Accepted(ctx context.Context, p bridge.Page) ([]bridge.Order, bridge.Page, error) {
	return s.inStates(ctx, p, "", nil, bridge.StateAccepted, bridge.StateRunning)
}

// Overdue implements bridge.Cabinet. It reads the due times of all unfinished orders, which stand in the index of the states:
// about 15 ms for 100,000 of them.
func (s *Store) Overdue(ctx context.Context, p bridge.Page) ([]bridge.Order, bridge.Page, error) {
	return s.inStates(ctx, p, ` AND due <= ?`, []driver.Value{nanos(s.now())},
		bridge.StateHeld, bridge.StateQueued, bridge.StateAccepted, bridge.StateRunning)
}

// inStates returns a page of the orders that stand in one of the states and meet a condition on top, oldest first.
func (s *Store) inStates(ctx context.Context, p bridge.Page, cond string, condArgs []driver.Value, states ...bridge.State) (
	[]bridge.Order, bridge.Page, error,
) {
	limit := int64(clampLimit(p.Limit))
	var parts []string
	var args []driver.Value
	for _, state := range states {
		parts = append(parts, `SELECT * FROM (SELECT seq FROM orders INDEXED BY orders_state WHERE state = ? AND seq > ?`+cond+` ORDER BY seq LIMIT ?)`)
		args = append(append(append(args, string(state), p.After), condArgs...), limit)
	}
	var out []bridge.Order
	err := s.orders(ctx, selectOrder+` WHERE seq IN (`+strings.Join(parts, ` UNION ALL `)+`) ORDER BY seq LIMIT ?`, append(args, limit),
		func(o bridge.Order, seq int64) { out, p.After = append(out, o), seq })
	return slices.Clip(out), p, err
}
