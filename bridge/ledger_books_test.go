package bridge_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// cases is how many histories each property of the ledger is tried on, in rounds of rapid's default of 100; fewer where the race
// detector makes them slow.
const cases = 10_000 / slowdown

// books asks a ledger as a store does, and keeps what it writes.
type books struct {
	policy bridge.Policy
	ledger *bridge.Ledger
	now    time.Time
	orders map[string]bridge.Order
	ids    []string // in the order of their admission
	asked  []string

	// The journal.
	hold     bridge.Hold
	latches  int
	fresh    time.Time
	facts    []bridge.Fact
	leases   map[string]bridge.Lease
	notes    []bridge.Note
	problems []string // promises about leases that were broken
}

func newBooks(p bridge.Policy) *books {
	if p.Lease.Default == 0 {
		p.Lease.Default = 4 * time.Hour
	}
	return &books{
		policy: p, ledger: bridge.NewLedger(p), now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
		orders: map[string]bridge.Order{}, leases: map[string]bridge.Lease{},
	}
}

func (b *books) AddFact(f bridge.Fact) error {
	b.facts = append(b.facts, f)
	return nil
}

func (b *books) DropFacts(order string, what bridge.FactKind) error {
	b.facts = slices.DeleteFunc(b.facts, func(f bridge.Fact) bool { return f.Order == order && f.What == what })
	return nil
}

func (b *books) PutLease(l bridge.Lease) error {
	old, known := b.leases[l.Order]
	switch {
	case known && !old.Live() && !l.Live() && (old.End != l.End || !old.Ended.Equal(l.Ended)):
		b.problems = append(b.problems, fmt.Sprintf("lease %s ended %s at %s and once more %s at %s", l.Order, old.End, old.Ended, l.End, l.Ended))
	case l.Live() != l.Ended.IsZero():
		b.problems = append(b.problems, fmt.Sprintf("lease %s: end %q at %s", l.Order, l.End, l.Ended))
	case l.Live() && l.EndedBy != "":
		b.problems = append(b.problems, fmt.Sprintf("lease %s holds and is ended by %s", l.Order, l.EndedBy))
	}
	b.leases[l.Order] = l
	return nil
}

func (b *books) Latch(h bridge.Hold) error {
	b.hold = h
	b.latches++
	return nil
}

func (b *books) Record(n bridge.Note) error {
	b.notes = append(b.notes, n)
	return nil
}

// rebuilt is the ledger as the next start of the bridge has it.
func (b *books) rebuilt() *bridge.Ledger {
	l := bridge.NewLedger(b.policy)
	l.Restore(b.hold, b.fresh)
	for _, f := range b.facts {
		l.RestoreFact(f)
	}
	for _, le := range b.leases {
		l.RestoreLease(le)
	}
	for _, o := range b.orders {
		if o.Executor == bridge.ExecutorKSC && (o.State == bridge.StateSending || o.State == bridge.StateAccepted || o.State == bridge.StateRunning) {
			host := o.Host
			if o.Intent.Target != "" {
				host = o.Intent.Target
			}
			l.RestoreLive(o.ID, host)
		}
	}
	return l
}

// sameAfterRestart returns how the leases and live tasks differ from those of the next start.
func (b *books) sameAfterRestart() string {
	next := b.rebuilt()
	if got, want := b.ledger.LiveTasks(), next.LiveTasks(); got != want && b.policy.Live.Hold > 0 {
		return fmt.Sprintf("%d live tasks, %d after a restart", got, want)
	}
	return gocmp.Diff(next.Leases(), b.ledger.Leases())
}

func (b *books) setHold(h bridge.Hold) {
	if b.hold.Active && !h.Active {
		b.fresh = h.Since
	}
	b.hold = h
	b.ledger.SetHold(h)
}

func (b *books) resume() { b.setHold(bridge.Hold{Since: b.now}) }

func (b *books) judged(o bridge.Order, j bridge.Judgement) bridge.Order {
	if j.State != bridge.StateQueued {
		o.State, o.Reason, o.Detail, o.Covers = j.State, j.Reason, j.Detail, j.Covers
	}
	if j.Latch != "" {
		b.must(b.ledger.Latch(j.Latch, b.now, b))
	}
	return o
}

func (b *books) must(err error) {
	if err != nil {
		b.problems = append(b.problems, err.Error())
	}
}

// admit takes an order in whose state is what the stateless guards left.
func (b *books) admit(o bridge.Order) bridge.Order {
	if old, known := b.orders[o.ID]; known {
		return old
	}
	j, err := b.ledger.Admit(o, b.now, b)
	b.must(err)
	o = b.judged(o, j)
	if o.State == bridge.StateSending {
		o = b.judged(o, b.ledger.Begin(o, b.now))
	}
	b.ids = append(b.ids, o.ID)
	return b.moved(o, "")
}

// move gives an order its next state, or the one the ledger wants instead.
func (b *books) move(id string, to bridge.State, change ...func(*bridge.Order)) bridge.Order {
	o := b.orders[id]
	from := o.State
	o.State, o.Reason, o.Detail = to, bridge.ReasonNone, ""
	for _, c := range change {
		c(&o)
	}
	if o.State == bridge.StateSending {
		o = b.judged(o, b.ledger.Begin(o, b.now))
	}
	if bridge.EventOf(from, o.State) == "" {
		b.problems = append(b.problems, fmt.Sprintf("order %s moved from %s to %s", id, from, o.State))
	}
	return b.moved(o, from)
}

func (b *books) moved(o bridge.Order, from bridge.State) bridge.Order {
	o.Updated = b.now
	b.orders[o.ID] = o
	asked, err := b.ledger.Moved(o, from, b.now, b)
	b.must(err)
	if asked {
		b.asked = append(b.asked, o.ID)
	}
	return o
}

func (b *books) due() []bridge.LeaseTask {
	due, err := b.ledger.Due(b.now, b)
	b.must(err)
	return due
}

// keep admits what the leases ask for and returns the ids of the new orders.
func (b *books) keep(t testing.TB) []string {
	t.Helper()
	var ids []string
	for _, task := range b.due() {
		o, err := task.Order()
		if err != nil {
			t.Fatal(err)
		}
		if _, known := b.orders[o.ID]; known {
			continue
		}
		o.State, o.Executor, o.Created = bridge.StateQueued, bridge.ExecutorKSC, b.now
		if task.Lease.Executor == bridge.ExecutorLocal {
			o.Executor = bridge.ExecutorLocal
		}
		ids = append(ids, b.admit(o).ID)
	}
	return ids
}

// send carries an order of a test to a state by way of sending.
func (b *books) send(id string, to bridge.State, change ...func(*bridge.Order)) bridge.Order {
	if o := b.move(id, bridge.StateSending, change...); o.State != bridge.StateSending {
		return o
	}
	if to == bridge.StateSending {
		return b.orders[id]
	}
	return b.move(id, to)
}

// live returns the orders of the leases that hold.
func (b *books) live() []string {
	var ids []string
	for _, l := range b.ledger.Leases() {
		if l.Live() {
			ids = append(ids, l.Order)
		}
	}
	slices.SortFunc(ids, cmp.Compare[string])
	return ids
}

func at(target string) func(*bridge.Order) {
	return func(o *bridge.Order) { o.Intent.Target = target }
}

func on(executor string) func(*bridge.Order) {
	return func(o *bridge.Order) { o.Executor = executor }
}

// ruled is an order of a rule that isolates a host, released one of a person who releases it.
func ruled(id, host string, lasts time.Duration) bridge.Order {
	return bridge.Order{
		ID: id, AlertID: "a-" + id, Source: "src", Rule: "rule", At: "rules.yaml:3", Host: host, Task: bridge.IsolateHost{Action: bridge.IsolationOn},
		Mode: bridge.ModeEnforce, For: lasts, State: bridge.StateQueued, Executor: bridge.ExecutorKSC,
	}
}

func released(id, host string) bridge.Order {
	return bridge.Order{
		ID: id, Actor: "cli:alice", Host: host, Task: bridge.IsolateHost{Action: bridge.IsolationOff}, State: bridge.StateQueued,
		Executor: bridge.ExecutorKSC,
	}
}
