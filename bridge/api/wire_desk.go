package api

import (
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// lease is bridge.Lease on the wire.
type lease struct {
	Order    text            `json:"order"`
	Effect   text            `json:"effect,omitempty"`
	Host     text            `json:"host"`
	Target   text            `json:"target,omitempty"`
	Executor text            `json:"executor,omitempty"`
	Rule     text            `json:"rule,omitempty"`
	Actor    text            `json:"actor,omitempty"`
	Since    time.Time       `json:"since,omitzero"`
	Until    time.Time       `json:"until,omitzero"`
	Isolated time.Time       `json:"isolated,omitzero"`
	Renewing text            `json:"renewing,omitempty"`
	Tries    int             `json:"tries,omitempty"`
	Retry    time.Time       `json:"retry,omitzero"`
	Sent     bool            `json:"release_sent,omitempty"`
	Crossed  bool            `json:"crossed,omitempty"`
	EndedBy  text            `json:"ended_by,omitempty"`
	End      bridge.LeaseEnd `json:"end,omitempty"`
	Ended    time.Time       `json:"ended,omitzero"`
}

// letter is bridge.DeadLetter on the wire.
type letter struct {
	ID       text      `json:"id"`
	Source   text      `json:"source,omitempty"`
	Entry    text      `json:"entry,omitempty"`
	Document []byte    `json:"document,omitempty"`
	Error    text      `json:"error,omitempty"`
	Attempts int       `json:"attempts,omitempty"`
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	Retry    time.Time `json:"retry,omitzero"`
	By       text      `json:"by,omitempty"`
}

// hold is bridge.Hold on the wire.
type hold struct {
	Active bool      `json:"active"`
	Reason text      `json:"reason,omitempty"`
	Actor  text      `json:"actor,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

// orderFilter is bridge.OrderFilter on the wire.
type orderFilter struct {
	State   bridge.State  `json:"state,omitempty"`
	Reason  bridge.Reason `json:"reason,omitempty"`
	Host    text          `json:"host,omitempty"`
	Rule    text          `json:"rule,omitempty"`
	Task    bridge.Kind   `json:"task,omitempty"`
	Source  text          `json:"source,omitempty"`
	AlertID text          `json:"alert,omitempty"`
	Since   time.Time     `json:"since,omitzero"`
	Before  text          `json:"before,omitempty"`
	Limit   int           `json:"limit,omitempty"`
}

// page is bridge.Page on the wire.
type page struct {
	After int64 `json:"after,omitempty"`
	Limit int   `json:"limit,omitempty"`
}

// decision is bridge.Decision on the wire.
type decision struct {
	Order   text `json:"order"`
	Approve bool `json:"approve"`
	Digest  text `json:"digest,omitempty"`
	Actor   text `json:"actor,omitempty"`
	Why     text `json:"why,omitempty"`
}

// named is a question or a change about one order or letter.
type named struct {
	ID    text `json:"id"`
	Actor text `json:"actor,omitempty"`
	Why   text `json:"why,omitempty"`
}

// none is a question without fields, or an answer that only says that it is done.
type none struct{}

// entry is what is sent.
type entry struct {
	Orders []order `json:"orders"`
}

// verification is the question of VerifyAudit.
type verification struct {
	Known *anchor `json:"known,omitempty"`
}

// letterPage is one page of letters and the question for the next one.
type letterPage struct {
	Letters []letter `json:"letters"`
	Next    page     `json:"next"`
}

func encodeLease(l bridge.Lease) (lease, error) {
	return lease{
		Order: text(l.Order), Effect: text(l.Effect), Host: text(l.Host), Target: text(l.Target), Executor: text(l.Executor),
		Rule: text(l.Rule), Actor: text(l.Actor), Since: utc(l.Since), Until: utc(l.Until), Isolated: utc(l.Isolated),
		Renewing: text(l.Renewing), Tries: l.Tries, Retry: utc(l.Retry), Sent: l.Sent, Crossed: l.Crossed, EndedBy: text(l.EndedBy), End: l.End, Ended: utc(l.Ended),
	}, nil
}

func (w lease) decode() (bridge.Lease, error) {
	return bridge.Lease{
		Order: string(w.Order), Effect: string(w.Effect), Host: string(w.Host), Target: string(w.Target), Executor: string(w.Executor),
		Rule: string(w.Rule), Actor: string(w.Actor), Since: utc(w.Since), Until: utc(w.Until), Isolated: utc(w.Isolated),
		Renewing: string(w.Renewing), Tries: w.Tries, Retry: utc(w.Retry), Sent: w.Sent, Crossed: w.Crossed, EndedBy: string(w.EndedBy), End: w.End, Ended: utc(w.Ended),
	}, nil
}

func encodeLetter(l bridge.DeadLetter) (letter, error) {
	return letter{
		ID: text(l.ID), Source: text(l.Source), Entry: text(l.Entry), Document: l.Document, Error: text(l.Error),
		Attempts: l.Attempts, First: utc(l.First), Last: utc(l.Last), Retry: utc(l.Retry), By: text(l.By),
	}, nil
}

func (w letter) decode() (bridge.DeadLetter, error) {
	return bridge.DeadLetter{
		ID: string(w.ID), Source: string(w.Source), Entry: string(w.Entry), Document: w.Document, Error: string(w.Error),
		Attempts: w.Attempts, First: utc(w.First), Last: utc(w.Last), Retry: utc(w.Retry), By: string(w.By),
	}, nil
}

func encodeHold(h bridge.Hold) (hold, error) {
	return hold{Active: h.Active, Reason: text(h.Reason), Actor: text(h.Actor), Since: utc(h.Since)}, nil
}

func (w hold) decode() (bridge.Hold, error) {
	return bridge.Hold{Active: w.Active, Reason: string(w.Reason), Actor: string(w.Actor), Since: utc(w.Since)}, nil
}

func encodeOrderFilter(f bridge.OrderFilter) orderFilter {
	return orderFilter{
		State: f.State, Reason: f.Reason, Host: text(f.Host), Rule: text(f.Rule), Task: f.Task, Source: text(f.Source),
		AlertID: text(f.AlertID), Since: utc(f.Since), Before: text(f.Before), Limit: f.Limit,
	}
}

func (w orderFilter) decode() bridge.OrderFilter {
	return bridge.OrderFilter{
		State: w.State, Reason: w.Reason, Host: string(w.Host), Rule: string(w.Rule), Task: w.Task, Source: string(w.Source),
		AlertID: string(w.AlertID), Since: utc(w.Since), Before: string(w.Before), Limit: w.Limit,
	}
}

func encodeDecision(d bridge.Decision) decision {
	return decision{Order: text(d.Order), Approve: d.Approve, Digest: text(d.Digest), Actor: text(d.Actor), Why: text(d.Why)}
}
