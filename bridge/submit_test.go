package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestSubmitToARunningBridgeWaitsForItsOwnOrdersOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
			if o.ID == "hand" {
				time.Sleep(10 * time.Second)
			} else {
				time.Sleep(time.Hour)
			}
			return true, nil
		}
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{
			"other": {isolate("other", "WS-9")}, "behind": {kill("behind", "WS-1")},
		}})
		h.add("other")
		time.AfterFunc(time.Second, func() { h.add("behind") }) // stands in the same lane, behind the order of the command
		start := time.Now()
		out := h.submit(t, 30*time.Minute, byHand(isolate("hand", "WS-1")))
		if took := time.Since(start); took != 10*time.Second || out[0].State != bridge.StateAccepted {
			t.Errorf("submit answered %s after %s, want accepted after the 10 s its own order takes", out[0].State, took)
		}
		h.wantState(t, "behind", bridge.StateSending)
		time.Sleep(2 * time.Hour)
		h.wantState(t, "behind", bridge.StateAccepted)
	})
}

func TestSubmitAnswersWhenItsClientLeavesAndTheOrderGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(ctx context.Context, _ bridge.Order, _ int) (bool, error) {
			select {
			case <-time.After(time.Minute):
				return true, nil
			case <-ctx.Done():
				return false, execErr(bridge.Unknown)
			}
		}
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		out, err := h.pipe.Submit(ctx, []bridge.Order{byHand(isolate("hand", "WS-1"))})
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 5*time.Second {
			t.Errorf("submit answered %v after %s, want the end of its client after 5 s", err, took)
		}
		if len(out) != 1 || out[0].ID != "hand" {
			t.Errorf("it answered with %+v, want its order", out)
		}
		time.Sleep(2 * time.Minute)
		h.wantState(t, "hand", bridge.StateAccepted)
	})
}

func TestOrderOfASourceBehindOneByHandIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		start := time.Now()
		ksc.answer = func(_ context.Context, o bridge.Order, _ int) (bool, error) {
			if o.ID == "hand" {
				time.Sleep(time.Second)
				return true, nil
			}
			if time.Since(start) < time.Minute {
				return false, execErr(bridge.Retry)
			}
			return true, nil
		}
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"behind": {kill("behind", "WS-1")}}})
		var wg sync.WaitGroup
		wg.Go(func() { h.submit(t, time.Minute, byHand(isolate("hand", "WS-1"))) })
		synctest.Wait()
		h.add("behind")
		wg.Wait()
		time.Sleep(5 * time.Second)
		h.wantState(t, "behind", bridge.StateQueued)
		time.Sleep(2 * time.Minute)
		h.wantState(t, "behind", bridge.StateAccepted)
	})
}

func TestOrderByHandBehindOneOfASourceAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(_ context.Context, o bridge.Order, n int) (bool, error) {
			if o.ID == "first" && n < 4 {
				return false, execErr(bridge.Retry)
			}
			if o.ID == "hand" {
				return false, execErr(bridge.Retry)
			}
			return true, nil
		}
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"first": {isolate("first", "WS-1")}}})
		h.add("first")
		synctest.Wait()
		out := h.submit(t, time.Minute, byHand(kill("hand", "WS-1")))
		if out[0].State != bridge.StateFailed {
			t.Errorf("the order is %s, want failed: a command does not wait for a better day", out[0].State)
		}
		if got := ksc.asked(); got != "[first first first first hand]" {
			t.Errorf("sent %s, want the order of the host kept", got)
		}
	})
}

func TestSubmitNeverHangs(t *testing.T) {
	t.Parallel()
	twice := byHand(isolate("hand", "WS-1"))
	for name, tc := range map[string]struct {
		orders []bridge.Order
		before func(t *testing.T, h *house)
		want   string
	}{
		"nothing at all":     {nil, nil, "[]"},
		"the same id twice":  {[]bridge.Order{twice, twice}, nil, "[accepted accepted]"},
		"refused by a guard": {[]bridge.Order{byHand(isolate("hand", "")), byHand(kill("b", "WS-1"))}, nil, "[refused accepted]"},
		"no task":            {[]bridge.Order{{ID: "hand", Host: "WS-1"}}, nil, "[refused]"},
		"admitted before":    {[]bridge.Order{twice}, func(t *testing.T, h *house) { _, _ = h.pipe.Submit(t.Context(), []bridge.Order{twice}) }, "[accepted]"},
		"held":               {[]bridge.Order{twice}, func(_ *testing.T, h *house) { h.hold.Set(bridge.Hold{Active: true}) }, "[held]"},
		"covered by a lease": {[]bridge.Order{byHand(isolate("b", "WS-1"))}, func(t *testing.T, h *house) {
			_, _ = h.pipe.Submit(t.Context(), []bridge.Order{twice})
		}, "[duplicate]"},
		"many for several hosts": {[]bridge.Order{twice, byHand(kill("b", "WS-2")), byHand(kill("c", "WS-1"))}, nil, "[accepted accepted accepted]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, running := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					ksc := newSite()
					ksc.answer = func(context.Context, bridge.Order, int) (bool, error) { time.Sleep(time.Second); return true, nil }
					h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, sleeping: !running})
					if tc.before != nil {
						tc.before(t, h)
					}
					var states []bridge.State
					for _, o := range h.submit(t, time.Minute, tc.orders...) {
						states = append(states, o.State)
					}
					if got := fmt.Sprint(states); got != tc.want {
						t.Errorf("running %t: states %s, want %s", running, got, tc.want)
					}
				})
			}
		})
	}
}

func TestSubmitOfAnOrderThatIsInHandAnswersAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = func(context.Context, bridge.Order, int) (bool, error) { time.Sleep(time.Minute); return true, nil }
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}})
		var wg sync.WaitGroup
		wg.Go(func() {
			if out := h.submit(t, time.Hour, byHand(kill("hand", "WS-1"))); out[0].State != bridge.StateAccepted {
				t.Errorf("first caller hears %s, want accepted", out[0].State)
			}
		})
		synctest.Wait()
		start := time.Now()
		out := h.submit(t, time.Second, byHand(kill("hand", "WS-1")))
		if took := time.Since(start); took != 0 || out[0].State != bridge.StateSending {
			t.Errorf("second caller hears %s after %s, want sending at once", out[0].State, took)
		}
		wg.Wait()
		if got := ksc.asked(); got != "[hand]" {
			t.Errorf("sent %s, want once", got)
		}
	})
}

// takenUp has an order taken up from the store by somebody else between its commit and the moment its admitter goes on.
type takenUp struct {
	bridge.Store
	pipe *bridge.Pipeline
	wait time.Duration
}

func (s *takenUp) Admit(ctx context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	out, err := s.Store.Admit(ctx, a)
	for _, ad := range out {
		if err := s.pipe.Resume(ctx, []bridge.Order{ad.Order}); err != nil {
			return nil, err
		}
	}
	time.Sleep(s.wait)
	return out, err
}

func TestOrderTakenUpWhileItIsAdmittedIsSentOnce(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]time.Duration{
		"admitter goes on first": 0, "the other is through already": 10 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ksc := newSite()
				var store takenUp
				h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, pipe: func(c *bridge.PipelineConfig) {
					store.Store, store.wait = c.Store, wait
					c.Store = &store
				}, sleeping: true})
				store.pipe = h.pipe
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { _ = h.pipe.Run(ctx, []bridge.NamedSource{{Name: "test", Source: h.queue}}, nil) })
				synctest.Wait()
				h.submit(t, time.Hour, byHand(kill("hand", "WS-1")))
				time.Sleep(time.Hour)
				if got := ksc.asked(); got != "[hand]" {
					t.Errorf("sent %s, want once", got)
				}
				h.wantState(t, "hand", bridge.StateAccepted)
				cancel()
				wg.Wait()
			})
		})
	}
}

func TestSubmitAfterTheBridgeStoppedSendsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: ordersByAlert{"a": {kill("k", "WS-1")}}})
		h.stop()
		o := byHand(kill("hand", "WS-1"))
		if _, err := h.pipe.Submit(t.Context(), []bridge.Order{o}); err == nil {
			t.Error("submit after the end of the pipeline worked")
		}
		if err := h.pipe.Enter(t.Context(), []bridge.Order{o}); err == nil {
			t.Error("enter after the end of the pipeline worked")
		}
		if err := h.pipe.Resume(t.Context(), []bridge.Order{o}); err == nil {
			t.Error("resume after the end of the pipeline worked")
		}
		settled := func(context.Context, error) error { t.Error("a document was settled"); return nil }
		if err := h.pipe.Feed(t.Context(), bridge.Alert{ID: "a"}, settled); err == nil {
			t.Error("feed after the end of the pipeline worked")
		}
		if ksc.asked() != "[]" || h.path("hand") != "[]" {
			t.Errorf("sent %s, stored %s; want nothing", ksc.asked(), h.path("hand"))
		}
	})
}

func TestShutdownWithManyCallersLosesNothingAndEnds(t *testing.T) {
	t.Parallel()
	for seed := range 50 {
		synctest.Test(t, func(t *testing.T) {
			ksc := newSite()
			ksc.answer = func(context.Context, bridge.Order, int) (bool, error) {
				time.Sleep(5 * time.Millisecond)
				return true, nil
			}
			h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}})
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					time.Sleep(time.Duration((i*seed)%7) * time.Millisecond)
					for n := range 5 {
						id := fmt.Sprintf("o%d-%d", i, n)
						out, err := h.pipe.Submit(t.Context(), []bridge.Order{byHand(kill(id, fmt.Sprint("WS-", n)))})
						if err != nil {
							if h.path(id) != "[]" {
								t.Errorf("%s: %v, but it is stored: %s", id, err, h.path(id))
							}
							return
						}
						if s := out[0].State; s != bridge.StateAccepted && s != bridge.StateQueued {
							t.Errorf("%s is %s", id, s)
						}
					}
				})
			}
			time.Sleep(time.Duration(seed%11) * time.Millisecond)
			h.stop()
			wg.Wait()
		})
	}
}

func TestEnterDoesNotWaitForKSC(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = away(time.Now().Add(time.Hour))
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}})
		start := time.Now()
		o := byHand(release("rel", "WS-1"))
		o.Actor = bridge.ActorLease
		if err := h.pipe.Enter(t.Context(), []bridge.Order{o}); err != nil || time.Since(start) != 0 {
			t.Errorf("enter answered %v after %s, want at once", err, time.Since(start))
		}
		time.Sleep(30 * time.Minute)
		h.wantState(t, "rel", bridge.StateQueued)
		time.Sleep(time.Hour)
		h.wantState(t, "rel", bridge.StateAccepted)
	})
}

func TestFailedTakeUpEndsTheRunAndItsWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		ksc.answer = away(time.Now().Add(time.Hour))
		b := newBench(t, ordersByAlert{}, bridge.Router{KSC: ksc}, nil)
		o := kill("o1", "WS-1")
		o.State, o.Executor, o.NotAfter = bridge.StateQueued, bridge.ExecutorKSC, time.Now().Add(15*time.Minute)
		b.store.orders["o1"] = o
		first := true
		next := func(context.Context) ([]bridge.Order, error) {
			if first {
				first = false
				return []bridge.Order{o}, nil
			}
			synctest.Wait()
			return nil, errors.New("disk I/O error")
		}
		start := time.Now()
		if err := b.pipe.Run(t.Context(), nil, next); err == nil || !strings.Contains(err.Error(), "disk I/O error") {
			t.Errorf("run answered %v, want the error of the store", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("run ended after %s", took)
		}
		if got := b.store.state("o1"); got != bridge.StateQueued {
			t.Errorf("o1 is %s, want queued for the next start", got)
		}
	})
}
