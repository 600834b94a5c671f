package store

import (
	"context"
	"database/sql/driver"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// A changed lease goes to the end: in this order the ledger has them.
	putLease = `INSERT OR REPLACE INTO leases (order_id, effect, host, target, executor, rule, actor, since, until, isolated, renewing, tries,
	retry, ended_by, sent, crossed, end, ended, open) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	selectLease = `SELECT order_id, effect, host, target, executor, rule, actor, since, until, isolated, renewing, tries,
	retry, ended_by, sent, crossed, end, ended FROM leases`
)

// Leases implements bridge.Desk.
func (s *Store) Leases(ctx context.Context) ([]bridge.Lease, error) {
	var out []bridge.Lease
	err := s.read(ctx, func(c *conn) error {
		return c.each(ctx, selectLease+` WHERE open IS NOT NULL AND end IS NULL ORDER BY since, order_id`, nil, func(row []driver.Value) (bool, error) {
			out = append(out, scanLease(row))
			return true, nil
		})
	})
	return out, err
}

// DueLeases implements bridge.Cabinet. It waits in line with the writes.
func (s *Store) DueLeases(ctx context.Context) ([]bridge.LeaseTask, error) {
	var due []bridge.LeaseTask
	err := s.do(ctx, func(t *tx) error {
		l, err := t.ledger()
		if err != nil {
			return err
		}
		due, err = l.Due(t.now, t)
		return err
	})
	return due, err
}

// PutLease implements bridge.Journal.
func (t *tx) PutLease(l bridge.Lease) error {
	var open driver.Value
	if l.Kept() {
		open = int64(1)
	}
	_, err := t.run(putLease, l.Order, text(l.Effect), text(l.Host), text(l.Target), text(l.Executor), text(l.Rule), text(l.Actor), nanos(l.Since),
		nanos(l.Until), nanos(l.Isolated), text(l.Renewing), number(l.Tries), nanos(l.Retry), text(l.EndedBy), flag(l.Sent), flag(l.Crossed),
		text(l.End), nanos(l.Ended), open)
	return err
}

func scanLease(row []driver.Value) bridge.Lease {
	return bridge.Lease{
		Order: asText(row[0]), Effect: asText(row[1]), Host: asText(row[2]), Target: asText(row[3]), Executor: asText(row[4]), Rule: asText(row[5]),
		Actor: asText(row[6]), Since: asTime(row[7]), Until: asTime(row[8]), Isolated: asTime(row[9]), Renewing: asText(row[10]),
		Tries: int(asInt(row[11])), Retry: asTime(row[12]), EndedBy: asText(row[13]), Sent: asInt(row[14]) != 0, Crossed: asInt(row[15]) != 0,
		End: bridge.LeaseEnd(asText(row[16])), Ended: asTime(row[17]),
	}
}
