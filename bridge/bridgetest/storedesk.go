package bridgetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// StoreDesk is a store with all that a running bridge and the people who work with it ask of it.
type StoreDesk interface {
	bridge.Cabinet
	Order(ctx context.Context, id string) (bridge.Order, error)
	Orders(ctx context.Context, f bridge.OrderFilter) ([]bridge.Order, error)
	Audit(ctx context.Context, f bridge.AuditFilter) ([]bridge.AuditRecord, error)
	Leases(ctx context.Context) ([]bridge.Lease, error)
	Letters(ctx context.Context, p bridge.Page) ([]bridge.DeadLetter, bridge.Page, error)
	Letter(ctx context.Context, id string) (bridge.DeadLetter, error)
	SetHold(ctx context.Context, h bridge.Hold) error
	Decide(ctx context.Context, d bridge.Decision) (bridge.Order, error)
	Cancel(ctx context.Context, id, actor, why string) (bridge.Order, error)
	RetryLetter(ctx context.Context, id, actor string) (bridge.DeadLetter, error)
	DropLetter(ctx context.Context, id, actor, why string) (bridge.DeadLetter, error)
	Close() error
}

// StoreSetup says how the suite wants a store. With the Dir of a store that was closed, it is opened again.
type StoreSetup struct {
	Dir    string
	Policy bridge.Policy
	Now    func() time.Time
}

// TestStoreDesk runs the contract of bridge.Cabinet and of what a store does for bridge.Desk. open registers no clean-up: the suite
// closes what it opened.
func TestStoreDesk(t *testing.T, open func(t *testing.T, s StoreSetup) StoreDesk) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *desk){
		"orders move along the rows of the state machine only":                  deskKeepsTheMachine,
		"every state has its deadline":                                          deskFillsDue,
		"orders past their deadline are listed":                                 deskListsOverdue,
		"accepted and running orders are listed":                                deskListsAccepted,
		"an order that is not on its way keeps no intent":                       deskDropsIntents,
		"an isolation is a lease until it lapses":                               deskKeepsLeases,
		"a second reason joins the lease of a host":                             deskJoinsLeases,
		"leases survive reopening":                                              deskReopensLeases,
		"an isolation that came to nothing leaves no lease":                     deskEndsFailedLease,
		"a release that came to nothing brings the lease back":                  deskReturnsLease,
		"a release cancels the isolations that wait":                            deskCancelsWaiting,
		"a release of a lease cancels nothing":                                  deskSparesOtherReasons,
		"a lease whose isolation the product ended is recorded so":              deskRecordsProductEnd,
		"a used-up budget holds orders of rules and latches":                    deskLatches,
		"a resume starts every budget anew":                                     deskResumes,
		"an order by hand over the budget is refused and latches nothing":       deskRefusesByHand,
		"a redelivery counts against no budget":                                 deskCountsOnce,
		"what was undone is given back":                                         deskGivesBack,
		"under a hold nothing begins but releases":                              deskHolds,
		"unfinished tasks at KSC hold others back":                              deskCountsLiveTasks,
		"held orders are taken up as far as KSC has room":                       deskTakesUpRoom,
		"held orders are taken up when the hold is over":                        deskTakesUpHeld,
		"a held isolation is not taken up when its host was released":           deskTakesUpNoReleased,
		"a host that goes back and forth waits for a person":                    deskDamps,
		"a threshold counts each alert once":                                    deskCountsStrikes,
		"each alert is a reason of a lease, and none when the isolation failed": deskCoversByLease,
		"an approval binds to the digest that was shown":                        deskBindsApproval,
		"who asked for an order does not approve it under four eyes":            deskWantsFourEyes,
		"a rejected order is refused":                                           deskRejects,
		"a person is asked once about a host":                                   deskAsksOnce,
		"waiting orders are cancelled, others are stale":                        deskCancels,
		"a decision about an unknown or ambiguous id is refused":                deskWantsOneID,
		"dead letters keep their bytes and count attempts":                      deskBuries,
		"dead letters are retried once, dropped with a record, and found by id": deskRetries,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &desk{t: t, opener: open, clock: newTestClock(), dir: t.TempDir()}
			t.Cleanup(d.close)
			test(t, d)
		})
	}
}

// desk is one store of the suite.
type desk struct {
	StoreDesk
	t      *testing.T
	opener func(t *testing.T, s StoreSetup) StoreDesk
	clock  *testClock
	dir    string
	policy bridge.Policy
	orders int
}

// open opens the store with a policy.
func (d *desk) open(p bridge.Policy) {
	d.t.Helper()
	d.policy = p
	d.StoreDesk = d.opener(d.t, StoreSetup{Dir: d.dir, Policy: p, Now: d.clock.now})
}

// reopen closes the store and opens it again.
func (d *desk) reopen() {
	d.t.Helper()
	d.close()
	d.open(d.policy)
}

func (d *desk) close() {
	if d.StoreDesk == nil {
		return
	}
	if err := d.Close(); err != nil {
		d.t.Errorf("close: %v", err)
	}
	d.StoreDesk = nil
}

// order returns an order of a rule that is ready to be sent to KSC.
func (d *desk) order(host string, task bridge.Task) bridge.Order {
	d.t.Helper()
	d.orders++
	o := bridge.Order{
		AlertID: fmt.Sprint("a", d.orders), Source: "bus", Rule: "rule", Host: host, Task: task, Mode: bridge.ModeEnforce, Executor: bridge.ExecutorKSC,
		State: bridge.StateSending, NotAfter: d.clock.now().Add(time.Hour),
		Intent: bridge.Intent{Target: "id-" + strings.ToLower(host), Names: []string{host}, Second: d.clock.now(), Body: fmt.Sprint("body ", d.orders)},
	}
	if bridge.IsIsolation(task) {
		o.For = 4 * time.Hour
	}
	var err error
	if o.ID, err = bridge.NewOrderID(o.Source, o.AlertID, o.Rule, task, host); err != nil {
		d.t.Fatal(err)
	}
	return o
}

func (d *desk) isolation(host string) bridge.Order {
	d.t.Helper()
	return d.order(host, bridge.IsolateHost{Action: bridge.IsolationOn})
}

func (d *desk) release(host string) bridge.Order {
	d.t.Helper()
	o := d.order(host, bridge.IsolateHost{Action: bridge.IsolationOff})
	o.Rule, o.Actor = "", "cli:alice"
	return o
}

func (d *desk) kill(host string) bridge.Order {
	d.t.Helper()
	return d.order(host, bridge.TerminateProcess{Path: `C:\Users\Public\a.exe`})
}

// enter admits one order and returns it as stored.
func (d *desk) enter(o bridge.Order) bridge.Order {
	d.t.Helper()
	return admit(d.t, d, o)[0].Order
}

// expect compares state and reason.
func (d *desk) expect(o bridge.Order, state bridge.State, reason bridge.Reason) bridge.Order {
	d.t.Helper()
	if o.State != state || o.Reason != reason {
		d.t.Errorf("order %s of %s is %s for %q (%s), want %s for %q", o.ID, o.Host, o.State, o.Reason, o.Detail, state, reason)
	}
	return o
}

// standing returns the order as it stands.
func (d *desk) standing(o bridge.Order) bridge.Order {
	d.t.Helper()
	got, err := d.Order(d.t.Context(), o.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	return got
}

// turn moves an order.
func (d *desk) turn(o bridge.Order, to bridge.State) bridge.Order {
	d.t.Helper()
	return move(d.t, d, o, to)
}

func (d *desk) leases() []bridge.Lease {
	d.t.Helper()
	out, err := d.Leases(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *desk) due() []bridge.LeaseTask {
	d.t.Helper()
	out, err := d.DueLeases(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *desk) held(reasons ...bridge.Reason) []bridge.Order {
	d.t.Helper()
	out, _, err := d.Held(d.t.Context(), reasons, bridge.Page{Limit: 1000})
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// takeUp takes up what is held for the reasons.
func (d *desk) takeUp(reasons ...bridge.Reason) []bridge.Order {
	d.t.Helper()
	out, err := d.TakeUp(d.t.Context(), d.held(reasons...))
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *desk) onHold() bridge.Hold {
	d.t.Helper()
	h, err := d.Hold(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

func (d *desk) resume() {
	d.t.Helper()
	if err := d.SetHold(d.t.Context(), bridge.Hold{Reason: "looked at it", Actor: "cli:alice"}); err != nil {
		d.t.Fatal(err)
	}
}

// notes returns the audit records of one kind.
func (d *desk) notes(what string) []bridge.AuditRecord {
	d.t.Helper()
	all, err := d.Audit(d.t.Context(), bridge.AuditFilter{Limit: 10_000})
	if err != nil {
		d.t.Fatal(err)
	}
	var out []bridge.AuditRecord
	for _, r := range all {
		if r.What == what {
			out = append(out, r)
		}
	}
	return out
}

// wantErr wants an error that is one of the sentinels and holds a text.
func (d *desk) wantErr(err, is error, text string) {
	d.t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
		d.t.Errorf("error %v, want %v with %q", err, is, text)
	}
}

func idsOf(orders []bridge.Order) []string {
	out := []string{}
	for _, o := range orders {
		out = append(out, o.ID)
	}
	return out
}

// testClock is a clock that is moved by hand.
type testClock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func newTestClock() *testClock { return &testClock{at: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)} }

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}
