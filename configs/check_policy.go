package configs

import (
	"slices"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxLimits     = 100 // entries
	maxHours      = 100
	maxOrders     = 1_000_000
	maxHosts      = 10_000_000
	maxDamping    = 1000
	maxWaiting    = 7 * 24 * time.Hour
	minProductOff = 5 * time.Minute
	maxProductOff = 9999 * time.Hour
)

func (c *checker) limits() {
	if len(c.s.Limits) > maxLimits {
		c.bad("limits", "must be %d at most", maxLimits)
	}
	for i, l := range c.s.Limits {
		path := index("limits", i)
		if c.nothing(path) {
			continue
		}
		c.task(path, l.Task)
		has := func(name string) bool { return c.s.places.has(join(path, name)) }
		if has("max") {
			between(c, join(path, "max"), l.Max, 1, maxOrders)
		}
		if c.s.places.has(path) {
			c.require(join(path, "max"), has("max") || has("share"), "how many orders (max: 5), or which share of the hosts (share: 2%)")
			if c.require(join(path, "per"), has("per"), "the time in which they count, such as 1h") {
				between(c, join(path, "per"), l.Per, time.Minute, maxWindow)
			}
		}
		if l.Share > 0 && c.s.KSC == nil && len(c.s.Profiles) == 0 && !c.later && c.s.Inventory.Hosts == 0 {
			c.bad(join(path, "share"), "needs inventory.hosts: without ksc nobody knows how many hosts there are")
		}
		if l.By != "" {
			oneOf(c, join(path, "by"), l.By, bridge.LimitBySource, bridge.LimitByRule)
		}
		oneOf(c, join(path, "on_breach"), l.OnBreach, OnBreachHold)
	}
	between(c, "inventory.hosts", c.s.Inventory.Hosts, 0, maxHosts)
}

func (c *checker) hours() {
	if len(c.s.Hours) > maxHours {
		c.bad("hours", "must be %d at most", maxHours)
	}
	for i, h := range c.s.Hours {
		path := index("hours", i)
		if c.nothing(path) {
			continue
		}
		c.task(path, h.Task)
		if len(h.Days) == 0 {
			c.bad(join(path, "days"), "is empty: name the days or remove the line, which means all")
		}
		from := c.require(join(path, "from"), c.s.places.has(join(path, "from")), `when the span begins, such as "08:00"`)
		to := c.require(join(path, "to"), c.s.places.has(join(path, "to")), `when the span ends, such as "18:00"`)
		switch {
		case !from || !to:
		case time.Duration(h.From) >= dayLength:
			c.bad(join(path, "from"), "must be before 24:00: write 00:00")
		case h.From == h.To && !c.reported(path):
			c.bad(join(path, "to"), `must differ from from: a whole day is from: "00:00", to: "24:00"`)
		}
	}
}

// nothing tells whether an entry of a list could not be decoded at all.
func (c *checker) nothing(path string) bool {
	return slices.ContainsFunc(c.problems, func(p Problem) bool { return p.Path == path })
}

// task checks the name of a task or "*".
func (c *checker) task(path, name string) {
	path = join(path, "task")
	if !c.require(path, name != "", `the name of a task, or "*" for all`) || name == AnyTask {
		return
	}
	if _, err := bridge.ParseKind(name); err != nil {
		c.bad(path, "%s", err)
	}
}

func (c *checker) policy() {
	s := c.s
	for i, k := range s.Approvals.Tasks {
		if _, err := bridge.ParseKind(string(k)); err != nil {
			c.bad(index("approvals.tasks", i), "%s", err)
		}
	}
	between(c, "approvals.timeout", s.Approvals.Timeout, time.Minute, maxWaiting)
	between(c, "approvals.ask_every", s.Approvals.AskEvery, 0, dayLength)
	between(c, "damping.max", s.Damping.Max, 1, maxDamping)
	between(c, "damping.within", s.Damping.Within, time.Minute, dayLength)
	between(c, "undo.max", s.Undo.Max, 0, maxDamping)
	between(c, "undo.per", s.Undo.Per, time.Minute, maxWindow)
	between(c, "leases.default", s.Leases.Default, time.Minute, maxWindow)
	zeroOr(c, "leases.product_off", s.Leases.ProductOff, minProductOff, maxProductOff)
	oneOf(c, "leases.on_product_off", s.Leases.OnProductOff, Reassert, Record)
	between(c, "give_up", s.GiveUp, time.Minute, dayLength)
}

// zeroOr allows a time of 0, which switches something off.
func zeroOr(c *checker, path string, got, low, high time.Duration) {
	if got != 0 && (got < low || got > high) {
		c.bad(path, "must be 0s or %s to %s, not %s", show(low), show(high), show(got))
	}
}
