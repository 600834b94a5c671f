package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
)

// maxProblems bounds what Check reports.
const maxProblems = 20

// ErrDamaged is returned by Check when the store is not to be trusted.
var ErrDamaged = errors.New("store is damaged: set the file aside and restore a backup")

// Check reads the whole file and reports what does not hold together: pages, tables and indexes
// (PRAGMA integrity_check, sqlite.org/pragma.html), the audit chain, and orders that stand otherwise than their
// last audit record says. The error wraps ErrDamaged when something is wrong. It takes about a second for a million records.
func (s *Store) Check(ctx context.Context) error {
	var problems []error
	err := s.read(ctx, func(c *conn) error {
		err := c.each(ctx, fmt.Sprintf("PRAGMA integrity_check(%d)", maxProblems), nil, func(row []driver.Value) (bool, error) {
			if found := asText(row[0]); found != "ok" {
				problems = append(problems, errors.New(found))
			}
			return true, nil
		})
		if err != nil || len(problems) > 0 {
			return err
		}
		return c.each(ctx, `SELECT o.id, o.state, a.state_to FROM orders o
			LEFT JOIN audit a ON a.seq = (SELECT max(seq) FROM audit WHERE order_seq = o.seq)
			WHERE a.state_to IS NOT o.state OR a.order_id IS NOT o.id LIMIT ?`, []driver.Value{int64(maxProblems)},
			func(row []driver.Value) (bool, error) {
				problems = append(problems, fmt.Errorf("order %s is %s, its last audit record says %q", asText(row[0]), asText(row[1]), asText(row[2])))
				return true, nil
			})
	})
	if code := resultCode(err); code == codeCorrupt || code == codeNotADB {
		problems, err = append(problems, err), nil
	}
	if err == nil && len(problems) == 0 {
		var rep AuditReport
		if rep, err = s.VerifyAudit(ctx, nil); rep.FirstBad > 0 {
			problems = append(problems, fmt.Errorf("audit record %d: %s", rep.FirstBad, rep.Problem))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %w", ErrDamaged, errors.Join(problems...))
	}
	return err
}
