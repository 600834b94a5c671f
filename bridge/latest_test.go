package bridge_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// decision is one isolation or release of the host. They are committed one after the other: that makes one of them the latest.
type decision struct {
	release bool
	after   time.Duration // since the one before
}

// trouble is what KSC does with one call.
type trouble struct {
	class  bridge.Class
	ok     bool // no trouble at all
	effect bool // of an ambiguous call
	takes  time.Duration
}

// plan is one case: decisions about a host, and a KSC that has its troubles with the first calls and searches.
type plan struct {
	decisions []decision
	troubles  []trouble
	searches  []bool // whether the nth search works
	slots     int
}

func drawPlan() *rapid.Generator[plan] {
	span := rapid.SampledFrom([]time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second, 20 * time.Second, 50 * time.Second})
	aDecision := rapid.Custom(func(t *rapid.T) decision {
		return decision{release: rapid.Bool().Draw(t, "release"), after: span.Draw(t, "after")}
	})
	aTrouble := rapid.Custom(func(t *rapid.T) trouble {
		class := rapid.SampledFrom([]bridge.Class{bridge.Retry, bridge.Unknown, bridge.Unreachable}).Draw(t, "class")
		return trouble{class, rapid.Bool().Draw(t, "ok"), rapid.Bool().Draw(t, "effect"), span.Draw(t, "takes") / 10}
	})
	return rapid.Custom(func(t *rapid.T) plan {
		return plan{
			rapid.SliceOfN(aDecision, 2, 6).Draw(t, "decisions"), rapid.SliceOfN(aTrouble, 0, 5).Draw(t, "troubles"),
			rapid.SliceOfN(rapid.Bool(), 0, 2).Draw(t, "searches"), rapid.IntRange(1, 2).Draw(t, "slots"),
		}
	})
}

// commits remembers when each alert was committed.
type commits struct {
	bridge.Cabinet

	mu   sync.Mutex // guards made
	made map[string]time.Time
}

func (c *commits) Admit(ctx context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	if len(a.Alerts) == 0 {
		return c.Cabinet.Admit(ctx, a)
	}
	out, err := c.Cabinet.Admit(ctx, a)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made[a.Alerts[0].ID] = time.Now()
	return out, err
}

// run carries the plan out in a bubble and says what went wrong, and whether the last decision got through.
func (p plan) run(t *testing.T) (problems []string, through bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ksc, alerts := newSite(), ordersByAlert{}
		committed := &commits{made: map[string]time.Time{}}
		kinds := map[string]int{}
		name := func(i int) (alert, order string) { return fmt.Sprint("a", i), fmt.Sprint("o", i) }
		for i, d := range p.decisions {
			alert, id := name(i)
			o := isolate(id, "WS-1")
			if d.release {
				o = release(id, "WS-1")
			}
			alerts[alert], kinds[id] = []bridge.Order{o}, i
		}
		ksc.answer = func(_ context.Context, o bridge.Order, n int) (bool, error) {
			committed.mu.Lock()
			for i := kinds[o.ID] + 1; i < len(p.decisions); i++ {
				alert, _ := name(i)
				if at, made := committed.made[alert]; made && p.decisions[i].release && bridge.IsIsolation(o.Task) && at.Before(time.Now()) {
					problems = append(problems, fmt.Sprintf("%s was sent although the release o%d was decided before", o.ID, i))
				}
			}
			committed.mu.Unlock()
			if n > len(p.troubles) {
				return true, nil
			}
			trouble := p.troubles[n-1]
			time.Sleep(trouble.takes)
			if trouble.ok {
				return true, nil
			}
			return trouble.effect && trouble.class == bridge.Unknown, execErr(trouble.class)
		}
		ksc.search = func(o bridge.Order, n int) (bool, error) {
			ksc.mu.Lock()
			defer ksc.mu.Unlock()
			if n <= len(p.searches) && !p.searches[n-1] {
				return false, execErr(bridge.Unreachable)
			}
			return ksc.added[o.ID], nil
		}
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}, mapper: alerts, keeper: &bridge.KeeperConfig{Tick: 20 * time.Second, Poll: time.Minute}, pipe: func(c *bridge.PipelineConfig) {
			c.InFlight = p.slots
			committed.Cabinet = c.Store.(bridge.Cabinet)
			c.Store = committed
		}})
		for i, d := range p.decisions {
			time.Sleep(d.after)
			alert, _ := name(i)
			h.add(alert)
		}
		time.Sleep(40 * time.Minute)
		h.stop()
		for i := range p.decisions {
			_, id := name(i)
			if got := h.order(id); !got.State.End() && got.State != bridge.StateAccepted || h.pipe.Working(id) {
				problems = append(problems, fmt.Sprintf("%s is %s after %s, in hand %t", id, got.State, h.path(id), h.pipe.Working(id)))
			}
		}
		last := len(p.decisions) - 1
		_, id := name(last)
		switch got := h.order(id); got.State {
		case bridge.StateAccepted, bridge.StateDuplicate:
			through = true
			if want := !p.decisions[last].release; ksc.stands("WS-1") != want {
				problems = append(problems, fmt.Sprintf("isolated is %t, the last decision wants %t; sent %s", !want, want, ksc.asked()))
			}
		default:
		}
	})
	return problems, through
}

func TestF15TheLatestDecisionWinsInEveryInterleaving(t *testing.T) {
	t.Parallel()
	cases, through := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		for _, p := range rapid.SliceOfN(drawPlan(), 11, 11).Draw(rt, "plans") {
			problems, done := p.run(t)
			cases++
			if done {
				through++
			}
			for _, problem := range problems {
				rt.Errorf("%+v: %s", p, problem)
			}
		}
	})
	if cases < 1000 || through < cases*9/10 {
		t.Errorf("%d cases, the last decision of %d got through; want at least 1000 and nearly all", cases, through)
	}
}
