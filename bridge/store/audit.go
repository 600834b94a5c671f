package store

import (
	"bytes"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The words of AuditRecord.What for the life of an order. Records that belong to no order carry a Note… word of package bridge.
const (
	AuditAdmit = "admit" // the order came into the store
	AuditMove  = "move"  // its state changed
)

// AuditRecord is one link of the audit chain.
type AuditRecord struct {
	// Seq counts from 1 without gaps.
	Seq  int64
	Time time.Time
	// What is AuditAdmit, AuditMove or one of the Note… words of package bridge.
	What string
	// Order is the id of the order, empty for notes; From and To are its state before and after.
	Order    string
	From, To bridge.State
	Reason   bridge.Reason
	Rule     string
	Task     bridge.Kind
	Host     string
	// Source is the source of the alert or the one a note is about, Actor the person.
	Source, Actor string
	// Count is how many alerts a note is about.
	Count  int64
	Detail string
	// Alert is the SHA-256 of the document the order comes from, on the admit record.
	Alert []byte
	// Payload is the SHA-256 of the body that is sent, or of the params of an order without one.
	Payload []byte
	// Prev is the hash of the record before, Hash the one of this record.
	Prev, Hash [sha256.Size]byte

	orderSeq int64
}

const (
	insertAudit = `INSERT OR ROLLBACK INTO audit (seq, time, what, order_seq, order_id, state_from, state_to, reason, rule, task, host,
	source, actor, count, detail, alert, payload, hash) VALUES `
	auditRow = `(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	// auditRows is how many records one statement writes where there are as many; it saves half of their cost.
	auditRows = 16
)

// audit appends a record to the chain; Seq, Time, Prev and Hash are filled in. It reaches the file with flushAudit.
func (t *tx) audit(r AuditRecord) {
	r.Seq, r.Time, r.Prev = t.lastAudit+1, t.now, t.head
	t.w.canon, r.Hash = r.sum(t.w.canon)
	t.lastAudit, t.head = r.Seq, r.Hash
	t.w.records = append(t.w.records, r.Seq, nanos(r.Time), r.What, number(r.orderSeq), text(r.Order), text(r.From), text(r.To),
		text(r.Reason), text(r.Rule), text(r.Task), text(r.Host), text(r.Source), text(r.Actor), number(r.Count), text(r.Detail),
		blob(r.Alert), blob(r.Payload), bytes.Clone(r.Hash[:]))
}

// flushAudit writes the records of the transaction.
func (t *tx) flushAudit() error {
	const columns = 18
	for recs := t.w.records; len(recs) > 0; {
		sql, n := insertAudit+auditRow, columns
		if len(recs) >= auditRows*columns {
			sql, n = insertAudit+strings.Repeat(auditRow+",", auditRows-1)+auditRow, auditRows*columns
		}
		if _, err := t.run(sql, recs[:n]...); err != nil {
			return err
		}
		recs = recs[n:]
	}
	return nil
}

// sum returns the hash of the record after Prev: SHA-256 over Prev and every field with its length in front, so that
// no two different records have the same input. buf is scratch.
func (r *AuditRecord) sum(buf []byte) (scratch []byte, hash [sha256.Size]byte) {
	when, _ := nanos(r.Time).(int64)
	buf = append(buf[:0], r.Prev[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.Seq)) //nolint:gosec // bits, not a quantity
	buf = binary.BigEndian.AppendUint64(buf, uint64(when))  //nolint:gosec // bits, not a quantity
	buf = appendField(buf, r.What)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.orderSeq)) //nolint:gosec // bits, not a quantity
	buf = appendField(buf, r.Order)
	buf = appendField(buf, r.From)
	buf = appendField(buf, r.To)
	buf = appendField(buf, r.Reason)
	buf = appendField(buf, r.Rule)
	buf = appendField(buf, r.Task)
	buf = appendField(buf, r.Host)
	buf = appendField(buf, r.Source)
	buf = appendField(buf, r.Actor)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.Count)) //nolint:gosec // bits, not a quantity
	buf = appendField(buf, r.Detail)
	buf = appendField(buf, r.Alert)
	buf = appendField(buf, r.Payload)
	return buf, sha256.Sum256(buf)
}

func appendField[S ~string | ~[]byte](buf []byte, s S) []byte {
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(s)))
	return append(buf, s...)
}

func blob(b []byte) driver.Value {
	if len(b) == 0 {
		return nil
	}
	return b
}
