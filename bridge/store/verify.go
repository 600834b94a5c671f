package store

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const selectAudit = `SELECT seq, time, what, order_seq, order_id, state_from, state_to, reason, rule, task, host, source, actor, count,
	detail, alert, payload, hash, (SELECT p.hash FROM audit p WHERE p.seq = audit.seq - 1) FROM audit`

// AuditFilter picks audit records; zero fields pick all.
type AuditFilter struct {
	// Order is the exact id of an order.
	Order string
	Host  string
	// Since leaves out older records.
	Since time.Time
	// After picks records with a greater Seq, for walks from the oldest on.
	After int64
	// Limit is how many records come at most, up to 10,000; 0 = 100.
	Limit int
}

// Anchor is the head of the chain at some moment, kept where the store's machine cannot change it.
type Anchor struct {
	Seq  int64
	Hash [sha256.Size]byte
}

// AuditReport is what VerifyAudit found.
type AuditReport struct {
	// Records is how many records were read.
	Records int64
	// Head is the last good record: an anchor to keep elsewhere.
	Head Anchor
	// FirstBad is the Seq of the first record that is missing, changed or out of place; 0 = none.
	FirstBad int64
	// Problem says in words what is wrong with it.
	Problem string
}

// Audit returns audit records in the order of the chain, oldest first.
func (s *Store) Audit(ctx context.Context, f AuditFilter) ([]AuditRecord, error) {
	sql, args := selectAudit+" WHERE seq > ?", []driver.Value{f.After}
	if f.Order != "" {
		sql, args = sql+" AND order_seq = (SELECT seq FROM orders WHERE id = ?)", append(args, f.Order)
	}
	if f.Host != "" {
		sql, args = sql+" AND order_seq IN (SELECT seq FROM orders WHERE host = ?)", append(args, f.Host)
	}
	if !f.Since.IsZero() {
		sql, args = sql+" AND time >= ?", append(args, nanos(f.Since))
	}
	var out []AuditRecord
	err := s.read(ctx, func(c *conn) error {
		return c.each(ctx, sql+" ORDER BY seq LIMIT ?", append(args, int64(clampLimit(f.Limit))), func(row []driver.Value) (bool, error) {
			out = append(out, scanAudit(row))
			return true, nil
		})
	})
	return out, err
}

// VerifyAudit reads the whole chain and names the first record that does not follow from those before it. A
// tail that was cut off is only seen with an anchor of a later moment; nil = none at hand. The error is about reading;
// what was found is in the report.
func (s *Store) VerifyAudit(ctx context.Context, anchor *Anchor) (AuditReport, error) {
	var rep AuditReport
	var buf []byte
	err := s.read(ctx, func(c *conn) error {
		return c.each(ctx, selectAudit+" ORDER BY seq", nil, func(row []driver.Value) (bool, error) {
			rec := scanAudit(row)
			want := rep.Records + 1
			rep.Records++
			if rec.Seq != want {
				rep.FirstBad, rep.Problem = want, fmt.Sprintf("record %d is missing: record %d stands in its place", want, rec.Seq)
				return false, nil
			}
			rec.Prev = rep.Head.Hash
			var sum [sha256.Size]byte
			if buf, sum = rec.sum(buf); sum != rec.Hash {
				rep.FirstBad, rep.Problem = want, "its hash does not follow from its content and the record before it"
				return false, nil
			}
			if anchor != nil && anchor.Seq == rec.Seq && anchor.Hash != rec.Hash {
				rep.FirstBad, rep.Problem = want, "its hash is not the one of the anchor: the chain up to it was written again"
				return false, nil
			}
			rep.Head = Anchor{Seq: rec.Seq, Hash: rec.Hash}
			return true, nil
		})
	})
	if err == nil && rep.FirstBad == 0 && anchor != nil && anchor.Seq > rep.Head.Seq {
		rep.FirstBad = rep.Head.Seq + 1
		rep.Problem = fmt.Sprintf("record %d is missing: the chain ends before the anchor's record %d", rep.FirstBad, anchor.Seq)
	}
	return rep, err
}

func scanAudit(row []driver.Value) AuditRecord {
	r := AuditRecord{
		Seq: asInt(row[0]), Time: asTime(row[1]), What: asText(row[2]), orderSeq: asInt(row[3]), Order: asText(row[4]),
		From: bridge.State(asText(row[5])), To: bridge.State(asText(row[6])), Reason: bridge.Reason(asText(row[7])), Rule: asText(row[8]),
		Task: bridge.Kind(asText(row[9])), Host: asText(row[10]), Source: asText(row[11]), Actor: asText(row[12]), Count: asInt(row[13]),
		Detail: asText(row[14]), Alert: asBytes(row[15]), Payload: asBytes(row[16]),
	}
	copy(r.Hash[:], asBytes(row[17]))
	copy(r.Prev[:], asBytes(row[18]))
	return r
}
