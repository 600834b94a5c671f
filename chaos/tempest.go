package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

// tempest is one storm: a running bridge, what it meets and how it stands.
type tempest struct {
	stage  *stage
	live   *liveTasks
	bridge *running
	store  *store.Store
	words  string // what came of it
}

func newTempest(ctx context.Context, dir, bin string, delay, latency time.Duration, kscSettings, rest, rule string) (t *tempest, err error) {
	t = &tempest{live: &liveTasks{}}
	if t.stage, err = newStage(ctx, dir, bin, stormMock(delay, latency, t.live), kscSettings, rest, rule); err != nil {
		return nil, err
	}
	if t.bridge, err = t.stage.run(ctx, ""); err != nil {
		t.close()
		return nil, err
	}
	if t.store, err = t.stage.open(ctx); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tempest) close() {
	if t.store != nil {
		_ = t.store.Close()
	}
	if t.bridge != nil {
		t.bridge.kill()
	}
	t.stage.close()
}

func (t *tempest) ksc() *ksctest.Server { return t.stage.ksc }

// pour adds n alerts evenly over a while, for one host after the other.
func (t *tempest) pour(ctx context.Context, n int, over time.Duration) error {
	began := time.Now()
	for i := range n {
		doc, err := document(fmt.Sprintf("storm-%d", i), "HIGH", hostID(i%stormHosts), fmt.Sprintf("/opt/storm/%d", i))
		if err != nil {
			return err
		}
		if _, err := t.stage.pub.Add(ctx, streamName, doc, ""); err != nil {
			return fmt.Errorf("add alert %d: %w", i, err)
		}
		if ahead := time.Duration(i)*over/time.Duration(n) - time.Since(began); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
	}
	return nil
}

// run calls the program as a person does, while the bridge runs.
func (t *tempest) run(ctx context.Context, args ...string) error {
	out, err := t.stage.command(ctx, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// census is how the orders of the store stand.
type census struct {
	asked   int // orders that come from an alert
	of      map[bridge.State]int
	held    map[bridge.Reason]int
	covered map[bridge.Reason]int
	hold    bridge.Hold
}

// carried counts the orders KSC took.
func (c *census) carried() int {
	return c.of[bridge.StateAccepted] + c.of[bridge.StateRunning] + c.of[bridge.StateDone]
}

// rightlyHeld makes sure that what was not sent waits for the right reason.
func (c *census) rightlyHeld() error {
	if n := c.of[bridge.StateHeld] - c.held[bridge.ReasonLimit] - c.held[bridge.ReasonHold]; n != 0 {
		return fmt.Errorf("%d orders are held for another reason than limits and hold: %v", n, c.held)
	}
	if n := c.of[bridge.StateDuplicate] - c.covered[bridge.ReasonLease]; n != 0 {
		return fmt.Errorf("%d orders are duplicates for another reason than a lease: %v", n, c.covered)
	}
	return nil
}

func (t *tempest) count(ctx context.Context) (c census, err error) {
	c = census{of: map[bridge.State]int{}, held: map[bridge.Reason]int{}, covered: map[bridge.Reason]int{}}
	orders, err := allOrders(ctx, t.store)
	if err != nil {
		return c, err
	}
	for i := range orders {
		o := &orders[i]
		if o.AlertID == "" {
			continue
		}
		c.asked++
		c.of[o.State]++
		switch o.State {
		case bridge.StateHeld:
			c.held[o.Reason]++
		case bridge.StateDuplicate:
			c.covered[o.Reason]++
		default:
		}
	}
	c.hold, err = t.store.Hold(ctx)
	return c, err
}

// await counts until the condition holds, twice in a row.
func (t *tempest) await(ctx context.Context, what string, cond func(census) bool) (census, error) {
	deadline := time.Now().Add(stormPatience)
	for met := 0; ; {
		if t.bridge.wait(ctx, 250*time.Millisecond) {
			return census{}, fmt.Errorf("%w: %w (see %s)", errEndedByItself, t.bridge.err, t.stage.dir)
		}
		c, err := t.count(ctx)
		if err = errors.Join(err, context.Cause(ctx)); err != nil {
			return c, err
		}
		if met++; !cond(c) {
			met = 0
		}
		switch {
		case met == 2:
			return c, nil
		case time.Now().After(deadline):
			return c, fmt.Errorf("waited %s in vain until %s: %d orders %v, held %v, hold %t", stormPatience, what, c.asked, c.of, c.held, c.hold.Active)
		}
	}
}

// flowing waits until so many incidents were added.
func (t *tempest) flowing(ctx context.Context, n int) error {
	for deadline := time.Now().Add(stormPatience); ; {
		added, _ := t.live.sofar()
		switch {
		case added >= n:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("only %d incidents were added within %s", added, stormPatience)
		case t.bridge.wait(ctx, time.Millisecond):
			return fmt.Errorf("%w: %w", errEndedByItself, t.bridge.err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

// liveTasks counts what KSC has not finished: from the incident on, because each one becomes a task, to the end of its task.
type liveTasks struct {
	mu     sync.Mutex // guards the fields below
	live   int
	peak   int
	number int
	last   time.Time
}

func (l *liveTasks) added(ksctest.Incident) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live++
	l.peak = max(l.peak, l.live)
	l.number++
	l.last = time.Now()
}

func (l *liveTasks) moved(t ksctest.Task) {
	if t.State != ksctest.StateOK && t.State != ksctest.StateWarning && t.State != ksctest.StateFailed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live--
}

func (l *liveTasks) most() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peak
}

// sofar returns how many incidents were added and when the last one was.
func (l *liveTasks) sofar() (int, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.number, l.last
}
