package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

var (
	// ErrNotFound is returned when no order has the id.
	ErrNotFound = errors.New("no such order")
	// ErrAmbiguous is returned when several orders begin with the prefix.
	ErrAmbiguous = errors.New("several orders begin so")
)

// The size of a page when the caller does not say, and at most.
const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// Filter picks orders; zero fields pick all.
type Filter struct {
	State bridge.State
	Host  string
	Rule  string
	Task  bridge.Kind
	// Source and AlertID name the alert the orders come from.
	Source, AlertID string
	// Since leaves out orders admitted before.
	Since time.Time
	// Before continues a listing: only orders admitted before the order of this id.
	Before string
	// Limit is how many orders come at most, up to 10,000; 0 = 100.
	Limit int
}

// Page walks over a listing from the oldest order on. The zero value is the first page of 100 orders.
type Page struct {
	// After is the place of the last order seen; the method returns it for the next page.
	After int64
	// Limit is how many orders come at most, up to 10,000; 0 = 100.
	Limit int
}

// Order returns the order whose id is, or begins with, the given text. Errors: ErrNotFound, ErrAmbiguous.
func (s *Store) Order(ctx context.Context, id string) (bridge.Order, error) {
	var found []bridge.Order
	if id != "" {
		// No byte of UTF-8 is greater than 0xf4, so this is the end of everything that begins with id.
		err := s.orders(ctx, selectOrder+` WHERE id >= ? AND id < ? ORDER BY id LIMIT 2`, []driver.Value{id, id + "\xff"},
			func(o bridge.Order, _ int64) { found = append(found, o) })
		if err != nil {
			return bridge.Order{}, err
		}
	}
	switch {
	case len(found) == 0:
		return bridge.Order{}, fmt.Errorf("order %q: %w", id, ErrNotFound)
	case len(found) > 1 && found[0].ID != id:
		return bridge.Order{}, fmt.Errorf("order %q: %w: %s, %s", id, ErrAmbiguous, found[0].ID, found[1].ID)
	default:
		return found[0], nil
	}
}

// Orders returns the orders of a filter, newest first. State has an index of its own; the other fields are compared in
// a narrow index over all orders, about a third of a second for a million of them.
func (s *Store) Orders(ctx context.Context, f Filter) ([]bridge.Order, error) {
	where := []string{"seq > 0"}
	var args []driver.Value
	is := func(cond, value string) {
		if value != "" {
			where, args = append(where, cond), append(args, value)
		}
	}
	is("state = ?", string(f.State))
	is("host = ?", f.Host)
	is("rule = ?", f.Rule)
	is("task = ?", string(f.Task))
	is("source = ?", f.Source)
	is("alert_id = ?", f.AlertID)
	is("seq < (SELECT seq FROM orders WHERE id = ?)", f.Before)
	if !f.Since.IsZero() {
		where = append(where, "seq > coalesce((SELECT seq FROM orders INDEXED BY orders_scan WHERE admitted < ? AND seq > 0 ORDER BY seq DESC LIMIT 1), 0)")
		args = append(args, nanos(f.Since))
	}
	index := "orders_scan"
	if f.State != "" {
		index = "orders_state"
	}
	limit := int64(clampLimit(f.Limit))
	picked := "SELECT seq FROM orders INDEXED BY " + index + " WHERE " + strings.Join(where, " AND ") + " ORDER BY seq DESC LIMIT ?"
	var out []bridge.Order
	err := s.orders(ctx, selectOrder+" WHERE seq IN ("+picked+") ORDER BY seq DESC", append(args, limit), func(o bridge.Order, _ int64) {
		out = append(out, o)
	})
	return out, err
}

// Pending returns the orders this store's owner has to go on with, oldest first: queued and sending orders it moved last,
// and those of other owners that were not moved for foreignAfter, because their process must be gone.
// An empty page is the last one; the walk stays right while orders move on.
func (s *Store) Pending(ctx context.Context, now time.Time, foreignAfter time.Duration, p Page) ([]bridge.Order, Page, error) {
	const part = `SELECT * FROM (SELECT seq FROM orders WHERE state = ? AND seq > ? AND (owner = ? OR updated <= ?) ORDER BY seq LIMIT ?)`
	limit := clampLimit(p.Limit)
	var args []driver.Value
	for _, state := range []bridge.State{bridge.StateQueued, bridge.StateSending} {
		args = append(args, string(state), p.After, s.cfg.Owner, nanos(now.Add(-foreignAfter)), int64(limit))
	}
	return s.page(ctx, selectOrder+` WHERE seq IN (`+part+` UNION ALL `+part+`) ORDER BY seq LIMIT ?`, append(args, int64(limit)), p)
}

// Held returns the held orders with the reason, oldest first; an empty reason means all. An empty page is the last one.
func (s *Store) Held(ctx context.Context, reason bridge.Reason, p Page) ([]bridge.Order, Page, error) {
	sql := selectOrder + ` WHERE state = 'held' AND seq > ?`
	args := []driver.Value{p.After}
	if reason != bridge.ReasonNone {
		sql, args = sql+" AND reason = ?", append(args, string(reason))
	}
	return s.page(ctx, sql+" ORDER BY seq LIMIT ?", append(args, int64(clampLimit(p.Limit))), p)
}

// Counts returns how many orders stand in each state; states without orders are absent.
func (s *Store) Counts(ctx context.Context) (map[bridge.State]int64, error) {
	out := make(map[bridge.State]int64)
	err := s.read(ctx, func(c *conn) error {
		return c.each(ctx, "SELECT state, count(*) FROM orders GROUP BY state", nil, func(row []driver.Value) (bool, error) {
			out[bridge.State(asText(row[0]))] = asInt(row[1])
			return true, nil
		})
	})
	return out, err
}

func (s *Store) page(ctx context.Context, sql string, args []driver.Value, p Page) ([]bridge.Order, Page, error) {
	var out []bridge.Order
	err := s.orders(ctx, sql, args, func(o bridge.Order, seq int64) {
		out, p.After = append(out, o), seq
	})
	return out, p, err
}

func (s *Store) orders(ctx context.Context, sql string, args []driver.Value, fn func(o bridge.Order, seq int64)) error {
	return s.read(ctx, func(c *conn) error {
		return c.each(ctx, sql, args, func(row []driver.Value) (bool, error) {
			fn(scanOrder(row), asInt(row[0]))
			return true, nil
		})
	})
}

func clampLimit(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return min(n, maxLimit)
}
