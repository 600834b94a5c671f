package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const selectAlert = `SELECT a.seq, a.source, a.id, a.preset, a.tenant, a.in_case, a.received, coalesce(a.raw, (SELECT b.raw FROM alerts b WHERE b.seq = a.raw_of))
	FROM alerts a`

// AlertOf returns the alert an order comes from with ID, Source, Preset, Tenant, Case, Received and Raw; the mapper reads everything
// else from Raw. ErrNotFound: no order has exactly this id, or its alert was not stored with it.
func (s *Store) AlertOf(ctx context.Context, orderID string) (bridge.Alert, error) {
	var found []bridge.Alert
	err := s.alerts(ctx, selectAlert+` WHERE a.seq = (SELECT alert FROM orders WHERE id = ?)`, []driver.Value{orderID}, &found)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("alert of order %q: %w", orderID, ErrNotFound)
	}
	if err != nil {
		return bridge.Alert{}, err
	}
	return found[0], nil
}

// Alerts returns stored alerts received at or after since, newest first, filled in as AlertOf does;
// limit 0 = 100, at most 10,000.
func (s *Store) Alerts(ctx context.Context, since time.Time, limit int) ([]bridge.Alert, error) {
	var found []bridge.Alert
	sql, args := selectAlert, []driver.Value(nil)
	if !since.IsZero() {
		sql, args = sql+` WHERE a.received >= ?`, append(args, nanos(since))
	}
	err := s.alerts(ctx, sql+` ORDER BY a.seq DESC LIMIT ?`, append(args, int64(clampLimit(limit))), &found)
	return found, err
}

func (s *Store) alerts(ctx context.Context, sql string, args []driver.Value, out *[]bridge.Alert) error {
	return s.read(ctx, func(c *conn) error {
		return c.each(ctx, sql, args, func(row []driver.Value) (bool, error) {
			*out = append(*out, bridge.Alert{
				Source: asText(row[1]), ID: asText(row[2]), Preset: asText(row[3]), Tenant: asText(row[4]), Case: asText(row[5]),
				Received: asTime(row[6]), Raw: asBytes(row[7]),
			})
			return true, nil
		})
	})
}
