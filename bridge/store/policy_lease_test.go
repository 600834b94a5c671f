//go:build !race

package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// drawTurns draws a plan that is about nothing but isolations and releases of one or two machines, with a KSC that has its troubles.
func drawTurns(t *rapid.T) plan {
	policy := setup{
		Ceiling: bridge.ModeEnforce, MaxAge: time.Hour, MaxAgePID: time.Minute, Known: 10, KSC: true, Lease: bridge.LeasePolicy{Default: 30 * time.Minute},
	}
	p := plan{
		First: policy, Other: policy, Window: drawFrom(t, "dedupe", -1, 10*time.Minute), InFlight: 1 + pick(t, "in flight", 2),
		Rules: []rule{
			{Name: "short", Mode: "enforce", Match: "{level: HIGH}", Do: []string{"short"}},
			{Name: "plain", Mode: "enforce", Match: "{level: CRITICAL}", Do: []string{"isolate"}},
			{Name: "ever", Mode: "enforce", Match: "{level: LOW}", Do: []string{"permanent"}},
			{Name: "off", Mode: "enforce", Match: "{level: MEDIUM}", Do: []string{"release"}},
		},
	}
	// Orders that spell a host differently stand in different lanes until KSC has told who it is: their order is not kept.
	hosts := []string{"ws-1.corp.local", "ws-1.corp.local", "WS-1.corp.local", "ws-2.corp.local"}
	p.Steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		s := step{What: drawFrom(t, "what", "alert", "alert", "alert", "release", "release", "wait", "wait", "keeper", "hold", "resume", "restart", "again")}
		switch s.What {
		case "alert":
			s.Alert = alert{Source: "bus", ID: "new", Level: drawFrom(t, "level", "HIGH", "HIGH", "CRITICAL", "LOW", "MEDIUM"), Host: drawFrom(t, "host", hosts...)}
		case "release":
			s = step{What: "hand", Task: "release", Host: drawFrom(t, "host", hosts...), Who: "cli:alice", Via: bridge.ViaAuto}
		case "wait":
			s.Wait = drawFrom(t, "wait", time.Second, 40*time.Second, 119*time.Second, 125*time.Second, 10*time.Minute)
		}
		return s
	}), 2, 10).Draw(t, "steps")
	p.Answers = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) answer {
		return answer{
			drawFrom(t, "answer", "ok", "ok", "lost", "gone", "busy", "unreachable", "refused"), drawFrom(t, "takes", 0, 0, time.Second, 50*time.Second, 3*time.Minute),
		}
	}), 0, 6).Draw(t, "answers")
	p.Finds = some(t, "searches", 3, false, true)
	return p
}

// tend lets a keeper work for a while.
func (h *house) tend(d time.Duration) {
	k, err := bridge.NewKeeper(bridge.KeeperConfig{Cabinet: h.store, Pipe: h.pipe, Hold: h.hold, Tick: 20 * time.Second, Poll: time.Hour})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(h.ctx, d)
	defer stop()
	k.Run(ctx)
	synctest.Wait()
}

// wanted reads from the orders alone how a machine should stand: isolated while a reason holds that no later release has taken back.
// sure is false when no order is about it, a reason lapses about now, or nobody knows what became of an order.
func (h *house) wanted(m int) (isolated, sure bool) {
	orders, err := h.store.Orders(context.Background(), bridge.OrderFilter{Limit: 1000})
	if err != nil {
		h.failf("orders: %v", err)
	}
	const soon = time.Minute
	about := false
	var reasons []time.Time // when they lapse; zero = never
	for _, o := range slices.Backward(orders) {
		if whoIs(o.Host) != m {
			continue
		}
		about = true
		taken := o.State == bridge.StateAccepted || o.State == bridge.StateRunning || o.State == bridge.StateDone
		switch {
		case !o.State.End() && !taken, o.State == bridge.StateUnknown:
			return false, false
		case o.Actor == bridge.ActorLease:
		case bridge.IsRelease(o.Task) && (taken || o.State == bridge.StateFailed || o.State == bridge.StateExpired):
			reasons = nil // one that failed is tried again by the lease, until it goes through
		case bridge.IsIsolation(o.Task) && (taken || o.State == bridge.StateDuplicate && o.Reason == bridge.ReasonLease):
			var until time.Time
			if o.For > 0 {
				until = h.began(o).Add(o.For)
			}
			reasons = append(reasons, until)
		}
	}
	for _, until := range reasons {
		if !until.IsZero() && time.Until(until).Abs() < soon {
			return false, false
		}
		isolated = isolated || until.IsZero() || time.Until(until) > 0
	}
	return isolated, about
}

// began returns when an isolation began last, or became a reason more.
func (h *house) began(o bridge.Order) (at time.Time) {
	records, err := h.store.Audit(context.Background(), bridge.AuditFilter{Order: o.ID, Limit: 1000})
	if err != nil {
		h.failf("audit: %v", err)
	}
	for _, r := range records {
		if r.To == bridge.StateSending || r.To == bridge.StateDuplicate {
			at = r.Time
		}
	}
	return at
}

// stand compares the machines with what is wanted.
func (h *house) stand(when string) (compared int) {
	h.site.mu.Lock()
	isolated := map[int]bool{}
	for m := range machines() {
		isolated[m] = h.site.isolated[m]
	}
	h.site.mu.Unlock()
	for m, machine := range machines() {
		want, sure := h.wanted(m)
		if !sure {
			continue
		}
		compared++
		if isolated[m] != want {
			h.failf("%s: %s is isolated %t, wanted %t", when, machine.fqdn, isolated[m], want)
		}
	}
	return compared
}

// playTurns plays a plan of isolations and releases and looks how the machines stand when everything has settled, and once more
// when every reason that lapses has.
func (h *house) playTurns() {
	for _, s := range h.plan.Steps {
		h.play(s)
	}
	h.play(step{What: "resume"})
	h.tend(25 * time.Minute)
	h.oracle.seen["compared"] += h.stand("settled")
	h.tend(50 * time.Minute)
	h.oracle.seen["compared"] += h.stand("lapsed")
}

// TestF15HostsStandAsTheirReasonsSayWhenAllHasSettled plays isolations and releases on the whole road: mapping, guards, pipeline,
// keeper, store, and a KSC whose answers get lost.
func TestF15HostsStandAsTheirReasonsSayWhenAllHasSettled(t *testing.T) {
	t.Parallel()
	var cases, compared atomic.Int64
	t.Run("cases", func(t *testing.T) {
		for shard := range max(1, turnShards/policyShare) {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				s := openStage(t, (*house).playTurns)
				rapid.Check(t, func(rt *rapid.T) {
					out := s.show(rt, rapid.Custom(drawTurns).Draw(rt, "plan"))
					cases.Add(1)
					compared.Add(int64(out["compared"]))
				})
			})
		}
	})
	t.Logf("%d cases, %d comparisons", cases.Load(), compared.Load())
	if compared.Load() < cases.Load() {
		t.Errorf("only %d comparisons in %d cases", compared.Load(), cases.Load())
	}
}

// turnShards times the checks of one rapid.Check are the cases about leases.
const turnShards = 4
