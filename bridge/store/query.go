package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The size of a page when the caller does not say, and at most.
const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// Order returns the order whose id is, or begins with, the given text. Errors wrap bridge.ErrNotFound and bridge.ErrAmbiguous.
func (s *Store) Order(ctx context.Context, id string) (bridge.Order, error) {
	var found bridge.Order
	err := s.read(ctx, func(c *conn) (err error) {
		found, err = c.order(ctx, id)
		return err
	})
	return found, err
}

// order returns the order whose id is, or begins with, the given text.
func (c *conn) order(ctx context.Context, id string) (bridge.Order, error) {
	id, err := c.whole(ctx, "orders", id)
	if err != nil {
		return bridge.Order{}, fmt.Errorf("order %w", err)
	}
	row, err := c.first(ctx, selectOrder+` WHERE id = ?`, id)
	if err == nil && row == nil {
		err = fmt.Errorf("order %q: %w", id, bridge.ErrNotFound)
	}
	if err != nil {
		return bridge.Order{}, err
	}
	return scanOrder(row), nil
}

// whole returns the id in a table that is, or alone begins with, the given text.
func (c *conn) whole(ctx context.Context, table, id string) (string, error) {
	var found []string
	if id != "" {
		// No byte of UTF-8 is greater than 0xf4, so this is the end of everything that begins with id.
		err := c.each(ctx, `SELECT id FROM `+table+` WHERE id >= ? AND id < ? ORDER BY id LIMIT 2`, []driver.Value{id, id + "\xff"},
			func(row []driver.Value) (bool, error) {
				found = append(found, asText(row[0]))
				return true, nil
			})
		if err != nil {
			return "", err
		}
	}
	switch {
	case len(found) == 0:
		return "", fmt.Errorf("%q: %w", id, bridge.ErrNotFound)
	case len(found) > 1 && found[0] != id:
		return "", fmt.Errorf("%q: %w: %s, %s", id, bridge.ErrAmbiguous, found[0], found[1])
	default:
		return found[0], nil
	}
}

// Orders returns the orders of a filter, newest first. Host and State have indexes of their own; the other fields are compared in
// a narrow index over all orders, about a third of a second for a million of them. Reason is cheap together with State only.
func (s *Store) Orders(ctx context.Context, f bridge.OrderFilter) ([]bridge.Order, error) {
	where := []string{"seq > 0"}
	var args []driver.Value
	is := func(cond, value string) {
		if value != "" {
			where, args = append(where, cond), append(args, value)
		}
	}
	is("state = ?", string(f.State))
	is("reason = ?", string(f.Reason))
	is("rule = ?", f.Rule)
	is("task = ?", string(f.Task))
	is("source = ?", f.Source)
	is("alert_id = ?", f.AlertID)
	is("seq < (SELECT seq FROM orders WHERE id = ?)", f.Before)
	if f.Host != "" {
		return s.ordersOfHost(ctx, f, where, args)
	}
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

// ordersOfHost goes through the orders of a host from the newest on until there are enough that meet the conditions.
func (s *Store) ordersOfHost(ctx context.Context, f bridge.OrderFilter, where []string, args []driver.Value) ([]bridge.Order, error) {
	if !f.Since.IsZero() {
		where, args = append(where, "admitted >= ?"), append(args, nanos(f.Since))
	}
	var out []bridge.Order
	limit := clampLimit(f.Limit)
	sql := selectOrder + " WHERE seq IN (" + ofHosts + ") AND " + strings.Join(where, " AND ") + " ORDER BY seq DESC LIMIT ?"
	err := s.read(ctx, func(c *conn) error {
		return c.walkHost(ctx, f.Host, func(of []driver.Value) (bool, error) {
			err := c.each(ctx, sql, append(append(of, args...), int64(limit-len(out))), func(row []driver.Value) (bool, error) {
				out = append(out, scanOrder(row))
				return true, nil
			})
			return len(out) < limit, err
		})
	})
	return out, err
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
