package main

import "github.com/edr-bridge/edr-bridge/bridge"

// checkChain makes sure that the audit records are one unbroken chain, as they stand here and as the store verified them.
func (c *checker) checkChain() {
	if c.chain.FirstBad != 0 {
		c.disagree("audit chain breaks at record %d: %s", c.chain.FirstBad, c.chain.Problem)
	}
	if n := int64(len(c.audit)); c.chain.Records != n {
		c.disagree("%d audit records were verified and %d were read", c.chain.Records, n)
	}
	for i := range c.audit {
		r := &c.audit[i]
		if want := int64(i) + 1; r.Seq != want {
			c.disagree("audit record %d stands in the place of record %d", r.Seq, want)
			return
		}
		if i > 0 && r.Prev != c.audit[i-1].Hash {
			c.disagree("audit record %d does not follow from record %d", r.Seq, r.Seq-1)
		}
	}
	if n := len(c.audit); n > 0 && c.audit[n-1].Hash != c.chain.Head.Hash {
		c.disagree("the last audit record is not the head that was verified")
	}
}

// checkHistories follows each order through the audit records: it comes in once, goes only where the state machine
// leads, and ends where the store has it.
func (c *checker) checkHistories() {
	allowed := map[[2]bridge.State]bool{}
	for _, t := range bridge.Transitions() {
		allowed[[2]bridge.State{t.From, t.To}] = true
	}
	for i := range c.audit {
		r := &c.audit[i]
		if r.Order == "" {
			continue
		}
		before := c.history[r.Order]
		c.history[r.Order] = append(before, *r)
		if len(before) == 0 {
			if r.What != bridge.AuditAdmit || r.From != "" || r.To == bridge.StateAccepted || r.To == bridge.StateRunning {
				c.disagree("order %s enters as %q → %q (%s, record %d)", r.Order, r.From, r.To, r.What, r.Seq)
			}
			continue
		}
		switch last := &before[len(before)-1]; {
		case r.What != bridge.AuditMove:
			c.disagree("order %s has a second record of its admission (%d)", r.Order, r.Seq)
		case r.From != last.To:
			c.disagree("order %s was %s (record %d), then moves from %s (record %d)", r.Order, last.To, last.Seq, r.From, r.Seq)
		case r.From != r.To && !allowed[[2]bridge.State{r.From, r.To}]:
			c.disagree("order %s goes from %s to %s, which no order may (record %d)", r.Order, r.From, r.To, r.Seq)
		case r.Time.Before(last.Time):
			c.disagree("order %s: record %d is older than record %d", r.Order, r.Seq, last.Seq)
		}
	}
	for id, records := range c.history {
		last := records[len(records)-1]
		switch o := c.byID[id]; {
		case o == nil:
			c.disagree("order %s is in the audit records and not in the store", id)
		case o.State != last.To:
			c.disagree("order %s is %s in the store and %s in the audit records", id, o.State, last.To)
		}
	}
	for i := range c.orders {
		if c.history[c.orders[i].ID] == nil {
			c.disagree("order %s is in the store and not in the audit records", c.orders[i].ID)
		}
	}
}
