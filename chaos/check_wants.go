package main

import (
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// asked is what an order and a want have in common.
type asked struct {
	alert string
	task  bridge.Kind
}

// checkWants looks for what became of each order the rules ask for, in the store and, for what has a path of its own, in
// the record of the mock alone.
func (c *checker) checkWants() {
	wanted := make(map[asked]bool, len(c.wants))
	for _, w := range c.wants {
		wanted[asked{w.alert, w.task}] = true
	}
	stored := make(map[asked]*bridge.Order, len(c.orders))
	for i := range c.orders {
		o := &c.orders[i]
		if o.AlertID == "" || o.Task == nil {
			continue
		}
		a := asked{o.AlertID, o.Task.Kind()}
		switch {
		case !wanted[a]:
			c.disagree("order %s was never asked for: %s of alert %s", o.ID, a.task, a.alert)
		case stored[a] != nil:
			c.disagree("orders %s and %s are the same %s of alert %s", stored[a].ID, o.ID, a.task, a.alert)
		}
		stored[a] = o
	}
	byPath := map[string]int{}
	for i := range c.incidents {
		body, ok := bodyOf(&c.incidents[i])
		switch {
		case !ok:
			c.disagree("incident %d is no task for its host: %s", c.incidents[i].ID, c.incidents[i].Body)
		case body.Task == bridge.KindTerminateProcess:
			byPath[strings.ToLower(body.TargetHost)+" "+body.Params.Path]++
		}
	}
	for _, w := range c.wants {
		lost := c.lost(stored[asked{w.alert, w.task}])
		switch n := byPath[strings.ToLower(w.host)+" "+w.path]; {
		case w.path != "" && n == 0 && lost == "":
			lost = "the store says it was carried out, and the mock has no such incident"
		case w.path != "" && n > 0 && lost != "":
			c.disagree("%s of alert %s has an incident although %s", w.task, w.alert, lost)
			lost = ""
		case w.path != "" && n > 1:
			c.disagree("%s of alert %s has %d incidents", w.task, w.alert, n)
		}
		if lost != "" {
			c.missing++
			c.disagree("%s of alert %s on %s is missing: %s", w.task, w.alert, w.host, lost)
		}
	}
}

// lost says in words why what an order asks for did not happen; empty when it did.
func (c *checker) lost(o *bridge.Order) string {
	switch {
	case o == nil:
		return "the store has no order"
	case c.accepted(o.ID):
		if c.effect[o.ID] == nil {
			return "order " + o.ID + " was accepted without an incident"
		}
		return ""
	case bridge.IsIsolation(o.Task) && o.State == bridge.StateDuplicate && o.Reason == bridge.ReasonLease:
		return c.uncovered(o)
	case bridge.IsIsolation(o.Task) && o.State == bridge.StateCancelled && c.outlived(o):
		return ""
	default:
		return "order " + o.ID + " is " + string(o.State) + " (" + string(o.Reason) + "): " + o.Detail
	}
}

// uncovered says why an isolation that counts as one reason more had nothing to be a reason of; empty when it had.
func (c *checker) uncovered(o *bridge.Order) string {
	effect := c.byID[o.Covers]
	switch {
	case effect == nil:
		return "order " + o.ID + " is covered by " + o.Covers + ", which the store does not have"
	case !bridge.IsIsolation(effect.Task) || c.target(effect) != c.target(o):
		return "order " + o.ID + " is covered by " + effect.ID + ", which isolates another host"
	case c.effect[effect.ID] != nil, effect.State == bridge.StateCancelled && c.outlived(o):
		return ""
	default:
		return "order " + o.ID + " is covered by " + effect.ID + ", which is " + string(effect.State)
	}
}

// target is the id of an order's host at KSC in lower case.
func (c *checker) target(o *bridge.Order) string {
	id := o.Intent.Target
	if id == "" {
		id = c.hosts[strings.ToLower(o.Host)]
	}
	return strings.ToLower(id)
}
