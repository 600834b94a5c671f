package kuma

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// read takes in the next records of the chain. more says that there may be others behind them. After an error the record it is
// about is read again; what came before it counts.
func (f *Feedback) read(ctx context.Context) (more bool, err error) {
	if len(f.state.Writes) >= feedbackMaxWrites {
		return false, nil // the chain waits until something is written or given up
	}
	records, err := f.cfg.Records(ctx, f.state.After, feedbackBatch)
	if err != nil {
		return false, fmt.Errorf("read the audit chain: %w", err)
	}
	for _, r := range records {
		if r.Seq <= f.state.After {
			return false, fmt.Errorf("read the audit chain: record %d came after %d", r.Seq, f.state.After)
		}
		if err := f.record(ctx, r); err != nil {
			return false, fmt.Errorf("audit record %d: %w", r.Seq, err)
		}
		f.state.After, f.changed = r.Seq, true
	}
	if lost := f.state.forget(f.cfg.Now()); lost > 0 {
		f.cfg.Logger.WarnContext(ctx, "too many open alerts or isolated hosts, kuma will not hear how the oldest end", "count", lost)
	}
	return len(records) == feedbackBatch, nil
}

// record takes in one record. It changes nothing before everything it needs is known, so it may be repeated.
func (f *Feedback) record(ctx context.Context, r bridge.AuditRecord) error {
	switch {
	case r.Time.Before(f.state.Begin):
		return nil
	case r.What == bridge.NoteLapsed:
		return f.lapsed(ctx, r)
	case r.Order == "" || r.What != bridge.AuditAdmit && r.What != bridge.AuditMove:
		return nil
	}
	// Most records are about the end of an order that is known: they cost no look into the store.
	isolation := len(f.cfg.Plan.Lists) > 0 && r.Task == bridge.KindIsolateHost
	begins := f.cfg.Plan.Close != "" && r.What == bridge.AuditAdmit
	o := bridge.Order{ID: r.Order}
	if isolation || begins || r.To == bridge.StateDuplicate {
		found, err := f.cfg.Order(ctx, r.Order)
		switch {
		case err == nil:
			o = found
		case !errors.Is(err, bridge.ErrNotFound): // one too old to be kept belongs to nothing
			return err
		}
	}
	caseID, tenant := "", ""
	if o.AlertID != "" && (isolation || begins) {
		id, of, ok, err := f.cfg.Alert(ctx, o.ID)
		if err != nil {
			return err
		}
		if ok {
			caseID, tenant = id, of
		}
	}
	if f.cfg.Plan.Close != "" {
		if err := f.follow(ctx, r, o, caseID); err != nil {
			return err
		}
	}
	if isolation && o.Task != nil {
		f.isolation(r, o, tenant)
	}
	return nil
}

// follow keeps account of the orders of an alert of KUMA.
func (f *Feedback) follow(ctx context.Context, r bridge.AuditRecord, o bridge.Order, caseID string) error {
	covered, err := f.covering(ctx, r, o)
	if err != nil {
		return err
	}
	if r.What == bridge.AuditAdmit && restUUID(caseID) {
		c := f.state.Cases[caseID]
		if c == nil {
			c = &feedbackCase{Open: map[string]bool{}}
			f.state.Cases[caseID] = c
		}
		c.Open[r.Order] = true
		f.state.drop(feedbackClose, caseID) // it goes on
	}
	for id, c := range f.state.Cases {
		if !c.Open[r.Order] {
			continue
		}
		c.Seen = r.Time
		switch {
		case r.To == bridge.StateDone:
			c.end(r.Order, true)
		case r.To == bridge.StateDuplicate && covered.ID != "" && !covered.State.End():
			delete(c.Open, r.Order)
			c.Open[covered.ID] = true
		case r.To == bridge.StateDuplicate:
			c.end(r.Order, covered.State == bridge.StateDone)
		case r.To.End():
			c.end(r.Order, false)
		}
		if len(c.Open) == 0 && !c.Bad && c.Done > 0 {
			f.state.enqueue(feedbackClose, id, c.Order, f.cfg.Now(), f.cfg.Now().Add(f.cfg.Plan.CloseAfter))
		}
	}
	return nil
}

func (c *feedbackCase) end(order string, done bool) {
	delete(c.Open, order)
	c.Order = order
	if done {
		c.Done++
	} else {
		c.Bad = true
	}
}

// covering returns the order that covers a duplicate.
func (f *Feedback) covering(ctx context.Context, r bridge.AuditRecord, o bridge.Order) (bridge.Order, error) {
	if r.To != bridge.StateDuplicate || o.Covers == "" {
		return bridge.Order{}, nil
	}
	covered, err := f.cfg.Order(ctx, o.Covers)
	if errors.Is(err, bridge.ErrNotFound) {
		return bridge.Order{}, nil // nobody knows how it ended, so the alert stays open
	}
	return covered, err
}

// isolation keeps account of the isolated hosts.
func (f *Feedback) isolation(r bridge.AuditRecord, o bridge.Order, tenant string) {
	key, h := f.state.host(o.Host, o.Intent.Target)
	if bridge.IsRelease(o.Task) {
		if h == nil { // isolated before the state begins, so the tenant is not known
			h = &feedbackHost{Host: o.Host, Target: o.Intent.Target, Since: r.Time}
		}
		f.released(key, h, r)
		return
	}
	if o.Actor == bridge.ActorLease && h != nil && r.To != bridge.StateDone {
		return // the host is isolated and is to stay so: only that it was done once more is worth a record
	}
	var state string
	switch {
	case r.To == bridge.StateAccepted || r.To == bridge.StateRunning:
		state = feedbackAccepted
	case r.To == bridge.StateDone:
		state = feedbackIsolated
	case r.To == bridge.StateDuplicate && r.Reason == bridge.ReasonLease && h != nil:
		state = h.State // a reason more: its end may move
	case r.To == bridge.StateFailed && h != nil && h.Order == o.ID:
		state = feedbackFailed
	case r.To == bridge.StateUnknown && h != nil && h.Order == o.ID:
		state = feedbackUnknown
	default:
		return
	}
	if h == nil {
		h = &feedbackHost{Host: o.Host, Tenant: tenant, Since: r.Time}
		f.state.Hosts[key] = h
	}
	if r.To != bridge.StateDuplicate {
		h.Order = o.ID
		if o.Actor != bridge.ActorLease {
			h.Since = r.Time
		}
		if o.Intent.Target != "" {
			h.Target = o.Intent.Target
		}
		h.Until = time.Time{}
		if o.For > 0 {
			h.Until = o.Created.Add(o.For)
		}
	}
	h.State = state
	if h.State == feedbackFailed {
		h.Until = r.Time
	}
	f.row(key, h)
}

// released takes in what became of a release of a host.
func (f *Feedback) released(key string, h *feedbackHost, r bridge.AuditRecord) {
	switch {
	case r.To == bridge.StateAccepted || r.To == bridge.StateRunning:
		h.State, h.Until = feedbackReleasing, r.Time
	case r.To == bridge.StateDone:
		h.State, h.Until = feedbackReleased, r.Time
	case r.To == bridge.StateUnknown:
		h.State = feedbackUnknown
	case r.To.CameToNothing() && h.State == feedbackReleasing:
		h.State, h.Until = feedbackIsolated, time.Time{}
	default:
		return
	}
	h.Order = r.Order
	f.state.Hosts[key] = h
	f.row(key, h)
}

// lapsed looks which hosts have no lease left, after the vendor's product ended an isolation by itself: the record does not name the host in a
// field of its own.
func (f *Feedback) lapsed(ctx context.Context, r bridge.AuditRecord) error {
	if f.cfg.Leases == nil || len(f.state.Hosts) == 0 {
		return nil
	}
	leases, err := f.cfg.Leases(ctx)
	if err != nil {
		return err
	}
	for key, h := range f.state.Hosts {
		if !h.over() && !feedbackHeld(leases, h) && strings.Contains(r.Detail, h.Host) {
			h.State, h.Until = feedbackReleased, r.Time
			f.row(key, h)
		}
	}
	return nil
}

func feedbackHeld(leases []bridge.Lease, h *feedbackHost) bool {
	for _, l := range leases {
		if feedbackOf(l, h) {
			return true
		}
	}
	return false
}

// feedbackOf reports whether a lease is about the host.
func feedbackOf(l bridge.Lease, h *feedbackHost) bool {
	return strings.EqualFold(l.Host, h.Host) || h.Target != "" && strings.EqualFold(l.Target, h.Target)
}

// row makes the record of a host due, where a list is there for it.
func (f *Feedback) row(key string, h *feedbackHost) {
	if _, ok := f.list(h.Tenant); !ok {
		delete(f.state.Hosts, key)
		return
	}
	now := f.cfg.Now()
	f.state.enqueue(feedbackRow, key, h.Order, now, now)
}

// list returns the active list for a tenant.
func (f *Feedback) list(tenant string) (FeedbackList, bool) {
	var rest FeedbackList
	found := false
	for _, l := range f.cfg.Plan.Lists {
		switch l.Tenant {
		case tenant:
			return l, true
		case "":
			rest, found = l, true
		}
	}
	return rest, found
}
