package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// scout is a follower that answers as the test says.
type scout struct {
	mu     sync.Mutex // guards asked
	asked  [][]string
	answer func(orders []bridge.Order) ([]bridge.Progress, error)
}

func (s *scout) Follow(_ context.Context, orders []bridge.Order) ([]bridge.Progress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, o := range orders {
		ids = append(ids, o.ID)
	}
	s.asked = append(s.asked, ids)
	return s.answer(orders)
}

// keep is what a keeper of a test does by itself.
func atKSC(f bridge.Follower) map[string]bridge.Follower {
	if f == nil {
		return nil
	}
	return map[string]bridge.Follower{bridge.ExecutorKSC: f}
}

func keep(f bridge.Follower) *bridge.KeeperConfig { return &bridge.KeeperConfig{Followers: atKSC(f)} }

// stored is an order as an earlier process left it.
func stored(o bridge.Order, s bridge.State) bridge.Order {
	o.State, o.Executor = s, bridge.ExecutorKSC
	return o
}

func TestKeeperReleasesAHostOnceWhenItsLeaseLapses(t *testing.T) {
	t.Parallel()
	for name, onHold := range map[string]bool{"as usual": false, "under hold": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ksc := newSite()
				iso := isolate("iso", "WS-1")
				iso.For = time.Hour
				h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {iso}}, keeper: keep(nil)})
				h.add("a1")
				time.Sleep(30 * time.Minute)
				if onHold {
					h.set(func() { h.cabinet.hold = bridge.Hold{Active: true, Reason: "drill", Since: time.Now()} })
				}
				time.Sleep(30*time.Minute - 2*time.Second)
				if !ksc.stands("WS-1") {
					t.Fatal("the host was released before its lease lapsed")
				}
				time.Sleep(4 * time.Second)
				synctest.Wait()
				if ksc.stands("WS-1") {
					t.Errorf("the host is isolated 2 s after its lease lapsed; sent %s", ksc.asked())
				}
				time.Sleep(time.Hour)
				if n := len(ksc.sent()); n != 2 {
					t.Errorf("sent %s, want the isolation and one release", ksc.asked())
				}
			})
		})
	}
}

func TestKeeperGoesOnWhileAReleaseWaitsForKSC(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		iso := isolate("iso", "WS-1")
		iso.For = time.Minute
		start := time.Now()
		ksc.answer = func(_ context.Context, _ bridge.Order, n int) (bool, error) {
			if n > 1 && time.Since(start) < time.Hour {
				return false, execErr(bridge.Unreachable)
			}
			return true, nil
		}
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {iso}}, keeper: keep(nil)})
		h.add("a1")
		time.Sleep(10 * time.Minute) // the release tries in vain
		h.set(func() { h.cabinet.hold = bridge.Hold{Active: true, Reason: "drill", Since: time.Now()} })
		time.Sleep(time.Second)
		if !h.hold.Get().Active {
			t.Error("a hold of another process was not seen within 1 s")
		}
		time.Sleep(2 * time.Hour)
		if ksc.stands("WS-1") {
			t.Errorf("the host is isolated; sent %s", ksc.asked())
		}
		if n := len(h.log.with("lease asks for an order")); n != 1 {
			t.Errorf("the lease asked %d times, want once", n)
		}
	})
}

func TestKeeperAsksARefusedReleaseOfALeaseOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		iso := stored(isolate("iso", "WS-1"), bridge.StateSending)
		iso.For = time.Minute
		h := openHouse(t, houseConfig{ // nobody here can release the host
			keeper: keep(nil), seed: func(c *cabinet) { c.seed(t, iso) },
		})
		time.Sleep(time.Hour)
		if n := len(h.log.with("lease asks for an order")); n < 30 || n > 62 {
			t.Errorf("the lease asked %d times within an hour, want about once a minute", n)
		}
	})
}

func TestKeeperSeesTheHoldWhileTheOutboxIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = away(time.Now().Add(time.Hour))
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, keeper: keep(nil), pipe: func(c *bridge.PipelineConfig) { c.Orders = 2 },
			seed: func(c *cabinet) {
				for i := range 10 {
					o := stored(kill(fmt.Sprint("o", i), fmt.Sprint("WS-", i)), bridge.StateHeld)
					o.Reason = bridge.ReasonHold
					c.seed(t, o)
				}
				lapsing := stored(isolate("iso", "WS-X"), bridge.StateSending)
				lapsing.For = 30 * time.Second
				c.seed(t, lapsing)
				c.orders["iso"] = stored(lapsing, bridge.StateAccepted)
			},
		})
		time.Sleep(time.Minute) // the keeper has taken up what there is room for
		if len(h.log.with("lease asks for an order", "release=true")) != 1 {
			t.Error("no release was asked for while the outbox is full")
		}
		h.set(func() { h.cabinet.hold = bridge.Hold{Active: true, Reason: "stop", Since: time.Now()} })
		time.Sleep(time.Second)
		if !h.hold.Get().Active {
			t.Error("a hold was not seen within 1 s")
		}
	})
}

func TestKeeperEndsOverdueOrdersAndAlarms(t *testing.T) {
	t.Parallel()
	held := func(id string, r bridge.Reason) bridge.Order {
		o := stored(kill(id, "WS-1"), bridge.StateHeld)
		o.Reason = r
		return o
	}
	for name, tc := range map[string]struct {
		order  bridge.Order
		after  time.Duration
		want   bridge.State
		reason bridge.Reason
		alarm  bool
	}{
		"waits for a person":   {held("o", bridge.ReasonApproval), time.Hour, bridge.StateRefused, bridge.ReasonApproval, false},
		"waits for a resume":   {held("o", bridge.ReasonHold), 15 * time.Minute, bridge.StateExpired, bridge.ReasonAge, true},
		"queued and forgotten": {stored(kill("o", "WS-1"), bridge.StateQueued), 15 * time.Minute, bridge.StateExpired, bridge.ReasonAge, true},
		"accepted":             {stored(kill("o", "WS-1"), bridge.StateAccepted), 24 * time.Hour, bridge.StateUnknown, bridge.ReasonDeadline, true},
		"running":              {stored(kill("o", "WS-1"), bridge.StateRunning), 24 * time.Hour, bridge.StateUnknown, bridge.ReasonDeadline, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				// Nothing runs but the keeper; what it hands to the pipeline stays in the store.
				h := openHouse(t, houseConfig{sleeping: true, seed: func(c *cabinet) {
					tc.order.NotAfter = time.Now().Add(15 * time.Minute)
					c.foreign["o"] = true
					c.hold = bridge.Hold{Active: true}
					c.seed(t, tc.order)
				}})
				h.keepAlone(t, bridge.KeeperConfig{Foreign: 48 * time.Hour})
				time.Sleep(tc.after - time.Second)
				h.wantState(t, "o", tc.order.State)
				time.Sleep(3 * time.Second)
				h.wantState(t, "o", tc.want)
				if got := h.order("o").Reason; got != tc.reason {
					t.Errorf("reason %q, want %q", got, tc.reason)
				}
				if alarms := h.log.with("level=ERROR", "lost or undecided", "order=o"); (len(alarms) == 1) != tc.alarm {
					t.Errorf("%d alarms, want one: %t", len(alarms), tc.alarm)
				}
			})
		})
	}
}

// keepAlone runs a keeper over a pipeline that does not run.
func (h *house) keepAlone(t *testing.T, cfg bridge.KeeperConfig) {
	t.Helper()
	cfg.Cabinet, cfg.Pipe, cfg.Hold, cfg.Logger = h.cabinet, h.pipe, h.hold, slog.New(slog.NewTextHandler(h.log, nil))
	k, err := bridge.NewKeeper(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func TestKeeperLetsHeldOrdersGoOnInOrderWhenTheHoldEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(context.Context, bridge.Order, int) (bool, error) {
			time.Sleep(100 * time.Millisecond)
			return true, nil
		}
		const many = 300 // more than a page, more than the outbox has room for
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, keeper: keep(nil), pipe: func(c *bridge.PipelineConfig) { c.Orders = 20 },
			seed: func(c *cabinet) {
				c.hold = bridge.Hold{Active: true, Reason: "drill", Since: time.Now()}
				for i := range many {
					o := stored(isolate(fmt.Sprintf("o%03d", i), "WS-1"), bridge.StateHeld)
					o.Task = bridge.GetFile{Path: fmt.Sprintf(`C:\%d`, i)}
					if o.Reason = bridge.ReasonHold; i%2 == 1 {
						o.Reason = bridge.ReasonLimit
					}
					c.seed(t, o)
				}
				asked := stored(kill("asked", "WS-1"), bridge.StateHeld)
				asked.Reason = bridge.ReasonApproval
				c.seed(t, asked)
			},
		})
		ksc.answer = func(context.Context, bridge.Order, int) (bool, error) {
			time.Sleep(100 * time.Millisecond)
			return true, nil
		}
		time.Sleep(2 * time.Minute)
		if got := ksc.asked(); got != "[]" {
			t.Fatalf("sent %s under hold", got)
		}
		h.set(func() { h.cabinet.hold = bridge.Hold{} })
		time.Sleep(3 * time.Second)
		if len(ksc.sent()) < 10 {
			t.Errorf("only %d orders went on within 3 s of the resume", len(ksc.sent()))
		}
		h.wantState(t, fmt.Sprintf("o%03d", many-1), bridge.StateHeld) // there is no room for it yet
		time.Sleep(2 * time.Minute)
		if len(ksc.sent()) != many {
			t.Fatalf("%d orders went on, want %d", len(ksc.sent()), many)
		}
		for i, id := range ksc.sent() {
			if want := fmt.Sprintf("o%03d", i); id != want {
				t.Fatalf("order %d to go on was %s, want %s", i, id, want)
			}
		}
		h.wantState(t, "asked", bridge.StateHeld)
	})
}

func TestKeeperFindsWhatAShortHoldKeptBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: newSite()}, keeper: keep(nil), mapper: ordersByAlert{
			"a1": {kill("o1", "WS-1")}, "a2": {kill("o2", "WS-1")},
		}})
		time.Sleep(time.Minute + time.Millisecond)
		h.hold.Set(bridge.Hold{Active: true}) // set and taken back between two looks
		h.add("a1")
		h.wantState(t, "o1", bridge.StateHeld)
		h.hold.Set(bridge.Hold{})
		time.Sleep(12 * time.Second)
		h.wantState(t, "o1", bridge.StateAccepted)
		h.hold.Set(bridge.Hold{Active: true})
		h.add("a2")
		time.Sleep(5 * time.Second)
		h.wantState(t, "o2", bridge.StateHeld)
		h.hold.Set(bridge.Hold{})
		time.Sleep(2 * time.Second)
		h.wantState(t, "o2", bridge.StateAccepted) // one that lasted is seen at once
	})
}

func TestKeeperLetsOrdersGoOnWhenKSCHasRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc, finish := newSite(), false
		eyes := &scout{answer: func(orders []bridge.Order) (out []bridge.Progress, _ error) {
			for _, o := range orders {
				if finish {
					out = append(out, bridge.Progress{OrderID: o.ID, State: bridge.StateDone})
				}
			}
			return out, nil
		}}
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, keeper: keep(eyes), policy: bridge.Policy{Live: bridge.LiveTasks{Hold: 2}},
			mapper: ordersByAlert{"a1": {kill("o1", "WS-1"), kill("o2", "WS-2"), kill("o3", "WS-3"), kill("o4", "WS-4")}},
		})
		h.add("a1")
		time.Sleep(time.Minute)
		if got := h.order("o3"); got.State != bridge.StateHeld || got.Reason != bridge.ReasonLiveTasks || len(ksc.sent()) != 2 {
			t.Fatalf("o3 is %s (%s) and %d were sent, want it held for room", got.State, got.Reason, len(ksc.sent()))
		}
		eyes.mu.Lock()
		finish = true
		eyes.mu.Unlock()
		h.set(func() { h.cabinet.hold = bridge.Hold{Active: true, Reason: "drill", Since: time.Now()} })
		time.Sleep(time.Minute)
		if got := h.path("o3"); got != "[queued held]" && got != "[sending held]" && got != "[held]" {
			t.Errorf("states of o3 under hold %s, want it left alone", got)
		}
		h.set(func() { h.cabinet.hold = bridge.Hold{} })
		time.Sleep(20 * time.Second)
		for _, id := range []string{"o1", "o2", "o3", "o4"} {
			h.wantState(t, id, bridge.StateDone)
		}
	})
}

func TestKeeperTakesUpWhatADeadProcessLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, keeper: keep(nil), seed: func(c *cabinet) {
			c.seed(t, stored(kill("own", "WS-1"), bridge.StateQueued))
			c.foreign["queued"], c.foreign["sending"] = true, true
			c.seed(t, stored(kill("queued", "WS-2"), bridge.StateQueued))
			c.seed(t, stored(kill("sending", "WS-3"), bridge.StateSending))
		}})
		ksc.do(stored(kill("sending", "WS-3"), bridge.StateSending)) // it had been sent
		time.Sleep(75 * time.Second)
		h.wantState(t, "own", bridge.StateAccepted)
		time.Sleep(3*time.Minute + 40*time.Second)
		h.wantState(t, "queued", bridge.StateQueued)
		h.wantState(t, "sending", bridge.StateSending)
		time.Sleep(3 * time.Minute)
		h.wantState(t, "queued", bridge.StateAccepted)
		h.wantState(t, "sending", bridge.StateAccepted)
		if got := ksc.asked(); got != "[own queued]" {
			t.Errorf("sent %s; what was sending must be looked for", got)
		}
	})
}

func TestKeeperSoonTakesUpWhatAnotherProcessQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: newSite()}, keeper: keep(nil)})
		time.Sleep(75 * time.Second)
		h.seed(t, stored(kill("approved", "WS-1"), bridge.StateQueued))
		h.set(func() {})
		time.Sleep(25 * time.Second)
		h.wantState(t, "approved", bridge.StateAccepted)
	})
}

func TestRenewalThatFindsNoRoomKeepsNoReleaseWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = away(time.Now().Add(24 * time.Hour))
		isolated := func(id, host string, period time.Duration) bridge.Order {
			o := stored(isolate(id, host), bridge.StateSending)
			o.For = period
			return o
		}
		full := kill("full", "WS-3")
		full.AlertTime = time.Now().Add(4 * time.Minute)
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, keeper: keep(nil), pipe: func(c *bridge.PipelineConfig) { c.Orders = 1 },
			mapper: ordersByAlert{"a1": {full}}, policy: bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: 10 * time.Minute, Reassert: true}},
			seed: func(c *cabinet) {
				for _, o := range []bridge.Order{isolated("renewed", "WS-1", 10*time.Hour), isolated("lapsing", "WS-2", 9*time.Minute+30*time.Second)} {
					c.seed(t, o)
					if _, err := c.Move(t.Context(), stored(o, bridge.StateAccepted), bridge.StateSending); err != nil {
						t.Error(err)
					}
				}
			},
		})
		h.add("a1")
		time.Sleep(9*time.Minute + 20*time.Second)
		if len(h.log.with("lease asks for an order", "release=false")) == 0 {
			t.Fatal("no renewal was asked for")
		}
		time.Sleep(15 * time.Second)
		if len(h.log.with("lease asks for an order", "release=true")) != 1 {
			t.Error("the release waits behind a renewal that finds no room")
		}
	})
}

func TestKeeperNeverTakesUpWhatIsInHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
			switch o.ID {
			case "slow":
				time.Sleep(10 * time.Minute)
				return true, nil
			case "lost":
				return true, execErr(bridge.Unknown)
			default:
				return false, execErr(bridge.Retry)
			}
		}
		ksc.search = func(bridge.Order, int) (bool, error) { return false, execErr(bridge.Unreachable) }
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, keeper: keep(nil), mapper: ordersByAlert{
			"a1": {isolate("slow", "WS-1"), kill("behind", "WS-1"), kill("lost", "WS-2"), kill("again", "WS-3")},
		}})
		h.add("a1")
		time.Sleep(9 * time.Minute)
		slow, lost := 0, 0
		for _, id := range ksc.sent() {
			switch id {
			case "slow":
				slow++
			case "lost":
				lost++
			}
		}
		if slow != 1 || lost != 1 {
			t.Errorf("slow was sent %d times and lost %d times, want once each", slow, lost)
		}
		if looks := ksc.looked(); looks > 12 {
			t.Errorf("%d searches in 9 min: more than one has the order in hand", looks)
		}
		if n := len(h.log.with("order was changed by somebody else")); n != 0 {
			t.Errorf("%d orders were in two hands", n)
		}
	})
}

func TestKeeperFollowsWhatKSCAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := time.Now()
		eyes := &scout{answer: func(orders []bridge.Order) ([]bridge.Progress, error) {
			state := bridge.StateRunning
			if time.Since(at) > time.Minute {
				state = bridge.StateDone
			}
			return []bridge.Progress{{OrderID: "o", State: state, Detail: "seen"}}, nil
		}}
		h := openHouse(t, houseConfig{keeper: keep(eyes), seed: func(c *cabinet) {
			c.seed(t, stored(kill("o", "WS-1"), bridge.StateAccepted))
			local := stored(kill("here", "here"), bridge.StateAccepted)
			local.Executor = bridge.ExecutorLocal
			c.seed(t, local)
		}})
		time.Sleep(30 * time.Second)
		h.wantState(t, "o", bridge.StateRunning)
		time.Sleep(time.Minute)
		h.wantState(t, "o", bridge.StateDone)
		if got := h.path("o"); got != "[accepted running done]" {
			t.Errorf("states %s: a state that stays is no change", got)
		}
		if got := h.order("o").Detail; got != "seen" {
			t.Errorf("detail %q, want what was seen", got)
		}
		for _, ids := range eyes.asked {
			if fmt.Sprint(ids) != "[o]" {
				t.Errorf("asked about %v, want the orders at KSC only", ids)
			}
		}
	})
}

func TestAnExecutorThatCannotFindOutAnyMoreEndsTheOrderAsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		eyes := &scout{answer: func([]bridge.Order) ([]bridge.Progress, error) {
			return []bridge.Progress{{OrderID: "o", State: bridge.StateUnknown, Detail: "broken off after it had begun to act"}}, nil
		}}
		h := openHouse(t, houseConfig{keeper: keep(eyes), seed: func(c *cabinet) { c.seed(t, stored(kill("o", "WS-1"), bridge.StateAccepted)) }})
		time.Sleep(30 * time.Second)
		h.wantState(t, "o", bridge.StateUnknown)
		if got := h.order("o").Detail; got != "broken off after it had begun to act" {
			t.Errorf("detail %q, want what the executor said", got)
		}
	})
}

func TestEachExecutorIsAskedAboutItsOwnOrders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := &scout{answer: func([]bridge.Order) ([]bridge.Progress, error) { return nil, execErr(bridge.Unreachable) }}
		eyes := &scout{answer: func([]bridge.Order) ([]bridge.Progress, error) {
			return []bridge.Progress{{OrderID: "here", State: bridge.StateDone, Detail: "exit code 0"}}, nil
		}}
		h := openHouse(t, houseConfig{
			keeper: &bridge.KeeperConfig{Followers: map[string]bridge.Follower{bridge.ExecutorKSC: broken, bridge.ExecutorLocal: eyes}},
			seed: func(c *cabinet) {
				c.seed(t, stored(kill("o", "WS-1"), bridge.StateAccepted))
				local := stored(kill("here", "here"), bridge.StateAccepted)
				local.Executor = bridge.ExecutorLocal
				c.seed(t, local)
			},
		})
		time.Sleep(30 * time.Second)
		h.wantState(t, "o", bridge.StateAccepted)
		h.wantState(t, "here", bridge.StateDone)
		for _, ids := range eyes.asked {
			if fmt.Sprint(ids) != "[here]" {
				t.Errorf("the local one was asked about %v", ids)
			}
		}
	})
}

func TestFollowerThatAnswersNonsenseDoesNoHarm(t *testing.T) {
	t.Parallel()
	for name, progress := range map[string][]bridge.Progress{
		"an order nobody knows":     {{OrderID: "ghost", State: bridge.StateDone}},
		"no order":                  {{State: bridge.StateDone}},
		"another state":             {{OrderID: "o", State: "finished"}, {OrderID: "o"}},
		"a state before":            {{OrderID: "o", State: bridge.StateQueued}, {OrderID: "o", State: bridge.StateSending}, {OrderID: "o", State: bridge.StateHeld}},
		"an end that is not its":    {{OrderID: "o", State: bridge.StateExpired}, {OrderID: "o", State: bridge.StateCancelled}},
		"running, and that again":   {{OrderID: "o", State: bridge.StateAccepted, Detail: "x"}},
		"an order it was not asked": {{OrderID: "other", State: bridge.StateDone}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				eyes := &scout{answer: func([]bridge.Order) ([]bridge.Progress, error) { return progress, nil }}
				h := openHouse(t, houseConfig{sleeping: true, seed: func(c *cabinet) {
					c.seed(t, stored(kill("o", "WS-1"), bridge.StateAccepted))
					c.seed(t, stored(kill("other", "WS-1"), bridge.StateSending))
				}})
				h.keepAlone(t, bridge.KeeperConfig{Followers: atKSC(eyes)})
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := h.path("o") + h.path("other"); got != "[accepted][sending]" {
					t.Errorf("states %s, want them untouched", got)
				}
				if n := h.count("Move"); n != 0 {
					t.Errorf("%d moves were tried", n)
				}
			})
		})
	}
}

func TestFollowerMayTellTwoStepsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		eyes := &scout{answer: func([]bridge.Order) ([]bridge.Progress, error) {
			return []bridge.Progress{{OrderID: "o", State: bridge.StateRunning}, {OrderID: "o", State: bridge.StateFailed, Detail: "no such file"}}, execErr(bridge.Unreachable)
		}}
		h := openHouse(t, houseConfig{keeper: keep(eyes), seed: func(c *cabinet) { c.seed(t, stored(kill("o", "WS-1"), bridge.StateAccepted)) }})
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := h.path("o"); got != "[accepted running failed]" {
			t.Errorf("states %s", got)
		}
	})
}

func TestErrorsNeverEndTheKeeper(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Changed", "Hold", "DueLeases", "Overdue", "Held", "TakeUp", "Pending", "Retries", "Accepted", "Move", "Admit", "*"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ksc, at := newSite(), time.Now()
				eyes := &scout{answer: func(orders []bridge.Order) (out []bridge.Progress, err error) {
					if time.Since(at) < 2*time.Minute {
						return nil, errors.New("not even an ExecError")
					}
					for _, o := range orders {
						out = append(out, bridge.Progress{OrderID: o.ID, State: bridge.StateDone})
					}
					return out, nil
				}}
				iso := isolate("iso", "WS-1")
				iso.For = 3 * time.Minute
				h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, keeper: keep(eyes), mapper: ordersByAlert{"a1": {iso}}, seed: func(c *cabinet) {
					held := stored(kill("held", "WS-2"), bridge.StateHeld)
					held.Reason = bridge.ReasonHold
					c.seed(t, held)
					c.seed(t, stored(kill("stray", "WS-3"), bridge.StateQueued))
				}})
				h.add("a1")
				time.Sleep(time.Second)
				h.set(func() { h.broken[method] = true })
				time.Sleep(time.Minute)
				h.set(func() { delete(h.broken, method); h.cabinet.hold = bridge.Hold{Active: true} })
				time.Sleep(time.Second)
				if !h.hold.Get().Active {
					t.Error("the hold is not seen any more")
				}
				h.set(func() { h.cabinet.hold = bridge.Hold{} })
				time.Sleep(6 * time.Minute)
				for _, id := range []string{"iso", "held", "stray"} {
					h.wantState(t, id, bridge.StateDone)
				}
				if ksc.stands("WS-1") {
					t.Error("the host was never released")
				}
			})
		})
	}
}

func TestKeeperEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		eyes := &scout{answer: func([]bridge.Order) ([]bridge.Progress, error) { <-block; return nil, nil }}
		h := openHouse(t, houseConfig{sleeping: true, seed: func(c *cabinet) { c.seed(t, stored(kill("o", "WS-1"), bridge.StateAccepted)) }})
		k, err := bridge.NewKeeper(bridge.KeeperConfig{Cabinet: h.cabinet, Pipe: h.pipe, Hold: h.hold, Followers: atKSC(eyes)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { k.Run(ctx); close(ended) }()
		time.Sleep(time.Minute)
		cancel()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("the keeper ended while its follower still works for it")
		default:
		}
		close(block)
		synctest.Wait()
		select {
		case <-ended:
		default:
			t.Error("the keeper goes on after its context")
		}
	})
}

func TestHoldSetWhileTheKeeperReadsIsNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := openHouse(t, houseConfig{keeper: keep(nil)})
		time.Sleep(time.Second)
		h.set(func() { // another process changed something
			h.reading = func() {
				// Between the keeper's reading and its use somebody of this process pulls the hold: Changed does not tell of it.
				h.mu.Lock()
				h.cabinet.hold = bridge.Hold{Active: true, Reason: "stop"}
				h.mu.Unlock()
				h.hold.Set(bridge.Hold{Active: true, Reason: "stop"})
			}
		})
		time.Sleep(10 * time.Second)
		if !h.hold.Get().Active {
			t.Error("the keeper took the hold back with what it had read before")
		}
	})
}

func TestDeadLetterReadAgain(t *testing.T) {
	t.Parallel()
	letter := bridge.DeadLetter{
		ID: bridge.LetterID("test", "a1", []byte("{}")), Source: "test", Entry: "a1", Document: []byte("{}"), Attempts: 1, Retry: noon, By: "cli:alice",
	}
	for name, tc := range map[string]struct {
		orders   []string // of the document; nil = it cannot be read, none = its mapping panics
		broken   string
		attempts int // 0 = unburied
		retry    bool
		want     string
	}{
		"readable by now":        {[]string{"o1"}, "", 0, false, "[sending accepted]"},
		"bad again":              {nil, "", 2, false, "[]"},
		"its mapping panics":     {[]string{}, "", 2, false, "[]"},
		"the store has no place": {[]string{"o1"}, "Admit", 1, true, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				alerts := ordersByAlert{}
				if tc.orders != nil {
					alerts["a1"] = nil
				}
				for _, id := range tc.orders {
					alerts["a1"] = append(alerts["a1"], kill(id, "WS-1"))
				}
				h := openHouse(t, houseConfig{router: bridge.Router{KSC: newSite()}, mapper: alerts, keeper: keep(nil), seed: func(c *cabinet) {
					c.letters[letter.ID] = letter
					c.broken[tc.broken] = true
				}})
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if got := h.path("o1"); got != tc.want {
					t.Errorf("states of its order %s, want %s", got, tc.want)
				}
				h.mu.Lock()
				got, buried := h.letters[letter.ID]
				h.mu.Unlock()
				if buried != (tc.attempts > 0) || got.Attempts != tc.attempts || got.Retry.IsZero() == tc.retry {
					t.Errorf("letter %+v, want %d attempts, to be read again: %t", got, tc.attempts, tc.retry)
				}
				if tc.broken == "" {
					return
				}
				h.mu.Lock()
				delete(h.broken, tc.broken)
				h.mu.Unlock()
				time.Sleep(90 * time.Second)
				h.wantState(t, "o1", bridge.StateAccepted)
			})
		})
	}
}

func TestFeedDoesNotWaitForKSC(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = away(time.Now().Add(5 * time.Minute))
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {kill("o1", "WS-1")}}})
		start, settled := time.Now(), 0
		err := h.pipe.Feed(t.Context(), bridge.Alert{ID: "a1", Source: "test"}, func(_ context.Context, err error) error {
			settled++
			return err
		})
		if err != nil || settled != 1 || time.Since(start) != 0 {
			t.Errorf("feed answered %v after %s, settled %d times; want once and at once", err, time.Since(start), settled)
		}
		time.Sleep(10 * time.Minute)
		h.wantState(t, "o1", bridge.StateAccepted)
	})
}

func TestNewKeeperNeedsItsParts(t *testing.T) {
	t.Parallel()
	if _, err := bridge.NewKeeper(bridge.KeeperConfig{}); err == nil {
		t.Error("a keeper without a store was made")
	}
}
