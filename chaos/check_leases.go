package main

import (
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

// checkLeases makes sure that no host was released while a reason to keep it isolated had time left, and that none stays isolated
// once the last reason lapsed.
func (c *checker) checkLeases() {
	isolations := map[string][]*bridge.Order{}
	for i := range c.orders {
		if o := &c.orders[i]; bridge.IsIsolation(o.Task) {
			isolations[c.target(o)] = append(isolations[c.target(o)], o)
		}
	}
	for i := range c.orders {
		r := &c.orders[i]
		if !bridge.IsRelease(r.Task) || r.Actor != bridge.ActorLease || !c.accepted(r.ID) {
			continue
		}
		sent := c.first(r, bridge.StateSending)
		for _, o := range isolations[c.target(r)] {
			if began := c.reason(o); began != nil && began.Seq < sent.Seq && began.Time.Add(o.For).After(sent.Time) {
				c.disagree("order %s released %s %s before the reason of order %s lapsed", r.ID, r.Host, began.Time.Add(o.For).Sub(sent.Time), o.ID)
			}
		}
	}
	for _, l := range c.leases {
		c.disagree("lease of order %s on %s still holds", l.Order, l.Host)
	}
	if len(c.leases) == 0 {
		c.checkReleased()
	}
}

// reason returns the record with which an isolation became a reason to keep its host isolated; nil when it never
// did, or gave up before anything was sent.
func (c *checker) reason(o *bridge.Order) *bridge.AuditRecord {
	switch {
	case o.State == bridge.StateDuplicate && o.Reason == bridge.ReasonLease:
		return c.first(o, bridge.StateDuplicate)
	case c.accepted(o.ID), o.State == bridge.StateUnknown:
		return c.first(o, bridge.StateSending)
	default:
		return nil
	}
}

// first returns the first record that brought an order into a state, or nil.
func (c *checker) first(o *bridge.Order, s bridge.State) *bridge.AuditRecord {
	for i := range c.history[o.ID] {
		if r := &c.history[o.ID][i]; r.To == s {
			return r
		}
	}
	return nil
}

// outlived reports whether the time of an isolation was over when a release of its host was admitted: nobody wanted
// the host isolated any more, so nothing was lost when the isolation was not sent.
func (c *checker) outlived(o *bridge.Order) bool {
	began := c.first(o, bridge.StateSending)
	if began == nil {
		began = c.first(o, bridge.StateDuplicate)
	}
	if began == nil || o.For <= 0 {
		return false
	}
	for i := range c.orders {
		r := &c.orders[i]
		if !bridge.IsRelease(r.Task) || c.target(r) != c.target(o) {
			continue
		}
		if h := c.history[r.ID]; len(h) > 0 && !h[0].Time.Before(began.Time.Add(o.For)) {
			return true
		}
	}
	return false
}

// checkReleased makes sure that the last thing each isolated host was told is to let go.
func (c *checker) checkReleased() {
	type last struct {
		incident *ksctest.Incident
		action   int
	}
	hosts := map[string]last{}
	for i := range c.incidents {
		in := &c.incidents[i]
		body, ok := bodyOf(in)
		if !ok || body.Task != bridge.KindIsolateHost {
			continue
		}
		key := strings.ToLower(in.Host)
		if before := hosts[key].incident; before == nil || !in.Stored.Before(before.Stored) {
			hosts[key] = last{in, body.Params.Action}
		}
	}
	for host, l := range hosts {
		if l.action != bridge.IsolationOff {
			c.disagree("host %s has no lease and stays isolated: its last incident is %d", host, l.incident.ID)
		}
	}
}
