package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// memStore is a store that forgets at the end of the test.
type memStore struct {
	mu      sync.Mutex // guards everything below
	orders  map[string]bridge.Order
	history map[string][]bridge.State
	letters []bridge.DeadLetter
	notes   []bridge.Note
	fail    error
}

func newMemStore() *memStore {
	return &memStore{orders: map[string]bridge.Order{}, history: map[string][]bridge.State{}}
}

func (s *memStore) Admit(_ context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	var out []bridge.Admitted
	for _, o := range a.Orders {
		if old, known := s.orders[o.ID]; known {
			out = append(out, bridge.Admitted{Order: old, Known: true})
			continue
		}
		s.orders[o.ID] = o
		s.history[o.ID] = append(s.history[o.ID], o.State)
		out = append(out, bridge.Admitted{Order: o})
	}
	return out, nil
}

func (s *memStore) Move(_ context.Context, o bridge.Order, from bridge.State) (bridge.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return o, s.fail
	}
	if s.orders[o.ID].State != from {
		return o, bridge.ErrStale
	}
	s.orders[o.ID] = o
	s.history[o.ID] = append(s.history[o.ID], o.State)
	return o, nil
}

func (s *memStore) Note(_ context.Context, n bridge.Note) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, n)
	return s.fail
}

func (s *memStore) Bury(_ context.Context, l bridge.DeadLetter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters = append(s.letters, l)
	return nil
}

func (s *memStore) state(id string) bridge.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.orders[id].State
}

func (s *memStore) path(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.history[id])
}

// script is an executor that answers by a function and remembers what it was asked.
type script struct {
	mu      sync.Mutex // guards calls
	calls   []string
	execute func(ctx context.Context, o bridge.Order, call int) (bridge.Receipt, error)
}

func (e *script) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	e.mu.Lock()
	e.calls = append(e.calls, o.ID)
	n := len(e.calls)
	e.mu.Unlock()
	if e.execute == nil {
		return bridge.Receipt{State: bridge.StateDone}, nil
	}
	return e.execute(ctx, o, n)
}

func (e *script) asked() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprint(e.calls)
}

// searcher is a script that also knows how to look.
type searcher struct {
	script
	looks     int
	reconcile func(look int) (bridge.Receipt, bool, error)
}

func (e *searcher) Intend(context.Context, bridge.Order, bool) (bridge.Intent, bool, error) {
	return bridge.Intent{Target: "guid", Body: "{}"}, true, nil
}

func (e *searcher) Reconcile(context.Context, bridge.Order) (bridge.Receipt, bool, error) {
	e.looks++
	return e.reconcile(e.looks)
}

// queue is a source fed by the test.
type queue struct {
	in      chan bridge.Delivery
	settled chan error
}

func newQueue() *queue {
	return &queue{in: make(chan bridge.Delivery, 1000), settled: make(chan error, 1000)}
}

func (q *queue) add(id string) {
	q.in <- bridge.Delivery{
		Alert:  bridge.Alert{ID: id, Source: "test"},
		Settle: func(_ context.Context, err error) error { q.settled <- err; return nil },
	}
}

func (q *queue) Receive(ctx context.Context) (bridge.Delivery, error) {
	select {
	case d, open := <-q.in:
		if !open {
			return d, bridge.ErrClosed
		}
		return d, nil
	case <-ctx.Done():
		return bridge.Delivery{}, ctx.Err()
	}
}

// ordersByAlert maps an alert to prepared orders.
type ordersByAlert map[string][]bridge.Order

func (m ordersByAlert) Map(a bridge.Alert) ([]bridge.Mapped, error) {
	orders, known := m[a.ID]
	if !known {
		return nil, fmt.Errorf("%w: no such alert", bridge.ErrBadAlert)
	}
	if orders == nil {
		panic("mapper meets hostile content")
	}
	return []bridge.Mapped{{Alert: a, Orders: orders}}, nil
}

func kill(id, host string) bridge.Order {
	return bridge.Order{
		ID: id, AlertID: "a-" + id, Source: "test", Rule: "r", Host: host, Mode: bridge.ModeEnforce,
		Task: bridge.TerminateProcess{Path: "/opt/lab/x"}, AlertTime: time.Now(),
	}
}

func isolate(id, host string) bridge.Order {
	o := kill(id, host)
	o.Task = bridge.IsolateHost{Action: bridge.IsolationOn}
	return o
}

type bench struct {
	store *memStore
	hold  *bridge.HoldSwitch
	pipe  *bridge.Pipeline
}

func newBench(t *testing.T, m bridge.Mapper, r bridge.Router, change func(bench, *bridge.PipelineConfig)) bench {
	t.Helper()
	protect, err := bridge.NewProtect(bridge.ProtectConfig{})
	if err != nil {
		t.Fatal(err)
	}
	b := bench{store: newMemStore(), hold: &bridge.HoldSwitch{}}
	guard, err := bridge.NewGuard(bridge.GuardConfig{Protect: protect, Hold: b.hold, Ceiling: bridge.ModeEnforce})
	if err != nil {
		t.Fatal(err)
	}
	r.Self = bridge.Identity{Names: []string{"here.corp.local"}}
	cfg := bridge.PipelineConfig{Mapper: m, Store: b.store, Guard: guard, Router: r}
	if change != nil {
		change(b, &cfg)
	}
	if b.pipe, err = bridge.NewPipeline(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

// feed runs the pipeline over the alerts until all of them are worked off.
func (b bench) feed(t *testing.T, alerts ...string) *queue {
	t.Helper()
	q := newQueue()
	for _, a := range alerts {
		q.add(a)
	}
	close(q.in)
	if err := b.pipe.Run(t.Context(), []bridge.NamedSource{{Name: "test", Source: q}}, nil); err != nil {
		t.Fatal(err)
	}
	return q
}

func execErr(c bridge.Class) error {
	return &bridge.ExecError{Executor: "test", Class: c, Err: errors.New("scripted")}
}

func TestAlertIsSettledAndItsOrderDone(t *testing.T) {
	t.Parallel()
	local := &script{}
	b := newBench(t, ordersByAlert{"a1": {kill("o1", "here")}}, bridge.Router{Local: local}, nil)
	q := b.feed(t, "a1")
	if err := <-q.settled; err != nil {
		t.Errorf("settled with %v, want nil", err)
	}
	if got, want := b.store.path("o1"), "[sending done]"; got != want {
		t.Errorf("states %s, want %s", got, want)
	}
}

func TestOrdersOfOneHostRunInTheOrderTheirAlertsCame(t *testing.T) {
	t.Parallel()
	alerts := ordersByAlert{}
	var names []string
	var want []string
	for i := range 200 {
		id := fmt.Sprintf("o%03d", i)
		o := isolate(id, "WS-1")
		alerts["a"+id] = []bridge.Order{o}
		names = append(names, "a"+id)
		want = append(want, id)
	}
	ksc := &script{}
	b := newBench(t, alerts, bridge.Router{KSC: ksc}, nil)
	b.feed(t, names...)
	if got := ksc.asked(); got != fmt.Sprint(want) {
		t.Errorf("order of effects\n%s\nwant\n%v", got, want)
	}
}

func TestEndingProcessesDoesNotWaitForEachOtherButIsolationWaitsForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := &script{}
		var mu sync.Mutex
		var ended []string
		ksc.execute = func(_ context.Context, o bridge.Order, _ int) (bridge.Receipt, error) {
			if o.ID == "o1" {
				time.Sleep(5 * time.Second) // a process that takes its time to exit
			}
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, o.ID)
			return bridge.Receipt{State: bridge.StateDone}, nil
		}
		b := newBench(t, ordersByAlert{
			"a1": {kill("o1", "WS-1")}, "a2": {kill("o2", "WS-1")}, "a3": {isolate("o4", "WS-1")}, "a4": {kill("o5", "WS-1")},
		}, bridge.Router{KSC: ksc}, nil)
		b.feed(t, "a1", "a2", "a3", "a4")
		if got := fmt.Sprint(ended); got != "[o2 o1 o4 o5]" {
			t.Errorf("ended in the order %s, want [o2 o1 o4 o5]", got)
		}
	})
}

func TestNothingIsSettledWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	local := &script{}
	b := newBench(t, ordersByAlert{"a1": {kill("o1", "here")}}, bridge.Router{Local: local}, nil)
	b.store.fail = errors.New("disk full")
	q := b.feed(t, "a1")
	if err := <-q.settled; err == nil || errors.Is(err, bridge.ErrBadAlert) {
		t.Errorf("settled with %v, want an error that keeps the delivery", err)
	}
	if local.asked() != "[]" {
		t.Error("an effect happened without a record")
	}
}

func TestPanicOfOneAlertHurtsNoOther(t *testing.T) {
	t.Parallel()
	local := &script{execute: func(_ context.Context, o bridge.Order, _ int) (bridge.Receipt, error) {
		if o.ID == "o2" {
			panic("executor defect")
		}
		return bridge.Receipt{State: bridge.StateDone}, nil
	}}
	b := newBench(t, ordersByAlert{"a0": nil, "a1": {kill("o1", "here")}, "a2": {kill("o2", "here")}, "a3": {kill("o3", "here")}}, bridge.Router{Local: local}, nil)
	q := b.feed(t, "a0", "a1", "a2", "a3")
	bad := 0
	for range 4 {
		if err := <-q.settled; errors.Is(err, bridge.ErrBadAlert) {
			bad++
		}
	}
	if bad != 1 {
		t.Errorf("%d alerts dead-lettered, want the one whose mapping panicked", bad)
	}
	for id, want := range map[string]bridge.State{"o1": bridge.StateDone, "o2": bridge.StateUnknown, "o3": bridge.StateDone} {
		if got := b.store.state(id); got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
}

func TestRedeliveryIsAcknowledgedAndNotExecuted(t *testing.T) {
	t.Parallel()
	local := &script{}
	b := newBench(t, ordersByAlert{"a1": {kill("o1", "here")}}, bridge.Router{Local: local}, nil)
	q := b.feed(t, "a1", "a1")
	for range 2 {
		if err := <-q.settled; err != nil {
			t.Errorf("settled with %v", err)
		}
	}
	if got := local.asked(); got != "[o1]" {
		t.Errorf("executed %s, want once", got)
	}
}

func TestRedeliveryDuringTheEffectIsNotExecutedASecondTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := &script{execute: func(context.Context, bridge.Order, int) (bridge.Receipt, error) {
			time.Sleep(time.Second) // the second delivery is admitted meanwhile
			return bridge.Receipt{State: bridge.StateAccepted}, nil
		}}
		b := newBench(t, ordersByAlert{"a1": {kill("o1", "WS-1")}}, bridge.Router{KSC: ksc}, nil)
		q := b.feed(t, "a1", "a1")
		if err := errors.Join(<-q.settled, <-q.settled); err != nil {
			t.Errorf("settled with %v", err)
		}
		if got := ksc.asked(); got != "[o1]" {
			t.Errorf("executed %s, want once", got)
		}
	})
}

func TestF16OrdersWaitWhileKSCIsUnreachableAndGoOutInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ksc := &script{execute: func(context.Context, bridge.Order, int) (bridge.Receipt, error) {
			if time.Since(start) < 3*time.Minute {
				return bridge.Receipt{}, execErr(bridge.Unreachable)
			}
			return bridge.Receipt{State: bridge.StateAccepted}, nil
		}}
		b := newBench(t, ordersByAlert{"a1": {isolate("o1", "WS-1")}, "a2": {isolate("o2", "WS-1")}}, bridge.Router{KSC: ksc}, nil)
		q := b.feed(t, "a1", "a2")
		if err := errors.Join(<-q.settled, <-q.settled); err != nil {
			t.Errorf("settled with %v: the alerts are safe in the store", err)
		}
		for _, id := range []string{"o1", "o2"} {
			if got := b.store.state(id); got != bridge.StateAccepted {
				t.Errorf("%s is %s, want accepted", id, got)
			}
		}
		if n := len(ksc.calls); ksc.calls[n-1] != "o2" || ksc.calls[n-2] != "o1" {
			t.Errorf("the last two calls are %v, want o1 then o2", ksc.calls[n-2:])
		}
	})
}

func TestF16OrderExpiresWhenKSCStaysAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := &script{execute: func(context.Context, bridge.Order, int) (bridge.Receipt, error) {
			return bridge.Receipt{}, execErr(bridge.Unreachable)
		}}
		b := newBench(t, ordersByAlert{"a1": {kill("o1", "WS-1")}}, bridge.Router{KSC: ksc}, nil)
		start := time.Now()
		b.feed(t, "a1")
		if got := b.store.state("o1"); got != bridge.StateExpired {
			t.Errorf("o1 is %s, want expired", got)
		}
		if waited := time.Since(start); waited < 15*time.Minute || waited > 17*time.Minute {
			t.Errorf("expired after %s, want the 15 min of the alert's age limit", waited)
		}
	})
}

func TestLocalTakesOverOnlyWhatNeverLeftAndIsMeantForThisMachine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		host  string
		class bridge.Class
		local string
	}{
		"own host, nothing left":  {"here", bridge.Unreachable, "[o1]"},
		"own host, may have left": {"here", bridge.Unknown, "[]"},
		"own host, KSC said no":   {"here", bridge.Permanent, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ksc := &script{execute: func(context.Context, bridge.Order, int) (bridge.Receipt, error) {
				return bridge.Receipt{}, execErr(tc.class)
			}}
			local := &script{}
			b := newBench(t, ordersByAlert{"a1": {kill("o1", tc.host)}}, bridge.Router{KSC: ksc, Local: local, Fallback: true}, nil)
			b.feed(t, "a1")
			if got := local.asked(); got != tc.local {
				t.Errorf("local executor was asked %s, want %s", got, tc.local)
			}
		})
	}
}

func TestF17AmbiguousEndIsSearchedBeforeAnythingIsResent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		found int // the look that finds the effect; 0 = never
		calls string
		path  string
	}{
		"found at once":        {1, "[o1]", "[sending accepted]"},
		"found by second look": {2, "[o1]", "[sending accepted]"},
		"never there":          {0, "[o1 o1]", "[sending accepted]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ksc := &searcher{}
				ksc.execute = func(_ context.Context, _ bridge.Order, call int) (bridge.Receipt, error) {
					if call == 1 {
						return bridge.Receipt{}, execErr(bridge.Unknown)
					}
					return bridge.Receipt{State: bridge.StateAccepted, Ref: "2"}, nil
				}
				ksc.reconcile = func(look int) (bridge.Receipt, bool, error) {
					return bridge.Receipt{State: bridge.StateAccepted, Ref: "1"}, look == tc.found, nil
				}
				b := newBench(t, ordersByAlert{"a1": {kill("o1", "WS-1")}}, bridge.Router{KSC: ksc}, nil)
				start := time.Now()
				b.feed(t, "a1")
				if waited, want := time.Since(start), time.Duration(ksc.looks)*45*time.Second; waited != want {
					t.Errorf("%d looks took %s, want the settle time before each: %s", ksc.looks, waited, want)
				}
				if ksc.asked() != tc.calls {
					t.Errorf("calls %s, want %s", ksc.asked(), tc.calls)
				}
				if got := b.store.path("o1"); got != tc.path {
					t.Errorf("states %s, want %s", got, tc.path)
				}
			})
		})
	}
}

func TestF26SearchThatFailsEndsAsUnknownAndNeverResends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := &searcher{}
		ksc.execute = func(context.Context, bridge.Order, int) (bridge.Receipt, error) {
			return bridge.Receipt{}, execErr(bridge.Unknown)
		}
		ksc.reconcile = func(look int) (bridge.Receipt, bool, error) {
			if look%2 == 0 {
				return bridge.Receipt{}, false, nil // a clean miss between failures proves nothing
			}
			return bridge.Receipt{}, false, execErr(bridge.Unreachable)
		}
		b := newBench(t, ordersByAlert{"a1": {kill("o1", "WS-1")}}, bridge.Router{KSC: ksc}, nil)
		b.feed(t, "a1")
		if got := b.store.state("o1"); got != bridge.StateUnknown {
			t.Errorf("o1 is %s, want unknown", got)
		}
		if ksc.asked() != "[o1]" {
			t.Errorf("sent %s, want once", ksc.asked())
		}
	})
}

func TestF27OrderFoundSendingAfterARestartIsLookedForFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := &searcher{}
		ksc.reconcile = func(int) (bridge.Receipt, bool, error) {
			return bridge.Receipt{State: bridge.StateAccepted, Ref: "7"}, true, nil
		}
		b := newBench(t, ordersByAlert{}, bridge.Router{KSC: ksc}, nil)
		o := kill("o1", "WS-1")
		o.State, o.Executor, o.NotAfter = bridge.StateSending, bridge.ExecutorKSC, time.Now().Add(time.Hour)
		b.store.orders["o1"] = o
		pages := [][]bridge.Order{{o}, nil}
		next := func(context.Context) ([]bridge.Order, error) {
			page := pages[0]
			pages = pages[1:]
			return page, nil
		}
		if err := b.pipe.Run(t.Context(), nil, next); err != nil {
			t.Fatal(err)
		}
		if ksc.asked() != "[]" || b.store.state("o1") != bridge.StateAccepted {
			t.Errorf("sent %s, state %s; want nothing sent and accepted", ksc.asked(), b.store.state("o1"))
		}
	})
}

func TestHoldStopsEverythingButReleases(t *testing.T) {
	t.Parallel()
	release := kill("o2", "WS-1")
	release.Task = bridge.IsolateHost{Action: bridge.IsolationOff}
	ksc := &script{}
	b := newBench(t, ordersByAlert{"a1": {kill("o1", "WS-1"), release, isolate("o3", "WS-1")}}, bridge.Router{KSC: ksc}, nil)
	b.hold.Set(bridge.Hold{Active: true, Reason: "drill", Since: time.Now()})
	b.feed(t, "a1")
	if got := ksc.asked(); got != "[o2]" {
		t.Errorf("executed %s under hold, want the release only", got)
	}
	if got := b.store.state("o1"); got != bridge.StateHeld {
		t.Errorf("o1 is %s, want held", got)
	}
}

// admitHook calls after right after each admission.
type admitHook struct {
	bridge.Store
	after func()
}

func (h admitHook) Admit(ctx context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	out, err := h.Store.Admit(ctx, a)
	h.after()
	return out, err
}

func TestHoldPulledAfterAdmissionStopsTheEffect(t *testing.T) {
	t.Parallel()
	ksc := &searcher{}
	b := newBench(t, ordersByAlert{"a1": {kill("o1", "WS-1")}}, bridge.Router{KSC: ksc}, func(b bench, c *bridge.PipelineConfig) {
		c.Store = admitHook{c.Store, func() { b.hold.Set(bridge.Hold{Active: true, Reason: "stop"}) }}
	})
	b.feed(t, "a1")
	if ksc.asked() != "[]" || b.store.state("o1") != bridge.StateHeld {
		t.Errorf("sent %s, state %s; want nothing sent and held", ksc.asked(), b.store.state("o1"))
	}
}

func TestF34ShutdownWaitsForEffectsAndLeavesTheRestQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ksc := &searcher{}
		ksc.execute = func(context.Context, bridge.Order, int) (bridge.Receipt, error) {
			cancel()
			time.Sleep(3 * time.Second)
			return bridge.Receipt{State: bridge.StateAccepted}, nil
		}
		b := newBench(t, ordersByAlert{"a1": {isolate("o1", "WS-1"), isolate("o2", "WS-1")}}, bridge.Router{KSC: ksc}, nil)
		q := newQueue()
		q.add("a1")
		start := time.Now()
		if err := b.pipe.Run(ctx, []bridge.NamedSource{{Name: "test", Source: q}}, nil); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("shutdown took %s, want at most 10 s", waited)
		}
		if got := b.store.state("o1"); got != bridge.StateAccepted {
			t.Errorf("o1 is %s, want accepted", got)
		}
		if got := b.store.state("o2"); got != bridge.StateQueued {
			t.Errorf("o2 is %s, want queued for the next start", got)
		}
	})
}

func TestF34ShutdownEndsAnEffectThatOutlastsTheDrainTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ksc := &searcher{}
		ksc.execute = func(ctx context.Context, _ bridge.Order, _ int) (bridge.Receipt, error) {
			cancel()
			<-ctx.Done()
			return bridge.Receipt{}, execErr(bridge.Unknown)
		}
		b := newBench(t, ordersByAlert{"a1": {kill("o1", "WS-1")}}, bridge.Router{KSC: ksc}, nil)
		q := newQueue()
		q.add("a1")
		start := time.Now()
		if err := b.pipe.Run(ctx, []bridge.NamedSource{{Name: "test", Source: q}}, nil); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited > 11*time.Second {
			t.Errorf("shutdown took %s, want 10 s", waited)
		}
		if got := b.store.state("o1"); got != bridge.StateSending {
			t.Errorf("o1 is %s, want sending, so that the next start looks for it", got)
		}
	})
}

func TestSubmitAnswersHowTheOrderStands(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want bridge.State
	}{
		"accepted":    {nil, bridge.StateAccepted},
		"unreachable": {execErr(bridge.Unreachable), bridge.StateFailed},
		"rejected":    {execErr(bridge.Permanent), bridge.StateFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ksc := &script{execute: func(context.Context, bridge.Order, int) (bridge.Receipt, error) {
				return bridge.Receipt{State: bridge.StateAccepted}, tc.err
			}}
			b := newBench(t, nil, bridge.Router{KSC: ksc}, nil)
			o := kill("o1", "WS-1")
			o.Rule, o.AlertID, o.Actor = "", "", "cli:test"
			got, err := b.pipe.Submit(t.Context(), []bridge.Order{o})
			if err != nil {
				t.Fatal(err)
			}
			if got[0].State != tc.want {
				t.Errorf("order is %s (%s), want %s", got[0].State, got[0].Detail, tc.want)
			}
		})
	}
}
