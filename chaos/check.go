package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

// want is one order that the rules ask for.
type want struct {
	alert string // id of the alert
	task  bridge.Kind
	name  string // of the host, as the alert has it
	host  string // its id at KSC
	path  string // of terminateProcess; no two wants have the same
}

// evidence is all that was written down about a run, by the mock and by the bridge, and what was asked for.
type evidence struct {
	wants     []want
	incidents []ksctest.Incident
	orders    []bridge.Order
	audit     []bridge.AuditRecord // oldest first
	chain     bridge.AuditReport
	leases    []bridge.Lease // that still hold
}

// findings are what the evidence shows.
type findings struct {
	// missing are wants that came to nothing, duplicated incidents that no order accounts for.
	missing, duplicated int
	// disagreements are contradictions between the records, in words; those behind missing and duplicated are among them.
	disagreements []string
}

func (f *findings) disagree(format string, args ...any) {
	f.disagreements = append(f.disagreements, fmt.Sprintf(format, args...))
}

// checker compares the records of one run.
type checker struct {
	evidence
	findings
	byID    map[string]*bridge.Order
	hosts   map[string]string               // id at KSC, by name in lower case
	history map[string][]bridge.AuditRecord // of each order, oldest first
	effect  map[string]*ksctest.Incident    // the incident of each order that has one
}

// check says whether the records of a run agree with each other and with what was asked for. It looks at nothing but
// the evidence.
func check(e evidence) findings {
	c := &checker{
		evidence: e, byID: make(map[string]*bridge.Order, len(e.orders)), history: make(map[string][]bridge.AuditRecord, len(e.orders)),
		effect: make(map[string]*ksctest.Incident, len(e.incidents)), hosts: map[string]string{},
	}
	for _, w := range e.wants {
		c.hosts[strings.ToLower(w.name)] = w.host
	}
	for i := range e.orders {
		c.byID[e.orders[i].ID] = &e.orders[i]
	}
	c.checkChain()
	c.checkHistories()
	c.matchIncidents()
	c.checkOrders()
	c.checkWants()
	c.checkLeases()
	return c.findings
}

// address is what tells one incident from all others: the second the bridge chose is unique for host and body.
type address struct {
	host, body string
	second     int64
}

func addressOf(i *ksctest.Incident) address {
	return address{strings.ToLower(i.Host), i.Body, i.Added.Unix()}
}

func addressOfOrder(o *bridge.Order) address {
	return address{strings.ToLower(o.Intent.Target), o.Intent.Body, o.Intent.Second.Unix()}
}

// matchIncidents gives each incident to the one order whose intent it is.
func (c *checker) matchIncidents() {
	owners := make(map[address]*bridge.Order, len(c.orders))
	for i := range c.orders {
		o := &c.orders[i]
		if o.Intent.Second.IsZero() {
			continue
		}
		at := addressOfOrder(o)
		if first := owners[at]; first != nil {
			c.disagree("orders %s and %s have the same host, second and body", first.ID, o.ID)
			continue
		}
		owners[at] = o
	}
	seen := make(map[address]int, len(c.incidents))
	for i := range c.incidents {
		in := &c.incidents[i]
		at := addressOf(in)
		if first, twice := seen[at]; twice {
			c.duplicated++
			c.disagree("incidents %d and %d are equal in host, second and body: %s", first, in.ID, in.Body)
			continue
		}
		seen[at] = in.ID
		o := owners[at]
		switch {
		case o == nil:
			c.duplicated++
			c.disagree("incident %d belongs to no order: %s", in.ID, in.Body)
		case !c.mayHave(o):
			c.duplicated++
			c.disagree("incident %d belongs to order %s, which is %s and was never accepted", in.ID, o.ID, o.State)
		default:
			c.effect[o.ID] = in
		}
	}
}

// mayHave reports whether an order may have an incident.
func (c *checker) mayHave(o *bridge.Order) bool {
	return o.State == bridge.StateUnknown || c.accepted(o.ID)
}

// accepted reports whether KSC ever took the order.
func (c *checker) accepted(order string) bool {
	for _, r := range c.history[order] {
		if r.To == bridge.StateAccepted {
			return true
		}
	}
	return false
}

// checkOrders looks for the incident of each order KSC took, and whether its intent was on disk before.
func (c *checker) checkOrders() {
	for i := range c.orders {
		o := &c.orders[i]
		in := c.effect[o.ID]
		switch {
		case in == nil && c.accepted(o.ID):
			c.disagree("order %s was accepted and has no incident", o.ID)
		case in == nil:
		case o.State != bridge.StateUnknown && o.Ref != fmt.Sprint(in.ID):
			c.disagree("order %s says that incident %q is its own, the mock says %d", o.ID, o.Ref, in.ID)
		default:
			c.checkIntent(o, in)
		}
		if o.AlertID == "" && (o.Actor != bridge.ActorLease || !bridge.IsRelease(o.Task)) {
			c.disagree("order %s comes from no alert and from no lease: actor %q", o.ID, o.Actor)
		}
	}
}

// checkIntent makes sure that at the moment of the incident the last thing on disk about its order was that it is being sent.
func (c *checker) checkIntent(o *bridge.Order, in *ksctest.Incident) {
	last := bridge.State("")
	for _, r := range c.history[o.ID] {
		if r.Time.After(in.Stored) {
			break
		}
		last = r.To
	}
	if last != bridge.StateSending {
		c.disagree("incident %d was added at %s, when order %s was %q and not sending", in.ID, in.Stored.Format(time.RFC3339Nano), o.ID, last)
	}
}

// taskBody is what the incident asks the host to do.
type taskBody struct {
	Task       bridge.Kind `json:"task"`
	TargetHost string      `json:"targetHost"`
	Params     struct {
		Path   string `json:"path"`
		Action int    `json:"action"`
	} `json:"params"`
}

func bodyOf(in *ksctest.Incident) (b taskBody, ok bool) {
	err := json.Unmarshal([]byte(in.Body), &b)
	return b, err == nil && strings.EqualFold(b.TargetHost, in.Host)
}
