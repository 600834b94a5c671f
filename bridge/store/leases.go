package store

import (
	"context"
	"database/sql/driver"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// A changed lease goes to the end: in this order the ledger has them.
	putLease = `INSERT OR REPLACE INTO leases (order_id, effect, host, target, executor, rule, actor, since, until, isolated, renewing, tries,
	ended_by, end, ended, open) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	selectLease = `SELECT order_id, effect, host, target, executor, rule, actor, since, until, isolated, renewing, tries,
	ended_by, end, ended FROM leases`
	closeLeases = `UPDATE leases SET open = NULL WHERE open IS NOT NULL AND ended_by = ? AND end IS NOT NULL`
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
	// A lease ended by a release comes back when that comes to nothing, so it stays open until it went through.
	open := l.Live() || l.EndedBy != "" && (l.End == bridge.LeaseReleased || l.End == bridge.LeaseLapsed)
	var mark driver.Value
	if open {
		mark = int64(1)
	}
	_, err := t.run(putLease, l.Order, l.Effect, text(l.Host), text(l.Target), text(l.Executor), text(l.Rule), text(l.Actor), nanos(l.Since),
		nanos(l.Until), nanos(l.Isolated), text(l.Renewing), number(l.Tries), text(l.EndedBy), text(l.End), nanos(l.Ended), mark)
	return err
}

func scanLease(row []driver.Value) bridge.Lease {
	return bridge.Lease{
		Order: asText(row[0]), Effect: asText(row[1]), Host: asText(row[2]), Target: asText(row[3]), Executor: asText(row[4]), Rule: asText(row[5]),
		Actor: asText(row[6]), Since: asTime(row[7]), Until: asTime(row[8]), Isolated: asTime(row[9]), Renewing: asText(row[10]),
		Tries: int(asInt(row[11])), EndedBy: asText(row[12]), End: bridge.LeaseEnd(asText(row[13])), Ended: asTime(row[14]),
	}
}
