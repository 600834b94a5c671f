package bridge_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestReleaseOvertakesAnIsolationThatWaitsForKSC(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = away(time.Now().Add(5 * time.Minute))
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc},
			mapper: ordersByAlert{"a1": {isolate("iso", "WS-1")}, "a2": {release("rel", "ws-1")}, "a3": {kill("after", "WS-1")}},
		})
		h.add("a1")
		time.Sleep(time.Minute)
		h.wantState(t, "iso", bridge.StateQueued)
		h.add("a2")
		h.add("a3")
		h.wantState(t, "iso", bridge.StateCancelled)
		calls := len(ksc.sent())
		time.Sleep(10 * time.Minute)
		h.wantState(t, "rel", bridge.StateAccepted)
		h.wantState(t, "after", bridge.StateAccepted)
		for _, id := range ksc.sent()[calls:] {
			if id == "iso" {
				t.Errorf("the isolation was sent after its release was decided: %v", ksc.sent())
			}
		}
	})
}

func TestReleaseOvertakesAnIsolationThatWaitsForASlot(t *testing.T) {
	t.Parallel()
	for range 20 { // a slot and the word of the release may come in one moment, and then chance decides
		synctest.Test(t, func(t *testing.T) {
			ksc := newSite()
			ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
				if o.ID == "busy" {
					time.Sleep(time.Minute)
				}
				return true, nil
			}
			h := openHouse(t, houseConfig{
				router: bridge.Router{KSC: ksc}, pipe: func(c *bridge.PipelineConfig) { c.InFlight = 1 },
				mapper: ordersByAlert{"a0": {kill("busy", "WS-0")}, "a1": {isolate("iso", "WS-1")}, "a2": {release("rel", "WS-1")}},
			})
			h.add("a0")
			synctest.Wait()
			h.add("a1")
			h.wantState(t, "iso", bridge.StateSending)
			h.add("a2")
			h.wantState(t, "iso", bridge.StateCancelled)
			time.Sleep(2 * time.Minute)
			if got := ksc.asked(); got != "[busy rel]" {
				t.Errorf("sent %s, want busy and the release only", got)
			}
		})
	}
}

func TestOvertakenIsolationIsNotSentWhenItsTurnComesLater(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			ksc := newSite()
			ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
				if o.ID == "file" {
					time.Sleep(time.Minute)
				}
				return true, nil
			}
			file := kill("file", "WS-1")
			file.Task = bridge.GetFile{Path: `C:\x`}
			h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{
				"a0": {file}, "a1": {isolate("iso", "WS-1")}, "a2": {kill("k", "WS-1")}, "a3": {release("rel", "WS-1")}, "a4": {isolate("iso2", "WS-1")},
			}})
			for _, a := range []string{"a0", "a1", "a2", "a3", "a4"} {
				h.add(a)
				synctest.Wait()
			}
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if got := ksc.asked(); got != "[file k rel iso2]" {
				t.Errorf("sent %s, want everything but the isolation that was taken back, in order", got)
			}
			if got := h.path("iso"); got != "[queued cancelled]" {
				t.Errorf("states of the isolation %s, want it cancelled before its intent", got)
			}
			h.wantState(t, "iso2", bridge.StateAccepted)
		})
	}
}

// slowAdmission delays the commit of one alert.
type slowAdmission struct {
	bridge.Store
	alert string
	by    time.Duration
}

func (s slowAdmission) Admit(ctx context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	if len(a.Alerts) > 0 && a.Alerts[0].ID == s.alert {
		time.Sleep(s.by)
	}
	return s.Store.Admit(ctx, a)
}

func TestReleaseCommittedFirstStillOvertakesTheIsolationBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = away(time.Now().Add(5 * time.Minute))
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {isolate("iso", "WS-1")}, "a2": {release("rel", "WS-1")}},
			pipe: func(c *bridge.PipelineConfig) { c.Store = slowAdmission{c.Store, "a1", 3 * time.Second} },
		})
		h.add("a1")
		h.add("a2")
		time.Sleep(4 * time.Second)
		h.wantState(t, "iso", bridge.StateCancelled)
		time.Sleep(10 * time.Minute)
		h.wantState(t, "rel", bridge.StateAccepted)
		if ksc.stands("WS-1") {
			t.Error("the host is isolated, although its release was received last")
		}
	})
}

func TestIsolationCommittedAfterItsReleaseIsNotSent(t *testing.T) {
	t.Parallel()
	for range 20 { // it finds its slot free and the word of the release at once, and then chance decides
		synctest.Test(t, func(t *testing.T) {
			ksc := newSite()
			h := openHouse(t, houseConfig{
				router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {isolate("iso", "WS-1")}, "a2": {release("rel", "WS-1")}},
				pipe: func(c *bridge.PipelineConfig) { c.Store = slowAdmission{c.Store, "a1", 3 * time.Second} },
			})
			h.add("a1")
			h.add("a2")
			time.Sleep(4 * time.Second)
			h.wantState(t, "iso", bridge.StateCancelled)
			if got := ksc.asked(); got != "[rel]" {
				t.Errorf("sent %s, want the release only", got)
			}
		})
	}
}

func TestIsolationOfADeadProcessIsSettledBeforeItsRelease(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			local := newSite()
			local.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
				if o.ID == "file" {
					time.Sleep(time.Minute)
				}
				return true, nil
			}
			file := kill("file", "WS-1")
			file.Task = bridge.QuarantineFile{Path: "/opt/lab/x"}
			left := []bridge.Order{stored(file, bridge.StateQueued), stored(isolate("iso", "WS-1"), bridge.StateSending), stored(release("rel", "WS-1"), bridge.StateQueued)}
			for i := range left {
				left[i].Executor, left[i].NotAfter = bridge.ExecutorLocal, time.Now().Add(time.Hour)
			}
			h := openHouse(t, houseConfig{router: bridge.Router{Local: blind{local}}, resume: pages(left...), seed: func(c *cabinet) {
				for _, o := range left {
					c.seed(t, o)
				}
			}})
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			// Nobody knows whether the dead process isolated the host: cancelled would say that it did not.
			if got := local.asked(); got != "[file iso rel]" || local.stands("WS-1") {
				t.Errorf("sent %s, isolated %t; want all in order and the host free", got, local.stands("WS-1"))
			}
			h.wantState(t, "iso", bridge.StateAccepted)
		})
	}
}

func TestReleaseDoesNotWaitForAnUndecidedIsolation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		happened bool
		want     bridge.State
		sent     string
	}{
		"it never happened: nobody sends it again":      {false, bridge.StateCancelled, "[iso rel]"},
		"it happened: the release undoes it after that": {true, bridge.StateAccepted, "[iso rel]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ksc := newSite()
				ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
					if o.ID == "iso" {
						return tc.happened, execErr(bridge.Unknown)
					}
					return true, nil
				}
				h := openHouse(t, houseConfig{
					router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {isolate("iso", "WS-1")}, "a2": {release("rel", "WS-1")}},
				})
				h.add("a1")
				time.Sleep(time.Second)
				h.wantState(t, "iso", bridge.StateSending)
				h.add("a2")
				h.wantState(t, "rel", bridge.StateAccepted) // no time has passed
				time.Sleep(time.Hour)
				h.wantState(t, "iso", tc.want)
				if got := ksc.asked(); got != tc.sent {
					t.Errorf("sent %s, want %s", got, tc.sent)
				}
				if h.pipe.Working("iso") {
					t.Error("the isolation is in hand for ever")
				}
				h.add("a1") // a redelivery later changes nothing
				time.Sleep(time.Minute)
				if got := ksc.asked(); got != tc.sent {
					t.Errorf("after a redelivery sent %s, want %s", got, tc.sent)
				}
			})
		})
	}
}

func TestIsolationFoundAfterItsReleaseIsReleasedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(_ context.Context, o bridge.Order, n int) (bool, error) {
			if n == 1 {
				time.AfterFunc(20*time.Second, func() { ksc.do(o) }) // a slow server: it happens after the release
				return false, execErr(bridge.Unknown)
			}
			return true, nil
		}
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {isolate("iso", "WS-1")}, "a2": {release("rel", "WS-1")}},
			keeper: &bridge.KeeperConfig{},
		})
		h.add("a1")
		time.Sleep(time.Second)
		h.add("a2")
		time.Sleep(30 * time.Second)
		if !ksc.stands("WS-1") {
			t.Fatal("the fake did not isolate late")
		}
		time.Sleep(time.Minute)
		if ksc.stands("WS-1") {
			t.Errorf("the host stays isolated although the last word was its release; sent %s", ksc.asked())
		}
	})
}

func TestLapseOfAnOldLeaseTakesNothingFromANewIsolation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		first := isolate("iso", "WS-1")
		first.For = time.Minute
		file := kill("file", "WS-1")
		file.Task = bridge.GetFile{Path: `C:\x`}
		file.AlertTime = time.Now().Add(2 * time.Minute)
		second := isolate("iso2", "WS-1")
		second.AlertTime = time.Now().Add(2 * time.Minute)
		start := time.Now()
		ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
			if down := time.Since(start); down > 50*time.Second && down < 5*time.Minute {
				return false, execErr(bridge.Unreachable)
			}
			return true, nil
		}
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {first}, "a2": {file, second}}, keeper: &bridge.KeeperConfig{Tick: 45 * time.Second},
		})
		h.add("a1")
		time.Sleep(61 * time.Second) // the lease has lapsed, the keeper has not looked yet
		h.add("a2")
		synctest.Wait()
		h.wantState(t, "iso2", bridge.StateQueued)
		time.Sleep(9 * time.Minute)
		h.wantState(t, "iso2", bridge.StateAccepted)
		if !ksc.stands("WS-1") {
			t.Errorf("the host is free although a newer alert wants it isolated; sent %s", ksc.asked())
		}
	})
}

func TestReleaseByHandFindsRoomInAFullOutbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = away(time.Now().Add(time.Minute))
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, pipe: func(c *bridge.PipelineConfig) { c.Orders = 1 },
			mapper: ordersByAlert{"a1": {isolate("iso", "WS-1")}, "a2": {kill("k", "WS-2")}, "a3": {kill("third", "WS-3")}},
		})
		h.add("a1")
		h.add("a2") // finds no room: the source is not read any more
		h.add("a3")
		time.Sleep(time.Second)
		out := h.submit(t, time.Second, byHand(release("rel", "WS-1")))
		if len(out) != 1 || out[0].State != bridge.StateFailed || out[0].Reason != bridge.ReasonUnreachable {
			t.Errorf("release: %+v, want failed because KSC is away", out)
		}
		h.wantState(t, "iso", bridge.StateCancelled)
		time.Sleep(10 * time.Second)
		if got := h.path("third"); got != "[]" {
			t.Errorf("states of the third alert %s: the release gave back room it did not take", got)
		}
		time.Sleep(2 * time.Minute)
		h.wantState(t, "k", bridge.StateAccepted)
		h.wantState(t, "third", bridge.StateAccepted)
	})
}

func TestOvertakenIsolationEndsAtShutdownToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
			return false, execErr(bridge.Unknown)
		}
		ksc.search = func(bridge.Order, int) (bool, error) { return false, execErr(bridge.Unreachable) }
		h := openHouse(t, houseConfig{
			router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a1": {isolate("iso", "WS-1")}, "a2": {release("rel", "WS-1")}},
		})
		h.add("a1")
		time.Sleep(time.Second)
		h.add("a2")
		time.Sleep(time.Minute)
		start := time.Now()
		h.stop()
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("shutdown took %s", took)
		}
		for _, id := range []string{"iso", "rel"} {
			if got := h.state(id); got != bridge.StateSending {
				t.Errorf("%s is %s, want sending: the next start looks for it", id, got)
			}
		}
	})
}
