package api

import (
	"errors"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// record is bridge.AuditRecord on the wire.
type record struct {
	Seq      int64         `json:"seq"`
	Time     time.Time     `json:"time,omitzero"`
	What     text          `json:"what"`
	Order    text          `json:"order,omitempty"`
	From     bridge.State  `json:"from,omitempty"`
	To       bridge.State  `json:"to,omitempty"`
	Reason   bridge.Reason `json:"reason,omitempty"`
	Rule     text          `json:"rule,omitempty"`
	Task     bridge.Kind   `json:"task,omitempty"`
	Host     text          `json:"host,omitempty"`
	Source   text          `json:"source,omitempty"`
	Actor    text          `json:"actor,omitempty"`
	Approver text          `json:"approver,omitempty"`
	Count    int64         `json:"count,omitempty"`
	Attempts int           `json:"attempts,omitempty"`
	Ref      text          `json:"ref,omitempty"`
	Detail   text          `json:"detail,omitempty"`
	Alert    digest        `json:"alert_sha256,omitempty"`
	Payload  digest        `json:"payload_sha256,omitempty"`
	Policy   digest        `json:"policy_sha256,omitempty"`
	Keyed    bool          `json:"keyed,omitempty"`
	Prev     digest        `json:"prev"`
	Hash     digest        `json:"hash"`
}

// anchor is bridge.Anchor on the wire.
type anchor struct {
	Seq  int64  `json:"seq"`
	Hash digest `json:"hash"`
}

// auditFilter is bridge.AuditFilter on the wire.
type auditFilter struct {
	Order text      `json:"order,omitempty"`
	Host  text      `json:"host,omitempty"`
	Since time.Time `json:"since,omitzero"`
	After int64     `json:"after,omitempty"`
	Limit int       `json:"limit,omitempty"`
}

// auditReport is bridge.AuditReport on the wire.
type auditReport struct {
	First    int64  `json:"first"`
	Records  int64  `json:"records"`
	Head     anchor `json:"head"`
	FirstBad int64  `json:"first_bad,omitempty"`
	Problem  text   `json:"problem,omitempty"`
}

func encodeRecord(r bridge.AuditRecord) (record, error) {
	return record{
		Seq: r.Seq, Time: utc(r.Time), What: text(r.What), Order: text(r.Order), From: r.From, To: r.To, Reason: r.Reason,
		Rule: text(r.Rule), Task: r.Task, Host: text(r.Host), Source: text(r.Source), Actor: text(r.Actor), Approver: text(r.Approver),
		Count: r.Count, Attempts: r.Attempts, Ref: text(r.Ref), Detail: text(r.Detail), Alert: r.Alert, Payload: r.Payload,
		Policy: r.Policy, Keyed: r.Keyed, Prev: r.Prev[:], Hash: r.Hash[:],
	}, nil
}

func (w record) decode() (bridge.AuditRecord, error) {
	r := bridge.AuditRecord{
		Seq: w.Seq, Time: utc(w.Time), What: string(w.What), Order: string(w.Order), From: w.From, To: w.To, Reason: w.Reason,
		Rule: string(w.Rule), Task: w.Task, Host: string(w.Host), Source: string(w.Source), Actor: string(w.Actor),
		Approver: string(w.Approver), Count: w.Count, Attempts: w.Attempts, Ref: string(w.Ref), Detail: string(w.Detail),
		Alert: w.Alert, Payload: w.Payload, Policy: w.Policy, Keyed: w.Keyed,
	}
	return r, errors.Join(w.Prev.into(r.Prev[:]), w.Hash.into(r.Hash[:]))
}

func encodeAnchor(a bridge.Anchor) anchor { return anchor{Seq: a.Seq, Hash: a.Hash[:]} }

func (w anchor) decode() (bridge.Anchor, error) {
	a := bridge.Anchor{Seq: w.Seq}
	return a, w.Hash.into(a.Hash[:])
}

func encodeAuditFilter(f bridge.AuditFilter) auditFilter {
	return auditFilter{Order: text(f.Order), Host: text(f.Host), Since: utc(f.Since), After: f.After, Limit: f.Limit}
}

func (w auditFilter) decode() bridge.AuditFilter {
	return bridge.AuditFilter{Order: string(w.Order), Host: string(w.Host), Since: utc(w.Since), After: w.After, Limit: w.Limit}
}

func encodeReport(r bridge.AuditReport) (auditReport, error) {
	return auditReport{
		First: r.First, Records: r.Records, Head: encodeAnchor(r.Head), FirstBad: r.FirstBad, Problem: text(r.Problem),
	}, nil
}

func (w auditReport) decode() (bridge.AuditReport, error) {
	head, err := w.Head.decode()
	return bridge.AuditReport{First: w.First, Records: w.Records, Head: head, FirstBad: w.FirstBad, Problem: string(w.Problem)}, err
}
