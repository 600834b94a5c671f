package store

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxProblems bounds what Check reports.
const maxProblems = 20

// ErrDamaged is returned when the store is not to be trusted: nothing is carried out on the word of such a file.
var ErrDamaged = errors.New("store is damaged: set the file aside and restore a backup")

// isCorrupt reports whether SQLite found the file itself to be wrong.
func isCorrupt(err error) bool {
	code := resultCode(err)
	return code == codeCorrupt || code == codeNotADB
}

// damaged adds ErrDamaged to errors about the file itself.
func damaged(err error) error {
	if isCorrupt(err) && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Check reads the whole file and reports what does not hold together: pages, tables and indexes
// (PRAGMA integrity_check, sqlite.org/pragma.html), the audit chain, and orders that stand otherwise than their
// last audit record says. The error wraps ErrDamaged when something is wrong. It takes some ten seconds for a million orders.
func (s *Store) Check(ctx context.Context) error {
	var problems []error
	err := s.read(ctx, func(c *conn) error {
		found, err := c.checkPages(ctx)
		if err == nil && len(found) == 0 {
			found, err = c.checkTrails(ctx)
		}
		problems = found
		return err
	})
	if isCorrupt(err) {
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

func (c *conn) checkPages(ctx context.Context) ([]error, error) {
	var problems []error
	err := c.each(ctx, fmt.Sprintf("PRAGMA integrity_check(%d)", maxProblems), nil, func(row []driver.Value) (bool, error) {
		if found := asText(row[0]); found != "ok" {
			problems = append(problems, errors.New(found))
		}
		return true, nil
	})
	return problems, err
}

const (
	// The audit record an order's trail ends in says how the order stands.
	selectStrayState = `SELECT o.id, o.state, a.state_to FROM orders o
	LEFT JOIN audit a ON a.seq = json_extract('[' || o.trail || ']', '$[#-1]')
	WHERE a.state_to IS NOT o.state OR a.order_id IS NOT o.id LIMIT ?`
	// Every record of an order that is not archived stands in exactly one trail: that of its order.
	selectStrayTrail = `SELECT o.id, t.value FROM orders o, json_each('[' || o.trail || ']') t LEFT JOIN audit a ON a.seq = t.value
	WHERE t.value >= (SELECT coalesce(min(seq), 0) FROM audit) AND a.order_id IS NOT o.id LIMIT ?`
	selectTrailCounts = `SELECT (SELECT count(DISTINCT t.value) FROM orders o, json_each('[' || o.trail || ']') t
	WHERE t.value >= (SELECT coalesce(min(seq), 0) FROM audit)), (SELECT count(*) FROM audit WHERE order_id IS NOT NULL)`
)

// checkTrails compares the orders with their audit records.
func (c *conn) checkTrails(ctx context.Context) ([]error, error) {
	var problems []error
	err := c.each(ctx, selectStrayState, []driver.Value{int64(maxProblems)}, func(row []driver.Value) (bool, error) {
		problems = append(problems, fmt.Errorf("order %s is %s, its last audit record says %q", asText(row[0]), asText(row[1]), asText(row[2])))
		return true, nil
	})
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	err = c.each(ctx, selectStrayTrail, []driver.Value{int64(maxProblems)}, func(row []driver.Value) (bool, error) {
		problems = append(problems, fmt.Errorf("order %s: audit record %d is not about it", asText(row[0]), asInt(row[1])))
		return true, nil
	})
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	if problems, err = c.checkContent(ctx, ""); err != nil || len(problems) > 0 {
		return problems, err
	}
	row, err := c.first(ctx, selectTrailCounts)
	if err == nil && row != nil && asInt(row[0]) != asInt(row[1]) {
		problems = append(problems, fmt.Errorf("the orders know of %d audit records, there are %d", asInt(row[0]), asInt(row[1])))
	}
	return problems, err
}

// selectContent is what an order is, as its row and as its last audit record have it.
const selectContent = `SELECT o.id, o.task, o.host, o.rule, o.source, o.actor, o.params, o.intent_body, a.task, a.host, a.rule, a.source, a.actor,
	a.payload FROM orders o JOIN audit a ON a.seq = json_extract('[' || o.trail || ']', '$[#-1]')`

// checkContent compares what the orders are with what their audit records say; where is a condition on o.
func (c *conn) checkContent(ctx context.Context, where string) ([]error, error) {
	var problems []error
	err := c.each(ctx, selectContent+where, nil, func(row []driver.Value) (bool, error) {
		for i, name := range []string{"task", "host", "rule", "source", "actor"} {
			if has, said := strings.ToValidUTF8(asText(row[1+i]), "\uFFFD"), asText(row[8+i]); has != said {
				problems = append(problems, fmt.Errorf("order %s: its %s is %q, its last audit record says %q", asText(row[0]), name, has, said))
			}
		}
		sent := asText(row[7])
		if sent == "" {
			sent = asText(row[6])
		}
		if digest := sha256.Sum256([]byte(sent)); sent != "" && string(digest[:]) != string(asBytes(row[13])) {
			problems = append(problems, fmt.Errorf("order %s: what it sends is not what its last audit record says", asText(row[0])))
		}
		return len(problems) < maxProblems, nil
	})
	return problems, err
}

// CheckUnfinished compares the orders that have not ended with their audit records, so that none is carried out whose target or
// task was changed or damaged in the file. It takes about half a second for 100,000 of them. The error wraps ErrDamaged when
// something is wrong.
func (s *Store) CheckUnfinished(ctx context.Context) error {
	var problems []error
	err := s.read(ctx, func(c *conn) (err error) {
		problems, err = c.checkContent(ctx, ` WHERE o.state IN ('held', 'queued', 'sending', 'accepted', 'running')`)
		return err
	})
	if err != nil {
		return damaged(err)
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %w", ErrDamaged, errors.Join(problems...))
	}
	return nil
}

// How many records at the end of the chain are looked at when a store is opened: fewer by a process that lives for one order.
const (
	probeRecords     = 64
	probeRecordsSend = 8
)

// probe looks whether the end of the chain holds together, so that a file that was changed or damaged there is found before
// anything is done on its word. It takes some tenths of a millisecond, however many records there are. keyed says that the chain
// is sealed with a key.
func (c *conn) probe(ctx context.Context, s *seal, records int) (keyed bool, err error) {
	var recs []AuditRecord
	if err := c.each(ctx, selectAudit+` ORDER BY seq DESC LIMIT ?`, []driver.Value{int64(records + 1)}, func(row []driver.Value) (bool, error) {
		recs = append(recs, scanAudit(row))
		return true, nil
	}); err != nil {
		return false, damaged(err)
	}
	head, err := c.archived(ctx)
	if err != nil {
		return false, damaged(err)
	}
	keyed = head.Keyed || slices.ContainsFunc(recs, func(r AuditRecord) bool { return r.Keyed })
	if len(recs) <= records {
		recs = append(recs, AuditRecord{Seq: head.Anchor.Seq, Hash: head.Anchor.Hash})
	}
	slices.Reverse(recs)
	return keyed, probeChain(recs, s)
}

// probeChain looks whether each record but the first follows from the one before.
func probeChain(recs []AuditRecord, s *seal) error {
	var first error
	var foreign, own int // keyed records this key does not, and does, fit
	bad := func(seq int64, text string) {
		if first == nil {
			first = fmt.Errorf("%w: audit record %d %s", ErrDamaged, seq, text)
		}
	}
	for i := range recs[1:] {
		before, r := &recs[i], &recs[i+1]
		r.Prev = before.Hash
		fits := !s.can(r) || s.sum(r) == r.Hash
		switch {
		case r.Keyed && fits:
			own++
		case r.Keyed:
			foreign++
		}
		switch {
		case r.Seq != before.Seq+1:
			bad(before.Seq+1, "is missing")
		case before.Keyed && !r.Keyed:
			bad(r.Seq, "is not keyed any more")
		case !fits:
			bad(r.Seq, "does not follow from the one before")
		}
	}
	if foreign > 0 && own == 0 {
		return fmt.Errorf("%w, and not with this one: set audit.key to the key it was sealed with", ErrNoKey)
	}
	return first
}

// probe refuses a store whose audit chain this writer could not go on with.
func (w *writer) probe(ctx context.Context) error {
	records := probeRecords
	if w.store.cfg.Owner == OwnerSend {
		records = probeRecordsSend
	}
	keyed, err := w.conn.probe(ctx, w.seal, records)
	if err != nil {
		return err
	}
	if keyed && !w.seal.keyed() {
		return fmt.Errorf("%w: give the key (audit.key)", ErrNoKey)
	}
	return nil
}
