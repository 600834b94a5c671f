package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The words of the audit chain are those of package bridge.
type (
	// AuditRecord is one link of the chain, see bridge.AuditRecord.
	AuditRecord = bridge.AuditRecord
	// AuditFilter picks records, see bridge.AuditFilter.
	AuditFilter = bridge.AuditFilter
	// Anchor is the head of the chain at some moment, see bridge.Anchor.
	Anchor = bridge.Anchor
	// AuditReport is what a verification found, see bridge.AuditReport.
	AuditReport = bridge.AuditReport
)

// The words of AuditRecord.What for the life of an order, see package bridge.
const (
	AuditAdmit = bridge.AuditAdmit
	AuditMove  = bridge.AuditMove
)

const (
	auditColumns = `seq, time, what, order_id, state_from, state_to, reason, rule, task, host, source, actor, approver, count, attempts,
	ref, detail, alert, payload, policy, keyed, hash`
	auditWidth  = 22
	insertAudit = `INSERT OR ROLLBACK INTO audit (` + auditColumns + `) VALUES `
	auditRow    = `(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	// auditRows is how many records one statement writes where there are as many; it saves half of their cost.
	auditRows = 16
	// selectAudit names the columns scanAudit reads.
	selectAudit = `SELECT ` + auditColumns + ` FROM audit`
	// maxPolicy is how many bytes of Config.PolicyDigest are kept.
	maxPolicy = 16
)

// SetPolicyDigest replaces Config.PolicyDigest when the rules were read again.
func (s *Store) SetPolicyDigest(ctx context.Context, digest []byte) error {
	digest = slices.Clone(digest[:min(len(digest), maxPolicy)])
	return s.do(ctx, func(t *tx) error {
		t.w.store.cfg.PolicyDigest = digest // read by the writer alone
		return nil
	})
}

// audit appends a record to the chain; Seq, Time, Policy, Keyed, Prev and Hash are filled in. It reaches the file with flushAudit.
// A record of an order becomes the next one of its trail: the caller stores nextAudit there before.
func (t *tx) audit(r AuditRecord) {
	r.Seq, r.Time, r.Prev, r.Keyed = t.nextAudit(), t.now, t.head, t.w.seal.keyed()
	if r.What == AuditAdmit || r.What == bridge.NoteStart || r.What == bridge.NoteReload {
		r.Policy = t.w.store.cfg.PolicyDigest
	}
	// JSON has no other text: a record has to come back from an export as it went in.
	for _, s := range []*string{&r.Order, &r.Rule, &r.Host, &r.Source, &r.Actor, &r.Approver, &r.Ref, &r.Detail} {
		if !utf8.ValidString(*s) {
			*s = strings.ToValidUTF8(*s, "\uFFFD")
		}
	}
	r.Hash = t.w.seal.sum(&r)
	t.lastAudit, t.head = r.Seq, r.Hash
	t.w.records = append(t.w.records, r.Seq, nanos(r.Time), r.What, text(r.Order), text(r.From), text(r.To), text(r.Reason),
		text(r.Rule), text(r.Task), text(r.Host), text(r.Source), text(r.Actor), text(r.Approver), number(r.Count), number(r.Attempts),
		text(r.Ref), text(r.Detail), blob(r.Alert), blob(r.Payload), blob(r.Policy), flag(r.Keyed), bytes.Clone(r.Hash[:]))
}

// nextAudit is the Seq of the record that is written next.
func (t *tx) nextAudit() int64 { return t.lastAudit + 1 }

// flushAudit writes the records of the transaction.
func (t *tx) flushAudit() error {
	for recs := t.w.records; len(recs) > 0; {
		sql, n := insertAudit+auditRow, auditWidth
		if len(recs) >= auditRows*auditWidth {
			sql, n = insertAudit+strings.Repeat(auditRow+",", auditRows-1)+auditRow, auditRows*auditWidth
		}
		if _, err := t.run(sql, recs[:n]...); err != nil {
			return err
		}
		recs = recs[n:]
	}
	return nil
}

// scanAudit reads a row of selectAudit; Prev is left to the caller.
func scanAudit(row []driver.Value) AuditRecord {
	r := AuditRecord{
		Seq: asInt(row[0]), Time: asTime(row[1]), What: asText(row[2]), Order: asText(row[3]), From: bridge.State(asText(row[4])),
		To: bridge.State(asText(row[5])), Reason: bridge.Reason(asText(row[6])), Rule: asText(row[7]), Task: bridge.Kind(asText(row[8])),
		Host: asText(row[9]), Source: asText(row[10]), Actor: asText(row[11]), Approver: asText(row[12]), Count: asInt(row[13]),
		Attempts: int(asInt(row[14])), Ref: asText(row[15]), Detail: asText(row[16]), Alert: asBytes(row[17]), Payload: asBytes(row[18]),
		Policy: asBytes(row[19]), Keyed: asInt(row[20]) != 0,
	}
	copy(r.Hash[:], asBytes(row[21]))
	return r
}

func blob(b []byte) driver.Value {
	if len(b) == 0 {
		return nil
	}
	return b
}

// flag returns the value of a yes-or-no column: no is NULL.
func flag(b bool) driver.Value {
	if !b {
		return nil
	}
	return int64(1)
}
