package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// cabinet is a store in memory with a ledger, as the real one has: leases, budgets and the hold are judged where an order moves.
type cabinet struct {
	mu      sync.Mutex // guards everything below
	ledger  *bridge.Ledger
	orders  map[string]bridge.Order
	came    []string // order ids as they were admitted
	history map[string][]bridge.State
	foreign map[string]bool // orders of another process
	hold    bridge.Hold
	version uint64
	letters map[string]bridge.DeadLetter
	notes   []bridge.Note
	broken  map[string]bool // methods that fail
	calls   map[string]int
	// reading is called once, between the reading of the hold and the answer.
	reading func()
}

func newCabinet(p bridge.Policy) *cabinet {
	return &cabinet{
		ledger: bridge.NewLedger(p), orders: map[string]bridge.Order{}, history: map[string][]bridge.State{}, foreign: map[string]bool{},
		letters: map[string]bridge.DeadLetter{}, broken: map[string]bool{}, calls: map[string]int{},
	}
}

var (
	errBroken                = errors.New("disk full")
	_         bridge.Cabinet = (*cabinet)(nil)
	_         bridge.Journal = (*cabinet)(nil)
)

// enter counts a call and says whether it fails; mu is held.
func (c *cabinet) enter(method string) error {
	c.calls[method]++
	if c.broken[method] || c.broken["*"] {
		return errBroken
	}
	return nil
}

func (c *cabinet) AddFact(bridge.Fact) error                   { return nil }
func (c *cabinet) DropFacts(string, bridge.FactKind) error     { return nil }
func (c *cabinet) PutLease(bridge.Lease) error                 { return nil }
func (c *cabinet) Latch(h bridge.Hold) error                   { c.hold = h; return nil }
func (c *cabinet) Record(n bridge.Note) error                  { c.notes = append(c.notes, n); return nil }
func (c *cabinet) Note(_ context.Context, n bridge.Note) error { return c.Record(n) }
func (c *cabinet) Changed(context.Context) (v uint64, err error) {
	return look(c, "Changed", &c.version)
}

// look reads one value.
func look[T any](c *cabinet, method string, v *T) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *v, c.enter(method)
}

func (c *cabinet) Hold(context.Context) (bridge.Hold, error) {
	h, err := look(c, "Hold", &c.hold)
	c.mu.Lock()
	reading := c.reading
	c.reading = nil
	c.mu.Unlock()
	if reading != nil {
		reading()
	}
	return h, err
}

// set changes the store as another process would.
func (c *cabinet) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.ledger.SetHold(c.hold)
	c.version++
}

func (c *cabinet) Admit(_ context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Admit"); err != nil {
		return nil, err
	}
	var out []bridge.Admitted
	for _, o := range a.Orders {
		if old, known := c.orders[o.ID]; known {
			out = append(out, bridge.Admitted{Order: old, Known: true})
			continue
		}
		now := time.Now()
		verdict, err := c.ledger.Admit(o, now, c)
		if err != nil {
			return nil, err
		}
		if verdict.State != bridge.StateQueued {
			o.State, o.Reason, o.Detail, o.Covers = verdict.State, verdict.Reason, verdict.Detail, verdict.Covers
		} else if o.State == bridge.StateSending {
			o = c.begin(o)
		}
		o.Updated = now
		c.came = append(c.came, o.ID)
		asked, err := c.keep(o, "")
		if err != nil {
			return nil, err
		}
		out = append(out, bridge.Admitted{Order: c.orders[o.ID], Asked: asked})
	}
	return out, nil
}

// begin judges an order that is about to be sent; mu is held.
func (c *cabinet) begin(o bridge.Order) bridge.Order {
	if v := c.ledger.Begin(o, time.Now()); v.State != bridge.StateQueued {
		o.State, o.Reason, o.Detail, o.Covers = v.State, v.Reason, v.Detail, v.Covers
		if v.Latch != "" {
			_ = c.ledger.Latch(v.Latch, time.Now(), c)
		}
	}
	return o
}

// keep stores an order in a state; mu is held.
func (c *cabinet) keep(o bridge.Order, from bridge.State) (asked bool, err error) {
	o.Due = bridge.Deadlines{}.Filled().Due(o, time.Now())
	c.orders[o.ID] = o
	c.history[o.ID] = append(c.history[o.ID], o.State)
	return c.ledger.Moved(o, from, time.Now(), c)
}

func (c *cabinet) Move(_ context.Context, o bridge.Order, from bridge.State) (bridge.Order, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Move"); err != nil {
		return bridge.Order{}, err
	}
	if c.orders[o.ID].State != from {
		return bridge.Order{}, bridge.ErrStale
	}
	if from != o.State && bridge.EventOf(from, o.State) == "" {
		return bridge.Order{}, fmt.Errorf("order %s never goes from %s to %s", o.ID, from, o.State)
	}
	o.Updated = time.Now()
	if o.State == bridge.StateSending && from != bridge.StateSending {
		o = c.begin(o)
	}
	_, err := c.keep(o, from)
	return c.orders[o.ID], err
}

func (c *cabinet) Bury(_ context.Context, l bridge.DeadLetter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("Bury"); err != nil {
		return err
	}
	l.Attempts += c.letters[l.ID].Attempts
	c.letters[l.ID] = l
	return nil
}

func (c *cabinet) Unbury(_ context.Context, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.letters, id)
	return c.enter("Unbury")
}

func (c *cabinet) Retries(context.Context) ([]bridge.DeadLetter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []bridge.DeadLetter
	for _, l := range c.letters {
		if !l.Retry.IsZero() {
			out = append(out, l)
		}
	}
	return out, c.enter("Retries")
}

// list pages over the orders fn picks, oldest first.
func (c *cabinet) list(method string, p bridge.Page, fn func(o bridge.Order) bool) ([]bridge.Order, bridge.Page, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter(method); err != nil {
		return nil, p, err
	}
	var out []bridge.Order
	for ; int(p.After) < len(c.came) && len(out) < p.Limit; p.After++ {
		if o := c.orders[c.came[p.After]]; fn(o) {
			out = append(out, o)
		}
	}
	return out, p, nil
}

func (c *cabinet) Pending(_ context.Context, foreign time.Time, p bridge.Page) ([]bridge.Order, bridge.Page, error) {
	return c.list("Pending", p, func(o bridge.Order) bool {
		return o.State.Pending() && (!c.foreign[o.ID] || !o.Updated.After(foreign))
	})
}

func (c *cabinet) Held(_ context.Context, reasons []bridge.Reason, p bridge.Page) ([]bridge.Order, bridge.Page, error) {
	return c.list("Held", p, func(o bridge.Order) bool { return o.State == bridge.StateHeld && slices.Contains(reasons, o.Reason) })
}

func (c *cabinet) Accepted(_ context.Context, p bridge.Page) ([]bridge.Order, bridge.Page, error) {
	return c.list("Accepted", p, func(o bridge.Order) bool {
		return o.State == bridge.StateAccepted || o.State == bridge.StateRunning
	})
}

func (c *cabinet) Overdue(_ context.Context, p bridge.Page) ([]bridge.Order, bridge.Page, error) {
	now := time.Now()
	return c.list("Overdue", p, func(o bridge.Order) bool {
		return !o.State.End() && o.State != bridge.StateSending && !o.Due.IsZero() && now.After(o.Due)
	})
}

func (c *cabinet) DueLeases(context.Context) ([]bridge.LeaseTask, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("DueLeases"); err != nil {
		return nil, err
	}
	return c.ledger.Due(time.Now(), c)
}

func (c *cabinet) TakeUp(_ context.Context, orders []bridge.Order) ([]bridge.Order, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enter("TakeUp"); err != nil {
		return nil, err
	}
	var out []bridge.Order
	for _, o := range orders {
		o = c.orders[o.ID]
		if o.State != bridge.StateHeld || o.Reason == bridge.ReasonLiveTasks && !c.ledger.Room(o) {
			continue
		}
		o.State, o.Reason, o.Detail, o.Updated = bridge.StateQueued, bridge.ReasonNone, "", time.Now()
		if _, err := c.keep(o, bridge.StateHeld); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

func (c *cabinet) order(id string) bridge.Order {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.orders[id]
}

func (c *cabinet) state(id string) bridge.State { return c.order(id).State }

func (c *cabinet) path(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.history[id])
}

func (c *cabinet) count(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

// seed stores an order that was there before.
func (c *cabinet) seed(t *testing.T, o bridge.Order) bridge.Order {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.Updated.IsZero() {
		o.Updated = time.Now()
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = time.Now().Add(15 * time.Minute)
	}
	c.came = append(c.came, o.ID)
	if _, err := c.keep(o, ""); err != nil {
		t.Fatal(err)
	}
	return o
}
