package store

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// settingArchived is the last record that moved to an archive, a headJSON.
const settingArchived = "audit/archived"

// head is a place in the chain.
type head struct {
	Anchor Anchor
	// Keyed says that the chain was sealed with a key by then.
	Keyed bool
}

// headJSON is a head as the settings keep it.
type headJSON struct {
	Anchor string `json:"anchor"` // as FormatAnchor writes it
	Keyed  bool   `json:"keyed,omitempty"`
}

// Audit returns audit records in the order of the chain, oldest first. Records that were archived are not among them.
func (s *Store) Audit(ctx context.Context, f AuditFilter) ([]AuditRecord, error) {
	var out []AuditRecord
	err := s.read(ctx, func(c *conn) error {
		var err error
		out, err = c.audit(ctx, f)
		return err
	})
	return out, err
}

// trailOf are the places of the records of an order, see orders.trail.
const trailOf = `SELECT value FROM orders, json_each('[' || trail || ']')`

func (c *conn) audit(ctx context.Context, f AuditFilter) ([]AuditRecord, error) {
	sql, args := selectAudit+" WHERE seq > ?", []driver.Value{f.After}
	if f.Order != "" {
		sql, args = sql+" AND seq IN ("+trailOf+" WHERE orders.id = ?)", append(args, f.Order)
	}
	if f.Host != "" {
		seqs, until, err := c.listed(ctx, f.Host)
		if err != nil {
			return nil, err
		}
		of, err := hostArgs(f.Host, seqs, until)
		if err != nil {
			return nil, err
		}
		sql, args = sql+" AND seq IN ("+trailOf+" WHERE orders.seq IN ("+ofHosts+"))", append(args, of...)
	}
	if !f.Since.IsZero() {
		sql, args = sql+" AND time >= ?", append(args, nanos(f.Since))
	}
	var out []AuditRecord
	err := c.each(ctx, sql+" ORDER BY seq LIMIT ?", append(args, int64(clampLimit(f.Limit))), func(row []driver.Value) (bool, error) {
		out = append(out, scanAudit(row))
		return true, nil
	})
	for i := range out {
		if err == nil {
			err = c.link(ctx, out, i)
		}
	}
	return out, err
}

// link fills in Prev of a record: the hash of the one before, wherever that is.
func (c *conn) link(ctx context.Context, records []AuditRecord, i int) error {
	r := &records[i]
	if i > 0 && records[i-1].Seq == r.Seq-1 {
		r.Prev = records[i-1].Hash
		return nil
	}
	row, err := c.first(ctx, `SELECT hash FROM audit WHERE seq = ?`, r.Seq-1)
	if err != nil {
		return err
	}
	if row != nil {
		copy(r.Prev[:], asBytes(row[0]))
		return nil
	}
	last, err := c.archived(ctx)
	if err == nil && last.Anchor.Seq == r.Seq-1 {
		r.Prev = last.Anchor.Hash
	}
	return err
}

// archived returns the last record that moved to an archive; zero = none did.
func (c *conn) archived(ctx context.Context) (head, error) {
	row, err := c.first(ctx, selectSetting, settingArchived)
	if err != nil || row == nil {
		return head{}, err
	}
	return decodeHead(asText(row[0]))
}

func decodeHead(value string) (head, error) {
	if value == "" {
		return head{}, nil
	}
	var h headJSON
	err := json.Unmarshal([]byte(value), &h)
	a, aerr := ParseAnchor(h.Anchor)
	if err = errors.Join(err, aerr); err != nil {
		return head{}, fmt.Errorf("setting %s: %w", settingArchived, err)
	}
	return head{Anchor: a, Keyed: h.Keyed}, nil
}

// encodeHead returns what decodeHead reads.
func encodeHead(h head) (driver.Value, error) {
	value, err := json.Marshal(headJSON{Anchor: FormatAnchor(h.Anchor), Keyed: h.Keyed})
	return string(value), err
}

// VerifyAudit implements bridge.Desk: it reads the whole chain and names the first record that does not follow from those before
// it. A tail that was cut off is only seen with an anchor of a later moment; nil = none at hand. Where older records moved to an
// archive, the chain goes on from the last of them, and an anchor older than that is looked for in the archive
// (VerifyExport). ErrNoKey: records are sealed with a key this store was not opened with. Other errors are about reading; what was
// found is in the report. It does not hold up the writer and takes some seconds for a million records.
func (s *Store) VerifyAudit(ctx context.Context, known *Anchor) (AuditReport, error) {
	var anchors []Anchor
	if known != nil {
		anchors = append(anchors, *known)
	}
	return s.VerifyAnchors(ctx, anchors)
}

// VerifyAnchors does the same with any number of anchors, in any order, in one pass.
func (s *Store) VerifyAnchors(ctx context.Context, anchors []Anchor) (AuditReport, error) {
	for {
		last, early, err := s.begins(ctx)
		if err != nil {
			return AuditReport{}, damaged(err)
		}
		v := newVerifier(newSeal(s.key), anchors)
		v.begin(last)
		if early != nil {
			v.bad(max(1, *early), fmt.Sprintf("record %d stands before the beginning of the chain: that was archived or never was", *early))
		} else if err = s.ExportAudit(ctx, last.Anchor.Seq, v.add); isCorrupt(err) {
			v.bad(v.report.Head.Seq+1, "it cannot be read: "+err.Error())
			err = nil
		}
		if err != nil && !errors.Is(err, errBadRecord) {
			return v.report, err
		}
		report := v.end()
		if report.FirstBad == 0 {
			return report, nil
		}
		// Records that were archived under the walk look like missing ones.
		if again, _, err := s.begins(ctx); err != nil || again.Anchor.Seq <= last.Anchor.Seq {
			return report, damaged(err)
		}
	}
}

// begins returns the last archived record, and the Seq of a record that stands before it.
func (s *Store) begins(ctx context.Context) (last head, early *int64, err error) {
	err = s.read(ctx, func(c *conn) error {
		row, err := c.first(ctx, `SELECT (SELECT value FROM settings WHERE name = ?), (SELECT min(seq) FROM audit)`, settingArchived)
		if err != nil || row == nil {
			return err
		}
		first, ok := row[1].(int64)
		if last, err = decodeHead(asText(row[0])); ok && first <= last.Anchor.Seq {
			early = &first
		}
		return err
	})
	return last, early, err
}

// errBadRecord ends a walk over the chain: the report has the reason.
var errBadRecord = errors.New("bad record")

// verifier checks records one after the other as they follow in the chain.
type verifier struct {
	seal    *seal
	anchors []Anchor // sorted, those still ahead
	report  AuditReport
	keyed   bool   // some record before was sealed with a key
	from    Anchor // the last archived record, as the settings say
	cut     Anchor // the last record that was to be archived, as the chain says
}

func newVerifier(s *seal, anchors []Anchor) *verifier {
	sorted := slices.Clone(anchors)
	slices.SortFunc(sorted, func(a, b Anchor) int { return int(min(1, max(-1, a.Seq-b.Seq))) })
	return &verifier{seal: s, anchors: sorted}
}

// begin lets the chain go on from a head.
func (v *verifier) begin(h head) {
	v.report.Head, v.keyed, v.from = h.Anchor, h.Keyed, h.Anchor
	for len(v.anchors) > 0 && v.anchors[0].Seq < h.Anchor.Seq {
		v.anchors = v.anchors[1:]
	}
	v.check(h.Anchor)
}

// check compares a record with the anchors about it.
func (v *verifier) check(got Anchor) bool {
	for len(v.anchors) > 0 && v.anchors[0].Seq == got.Seq {
		if v.anchors[0].Hash != got.Hash {
			v.bad(got.Seq, "its hash is not the one of the anchor: the chain up to it was written again")
			return false
		}
		v.anchors = v.anchors[1:]
	}
	return true
}

func (v *verifier) bad(seq int64, problem string) {
	if v.report.FirstBad == 0 {
		v.report.FirstBad, v.report.Problem = seq, problem
	}
}

// add takes the next record. Prev is not taken from the record but from the one before. errBadRecord: the report is complete.
func (v *verifier) add(r AuditRecord) error {
	want := v.report.Head.Seq + 1
	if v.report.Records == 0 {
		v.report.First = r.Seq
	}
	v.report.Records++
	switch {
	case v.report.FirstBad != 0:
		return errBadRecord
	case r.Seq != want:
		v.bad(want, fmt.Sprintf("record %d is missing: record %d stands in its place", want, r.Seq))
		return errBadRecord
	case v.keyed && !r.Keyed:
		v.bad(want, "it is not keyed any more: records before it are sealed with the audit key")
		return errBadRecord
	case !v.seal.can(&r):
		return fmt.Errorf("audit record %d: %w: give the key (audit.key)", r.Seq, ErrNoKey)
	}
	r.Prev = v.report.Head.Hash
	if v.seal.sum(&r) != r.Hash {
		switch {
		case r.Keyed && !v.keyed:
			v.bad(want, "it is the first record sealed with a key, and not with this one: audit.key is another key, or the record was changed")
		default:
			v.bad(want, "its hash does not follow from its content and the record before it")
		}
		return errBadRecord
	}
	v.keyed = v.keyed || r.Keyed
	if r.What == bridge.NoteArchive {
		if a, err := ParseAnchor(r.Ref); err == nil {
			v.cut = a
		}
	}
	if !v.check(Anchor{Seq: r.Seq, Hash: r.Hash}) {
		return errBadRecord
	}
	v.report.Head = Anchor{Seq: r.Seq, Hash: r.Hash}
	return nil
}

// end says what is missing after the last record.
func (v *verifier) end() AuditReport {
	if v.report.FirstBad != 0 {
		return v.report
	}
	switch {
	case len(v.anchors) > 0:
		missing := v.report.Head.Seq + 1
		v.bad(missing, fmt.Sprintf("record %d is missing: the chain ends before the anchor's record %d", missing, v.anchors[len(v.anchors)-1].Seq))
	case v.from.Seq > 0 && (v.cut.Seq < v.from.Seq || v.cut.Seq == v.from.Seq && v.cut.Hash != v.from.Hash):
		v.bad(v.from.Seq, "it is said to be archived, but no record of the chain tells of that archive")
	}
	return v.report
}
