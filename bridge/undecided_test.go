package bridge_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestF26UndecidedOrderHasItsWholeTimeFromTheMomentItBecameSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
			if o.ID == "first" {
				time.Sleep(10 * time.Minute)
				return true, nil
			}
			return true, execErr(bridge.Unknown)
		}
		start := time.Now()
		ksc.search = func(bridge.Order, int) (bool, error) { return false, execErr(bridge.Unreachable) }
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, pipe: func(c *bridge.PipelineConfig) { c.InFlight = 1 }, mapper: ordersByAlert{
			"a1": {isolate("first", "WS-1")}, "a2": {kill("lost", "WS-2")}, // its intent waits 10 min for a slot
		}})
		h.add("a1")
		synctest.Wait()
		h.add("a2")
		time.Sleep(39 * time.Minute)
		h.wantState(t, "lost", bridge.StateSending)
		time.Sleep(3 * time.Minute)
		h.wantState(t, "lost", bridge.StateUnknown)
		if took := h.order("lost").Updated.Sub(start); took < 40*time.Minute || took > 42*time.Minute {
			t.Errorf("it became unknown after %s, want 30 min after the 10 min it waited", took)
		}
		if n := len(h.log.with("level=ERROR", "lost or undecided", "order=lost")); n != 1 {
			t.Errorf("%d alarms, want one", n)
		}
		if got := ksc.asked(); got != "[first lost]" {
			t.Errorf("sent %s, want each once", got)
		}
	})
}

func TestF26RestartGivesAnUndecidedOrderHalfItsTimeAtLeast(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		age, least, most time.Duration
	}{
		"begun a moment ago":              {time.Minute, 29 * time.Minute, 31 * time.Minute},
		"begun 10 min before":             {10 * time.Minute, 20 * time.Minute, 22 * time.Minute},
		"begun the day before":            {24 * time.Hour, 15 * time.Minute, 17 * time.Minute},
		"begun by a clock that was ahead": {-24 * time.Hour, 30 * time.Minute, 32 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ksc, start := newSite(), time.Now()
				ksc.search = func(bridge.Order, int) (bool, error) { return false, execErr(bridge.Unreachable) }
				o := stored(kill("o", "WS-1"), bridge.StateSending)
				o.Updated, o.NotAfter = start.Add(-tc.age), start.Add(15*time.Minute)
				h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, seed: func(c *cabinet) { c.seed(t, o) }, resume: pages(o)})
				time.Sleep(time.Hour)
				h.wantState(t, "o", bridge.StateUnknown)
				if took := h.order("o").Updated.Sub(start); took < tc.least || took > tc.most {
					t.Errorf("it became unknown after %s, want %s to %s", took, tc.least, tc.most)
				}
				if got := ksc.asked(); got != "[]" {
					t.Errorf("sent %s without having looked", got)
				}
			})
		})
	}
}

func TestF27OrderLookedForInVainAfterARestartIsSentOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		o := stored(kill("o", "WS-1"), bridge.StateSending)
		o.NotAfter = time.Now().Add(15 * time.Minute)
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, seed: func(c *cabinet) { c.seed(t, o) }, resume: pages(o)})
		time.Sleep(89 * time.Second)
		if got := ksc.asked(); got != "[]" {
			t.Errorf("sent %s before two searches, the settle time apart", got)
		}
		time.Sleep(time.Hour)
		h.wantState(t, "o", bridge.StateAccepted)
		if got := ksc.asked(); got != "[o]" || ksc.looked() != 2 {
			t.Errorf("sent %s after %d searches, want once after two", got, ksc.looked())
		}
	})
}

// blind is an executor that cannot find out what became of an order.
type blind struct{ *site }

func (b blind) Intend()    {}
func (b blind) Reconcile() {}

// rememberer is a blind executor that remembers its orders.
type rememberer struct{ blind }

func (rememberer) Repeats(bridge.Kind) bool { return true }

func TestF27OrderOfADeadProcessIsGivenAgainToWhoRemembersIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		local := newSite()
		o := isolate("o", "WS-1")
		o.Task, o.Actor, o.Rule = bridge.StartProcess{ExecutablePath: "/opt/lab/x"}, "cli:root", ""
		o.State, o.Executor = bridge.StateSending, bridge.ExecutorLocal
		h := openHouse(t, houseConfig{
			router: bridge.Router{Local: rememberer{blind{local}}}, resume: pages(o), seed: func(c *cabinet) { c.seed(t, o) },
		})
		time.Sleep(time.Minute)
		h.wantState(t, "o", bridge.StateAccepted)
		if got := local.asked(); got != "[o]" {
			t.Errorf("sent %s, want it once", got)
		}
	})
}

func TestF27RepeatableOrderOfADeadProcessIsRepeatedOrUnknownNeverCalledUndone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*bridge.Order)
		hold   bool
		mode   bridge.Mode
		want   bridge.State
		sent   string
	}{
		"in time":          {nil, false, bridge.ModeEnforce, bridge.StateAccepted, "[o]"},
		"its time is over": {func(o *bridge.Order) { o.NotAfter = time.Now().Add(-time.Minute) }, false, bridge.ModeEnforce, bridge.StateUnknown, "[]"},
		"under hold":       {nil, true, bridge.ModeEnforce, bridge.StateUnknown, "[]"},
		"mode lowered":     {nil, false, bridge.ModeShadow, bridge.StateUnknown, "[]"},
		"never repeatable": {func(o *bridge.Order) { o.Task = bridge.StartProcess{ExecutablePath: "/opt/lab/x"} }, false, bridge.ModeEnforce, bridge.StateUnknown, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				local := newSite()
				o := isolate("o", "WS-1")
				o.State, o.Executor = bridge.StateSending, bridge.ExecutorLocal
				if tc.change != nil {
					tc.change(&o)
				}
				h := openHouse(t, houseConfig{
					router: bridge.Router{Local: blind{local}}, resume: pages(o),
					guard: func(g *bridge.GuardConfig) {
						g.Ceiling = tc.mode
						g.Hold.Set(bridge.Hold{Active: tc.hold})
					},
					seed: func(c *cabinet) { c.seed(t, o) },
				})
				time.Sleep(time.Minute)
				h.wantState(t, "o", tc.want)
				if got := local.asked(); got != tc.sent {
					t.Errorf("sent %s, want %s", got, tc.sent)
				}
				if n := len(h.log.with("level=ERROR", "lost or undecided")); (n == 1) != (tc.want == bridge.StateUnknown) {
					t.Errorf("%d alarms for %s", n, tc.want)
				}
			})
		})
	}
}

func TestF34DoubtfulOrderStaysSendingAtShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		local := newSite()
		o := isolate("o", "WS-1")
		o.State, o.Executor = bridge.StateSending, bridge.ExecutorLocal
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h := openHouse(t, houseConfig{router: bridge.Router{Local: blind{local}}, sleeping: true, seed: func(c *cabinet) { o = c.seed(t, o) }})
		_ = h.pipe.Run(ctx, nil, pages(o))
		h.wantState(t, "o", bridge.StateSending)
	})
}

func TestLocalDoesNotTakeOverAHostWhoseGroupOnlyKSCKnows(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		groups   bool
		task     bridge.Task
		hand     bool
		resolved []string // what KSC said about the host before it went away; nil = nothing
		want     string
	}{
		"nobody goes by groups":         {false, nil, false, nil, "[o]"},
		"by group":                      {true, nil, false, nil, "[]"},
		"by group, by hand":             {true, nil, true, nil, "[]"},
		"by group, a release":           {true, bridge.IsolateHost{Action: bridge.IsolationOff}, true, nil, "[o]"},
		"by group, and its group known": {true, nil, false, []string{"group:Managed devices/Desks"}, "[o]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				local, ksc := newSite(), newSite()
				ksc.answer = func(context.Context, bridge.Order, int) (bool, error) { return false, execErr(bridge.Unreachable) }
				ksc.address = func(context.Context, bridge.Order, bool) (bool, error) {
					if tc.resolved == nil {
						return false, execErr(bridge.Unreachable)
					}
					return true, nil
				}
				ksc.names = tc.resolved
				o := kill("o", "here")
				if tc.task != nil {
					o.Task = tc.task
				}
				h := openHouse(t, houseConfig{
					router: bridge.Router{KSC: ksc, Local: blind{local}, Fallback: true}, mapper: ordersByAlert{"a1": {o}},
					guard: func(g *bridge.GuardConfig) {
						var cfg bridge.ProtectConfig
						if tc.groups {
							cfg.Hosts = []bridge.ProtectEntry{{Pattern: "group:Managed devices/Servers"}}
						}
						protect, err := bridge.NewProtect(cfg)
						if err != nil {
							t.Fatal(err)
						}
						g.Protect = protect
					},
				})
				if tc.hand {
					h.submit(t, time.Minute, byHand(o))
				} else {
					h.add("a1")
					time.Sleep(20 * time.Minute)
				}
				if got := local.asked(); got != tc.want {
					t.Errorf("the local agent was asked %s, want %s; the order is %s (%s)", got, tc.want, h.state("o"), h.order("o").Detail)
				}
			})
		})
	}
}

// fragile panics in the middle of an admission.
type fragile struct{ bridge.NoMeter }

func (fragile) Admitted(o bridge.Order, _ time.Duration) {
	if o.ID == "bad" {
		panic("defect")
	}
}

func TestPanicAfterTheCommitSettlesOnceAndLeavesTheLaneFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, pipe: func(c *bridge.PipelineConfig) { c.Meter = fragile{} }, keeper: keep(nil),
			mapper: ordersByAlert{"a1": {isolate("good", "WS-1"), isolate("bad", "WS-2"), kill("after", "WS-1")}, "a2": {kill("next", "WS-1")}},
		})
		h.add("a1")
		synctest.Wait()
		h.add("a2")
		synctest.Wait()
		if n := len(h.settled); n != 2 {
			t.Errorf("settled %d times, want once for each alert", n)
		}
		h.wantState(t, "good", bridge.StateAccepted)
		h.wantState(t, "next", bridge.StateAccepted)
		time.Sleep(3 * time.Minute) // the keeper finds what the panic left behind
		h.wantState(t, "bad", bridge.StateAccepted)
		h.wantState(t, "after", bridge.StateAccepted)
	})
}
