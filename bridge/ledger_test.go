package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// kills is an order of a rule that ends a process on a host.
func kills(id, host string) bridge.Order {
	o := ruled(id, host, 0)
	o.Task = bridge.TerminateProcess{Path: "/x"}
	return o
}

func TestEveryRefusalNamesItsSetting(t *testing.T) {
	t.Parallel()
	limit := func(l bridge.Limit) bridge.Policy {
		l.Per, l.At = time.Hour, "edr-bridge.yaml:9"
		return bridge.Policy{Limits: []bridge.Limit{l}}
	}
	for name, tc := range map[string]struct {
		policy bridge.Policy
		hand   bool
		state  bridge.State
		reason bridge.Reason
		text   []string
	}{
		"budget of a rule":    {limit(bridge.Limit{Task: bridge.KindIsolateHost, Max: 2}), false, bridge.StateHeld, bridge.ReasonLimit, []string{"at most 2 isolateHost per 1h0m0s"}},
		"budget by source":    {limit(bridge.Limit{All: true, Max: 2, By: bridge.LimitBySource}), false, bridge.StateHeld, bridge.ReasonLimit, []string{"at most 2 orders", "and source"}},
		"budget of a person":  {limit(bridge.Limit{All: true, Max: 2}), true, bridge.StateRefused, bridge.ReasonLimit, []string{"may begin at 2026-11-20T13:00:00Z"}},
		"share of nobody":     {limit(bridge.Limit{All: true, Share: 0.1}), true, bridge.StateRefused, bridge.ReasonLimit, []string{"nobody knows how many hosts"}},
		"damping":             {bridge.Policy{FlapMax: 1, FlapWithin: time.Hour, FlapAt: "edr-bridge.yaml:9"}, false, bridge.StateHeld, bridge.ReasonDamping, []string{"1 times within 1h0m0s"}},
		"room":                {bridge.Policy{Live: bridge.LiveTasks{Hold: 2, At: "edr-bridge.yaml:9"}}, false, bridge.StateHeld, bridge.ReasonLiveTasks, []string{"KSC has 2 unfinished", "from 2 on"}},
		"room of a host":      {bridge.Policy{Live: bridge.LiveTasks{Hold: 1, PerHost: true, At: "edr-bridge.yaml:9"}}, false, bridge.StateHeld, bridge.ReasonLiveTasks, []string{"ws1 has 1 unfinished"}},
		"room for the person": {bridge.Policy{Live: bridge.LiveTasks{Hold: 2, At: "edr-bridge.yaml:9"}}, true, bridge.StateRefused, bridge.ReasonLiveTasks, []string{"KSC has 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBooks(tc.policy)
			var last bridge.Order
			for i, host := range []string{"ws1", "ws2", "ws1"} {
				o := ruled(fmt.Sprint("o", i), host, 0)
				if tc.hand {
					o.Rule, o.Source, o.Actor = "", "", "cli:bob"
				}
				b.admit(o)
				if last = b.send(o.ID, bridge.StateAccepted); last.State.CameToNothing() {
					break
				}
				if last.State == bridge.StateAccepted && i == 0 && tc.reason != bridge.ReasonLiveTasks {
					r := released("r", host)
					r.Executor = bridge.ExecutorLocal
					b.admit(r)
					b.send("r", bridge.StateDone)
				}
				if last.State == bridge.StateDuplicate {
					other := kills("k", "ws1")
					if tc.hand {
						other.Rule, other.Actor = "", "cli:bob"
					}
					b.admit(other)
					last = b.send("k", bridge.StateAccepted)
				}
			}
			want(t, last, tc.state, tc.reason)
			for _, text := range append(tc.text, "(edr-bridge.yaml:9)") {
				if !strings.Contains(last.Detail, text) {
					t.Errorf("detail %q, want %q in it", last.Detail, text)
				}
			}
			if latched := tc.reason == bridge.ReasonLimit && !tc.hand; b.hold.Active != latched {
				t.Errorf("hold %+v, want latched: %v", b.hold, latched)
			}
			if b.hold.Active && !strings.Contains(b.hold.Reason, "edr-bridge.yaml:9") {
				t.Errorf("latched for %q, which names no setting", b.hold.Reason)
			}
		})
	}
	b := newBooks(bridge.Policy{})
	o := kills("o", "ws1")
	o.Strike, o.StrikeCount, o.StrikeWithin = "k", 3, time.Minute
	if got := b.admit(o); got.Reason != bridge.ReasonThreshold || got.Detail != "alert 1 of 3 within 1m0s (rules.yaml:3)" {
		t.Errorf("refused for %s: %q", got.Reason, got.Detail)
	}
}

func TestOrderThatBeginsTwiceIsChargedOnce(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Limits: []bridge.Limit{{All: true, Max: 2, Per: time.Hour}}, FlapMax: 2, FlapWithin: time.Hour})
	b.admit(ruled("a", "ws1", 0))
	for range 5 {
		b.send("a", bridge.StateQueued)
		b.send("a", bridge.StateHeld)
		b.move("a", bridge.StateQueued)
	}
	want(t, b.send("a", bridge.StateAccepted), bridge.StateAccepted, "")
	b.move("a", bridge.StateFailed) // KSC took it: it stays charged
	want(t, b.admit(kills("b", "ws1")), bridge.StateQueued, "")
	want(t, b.send("b", bridge.StateUnknown), bridge.StateUnknown, "") // it may have happened: charged
	b.admit(kills("c", "ws1"))
	want(t, b.send("c", bridge.StateAccepted), bridge.StateHeld, bridge.ReasonLimit)
	if n := len(b.facts); n != 3 {
		t.Errorf("%d facts, want two charges and one flip", n)
	}
}

func TestFlipIsTakenBackFromAHostThatLostItsID(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		b := newBooks(bridge.Policy{FlapMax: 1, FlapWithin: time.Hour})
		b.admit(ruled("a", "ws1", 0))
		b.send("a", bridge.StateSending, at("g1"))
		b.move("a", bridge.StateQueued, on(bridge.ExecutorLocal), at(""))
		if crash {
			b.ledger = b.rebuilt()
		}
		want(t, b.send("a", bridge.StateDone, at("g1")), bridge.StateDone, "")
		b.admit(released("r", "ws1"))
		b.send("r", bridge.StateDone, at("g1"))
		b.admit(ruled("b", "ws1", 0))
		want(t, b.send("b", bridge.StateDone, at("g1")), bridge.StateHeld, bridge.ReasonDamping)
	}
}

func TestRefundTakesNobodyElsesCharge(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Limits: []bridge.Limit{{All: true, Max: 3, Per: time.Hour}}})
	for _, id := range []string{"a", "b", "c"} {
		b.admit(kills(id, "ws"))
		b.send(id, bridge.StateSending)
		b.now = b.now.Add(10 * time.Minute)
	}
	b.now = b.now.Add(31 * time.Minute) // a counts no more
	b.move("a", bridge.StateFailed)
	b.move("a2", bridge.StateFailed) // nobody knows it
	b.problems = nil
	b.admit(kills("d", "ws"))
	want(t, b.send("d", bridge.StateAccepted), bridge.StateAccepted, "")
	b.admit(kills("e", "ws"))
	want(t, b.send("e", bridge.StateAccepted), bridge.StateHeld, bridge.ReasonLimit)
}

func TestReleasesPassEveryBudget(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{
		Limits: []bridge.Limit{{All: true, Max: 1, Per: time.Hour}}, Live: bridge.LiveTasks{Hold: 1}, FlapMax: 1, FlapWithin: time.Hour,
	})
	b.setHold(bridge.Hold{Active: true, Since: b.now})
	for i := range 5 {
		o := released(fmt.Sprint("r", i), "ws1")
		b.admit(o)
		want(t, b.send(o.ID, bridge.StateAccepted), bridge.StateAccepted, "")
	}
	if n := b.ledger.LiveTasks(); n != 5 {
		t.Errorf("%d live tasks, want all 5: they take room at KSC too", n)
	}
}

func TestShareOfTheKnownHosts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		share            float64
		limit, hosts, ok int
	}{
		{0.1, 0, 100, 10},
		{0.29, 0, 100, 29},
		{0.1, 0, 19, 1},
		{0.1, 0, 3, 1},
		{1, 0, 4, 4},
		{0.5, 2, 100, 2},
		{0.01, 5, 100, 1},
		{0.1, 0, 0, 0},
		{0, 3, 0, 3},
	} {
		b := newBooks(bridge.Policy{
			Limits: []bridge.Limit{{All: true, Share: tc.share, Max: tc.limit, Per: time.Hour}},
			Known:  func() (int, bool) { return tc.hosts, tc.hosts > 0 },
		})
		n := 0
		for ; n < 200; n++ {
			o := kills(fmt.Sprint("o", n), fmt.Sprint("ws", n))
			b.admit(o)
			if b.send(o.ID, bridge.StateDone).State != bridge.StateDone {
				break
			}
		}
		if n != tc.ok {
			t.Errorf("%g of %d hosts, at most %d: %d orders began, want %d", tc.share, tc.hosts, tc.limit, n, tc.ok)
		}
	}
}

func TestScansWaitFirstAndIsolationsLast(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Live: bridge.LiveTasks{Hold: 8, Keep: 3}})
	most := map[bridge.Kind]int{}
	tasks := []bridge.Task{bridge.OnDemandScan{}, bridge.TerminateProcess{Path: "/x"}, bridge.IsolateHost{Action: bridge.IsolationOn}}
	for i := range 30 {
		for _, task := range tasks {
			o := ruled(fmt.Sprint(task.Kind(), i), fmt.Sprint("ws", i), 0)
			o.Task = task
			if !b.ledger.Room(o) {
				continue
			}
			b.admit(o)
			b.send(o.ID, bridge.StateAccepted)
			most[task.Kind()] = b.ledger.LiveTasks()
		}
	}
	for i, n := range []int{6, 8, 11} {
		if got := most[tasks[i].Kind()]; got > n || i == 2 && got != n {
			t.Errorf("%s began as number %d, want at most %d", tasks[i].Kind(), got, n)
		}
	}
	local := kills("local", "ws")
	local.Executor = bridge.ExecutorLocal
	if b.admit(local); b.send("local", bridge.StateDone).State != bridge.StateDone {
		t.Error("the local agent has no room at KSC to wait for")
	}
}

func TestApprovalOutweighsDampingAndPeopleAreNotDamped(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{FlapMax: 1, FlapWithin: time.Hour})
	b.admit(released("r", "WS1"))
	b.send("r", bridge.StateDone)
	b.admit(ruled("a", "ws1", time.Minute))
	want(t, b.send("a", bridge.StateDone), bridge.StateHeld, bridge.ReasonDamping)
	if !slices.Equal(b.asked, []string{"a"}) {
		t.Errorf("asked about %v, want a", b.asked)
	}
	b.move("a", bridge.StateQueued, func(o *bridge.Order) { o.Approval = bridge.Approval{By: "cli:bob"} })
	want(t, b.send("a", bridge.StateDone), bridge.StateDone, "")
	b.admit(released("r2", "ws1"))
	b.send("r2", bridge.StateDone)
	byHand := ruled("b", "ws1", time.Minute)
	byHand.Rule, byHand.Actor = "", "cli:bob"
	b.admit(byHand)
	want(t, b.send("b", bridge.StateDone), bridge.StateDone, "")
}

func TestPeopleAreAskedAboutAHostNowAndThen(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		every time.Duration
		after []time.Duration
		asked int
	}{
		"once within the time":                {time.Hour, []time.Duration{0, time.Minute, 58 * time.Minute}, 1},
		"again after it":                      {time.Hour, []time.Duration{0, time.Hour, time.Minute}, 2},
		"always":                              {0, []time.Duration{0, 0, time.Second}, 3},
		"always, and the clock is set back":   {0, []time.Duration{0, -time.Second, -time.Hour}, 3},
		"once, and the clock is set back":     {time.Hour, []time.Duration{0, -time.Minute, time.Second}, 1},
		"again, when it is set back by a day": {time.Hour, []time.Duration{0, -24 * time.Hour, time.Minute}, 2},
	} {
		for _, crash := range []bool{false, true} {
			b := newBooks(bridge.Policy{AskEvery: tc.every})
			for i, d := range tc.after {
				b.now = b.now.Add(d)
				b.ledger.Prune(b.now)
				if crash {
					b.ledger = b.rebuilt()
				}
				o := kills(fmt.Sprint("o", i), []string{"ws1", "WS1"}[i%2])
				o.State, o.Reason = bridge.StateHeld, bridge.ReasonApproval
				b.admit(o)
				o.ID, o.Reason = o.ID+"hold", bridge.ReasonHold // nobody is asked about these
				b.admit(o)
			}
			if len(b.asked) != tc.asked {
				t.Errorf("%s (crash %v): asked %d times, want %d", name, crash, len(b.asked), tc.asked)
			}
		}
	}
	b := newBooks(bridge.Policy{AskEvery: time.Hour})
	for _, host := range []string{"ws1", "ws2"} {
		o := kills("o"+host, host)
		o.State, o.Reason = bridge.StateHeld, bridge.ReasonHours
		b.admit(o)
	}
	if len(b.asked) != 2 {
		t.Errorf("asked about %v, want both hosts", b.asked)
	}
}

func TestResumeGivesAFreshBudgetEvenWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		b := newBooks(bridge.Policy{Limits: []bridge.Limit{{All: true, Max: 2, Per: time.Hour}}})
		n := 0
		fill := func() (began int) {
			for ; ; began++ {
				n++
				o := kills(fmt.Sprint("o", n), "ws")
				b.admit(o)
				if got := b.send(o.ID, bridge.StateDone); got.State != bridge.StateDone {
					return began
				}
				if crash {
					b.ledger = b.rebuilt()
				}
				if began > 10 {
					return began
				}
			}
		}
		for range 3 {
			if got := fill(); got != 2 || !b.hold.Active {
				t.Errorf("crash %v: %d orders began, hold %v; want 2 and the hold", crash, got, b.hold.Active)
			}
			b.now = b.now.Add(time.Minute)
			b.resume()
			b.now = b.now.Add(-10 * time.Second) // what begins next begins before the resume by this clock
		}
	}
}

func TestHoldThatStandsGivesNoFreshBudget(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Limits: []bridge.Limit{{All: true, Max: 1, Per: time.Hour}}})
	b.admit(kills("a", "ws"))
	b.send("a", bridge.StateDone)
	b.resume() // nothing was on hold
	b.setHold(bridge.Hold{Active: true, Reason: "one", Since: b.now})
	b.setHold(bridge.Hold{Active: true, Reason: "two", Since: b.now})
	b.ledger.SetHold(bridge.Hold{Active: true, Reason: "three"})
	j := b.ledger.Begin(kills("b", "ws"), b.now)
	if j.State != bridge.StateHeld || j.Reason != bridge.ReasonHold || !strings.Contains(j.Detail, "three") {
		t.Errorf("verdict %+v, want held for the hold", j.Verdict)
	}
	if err := b.ledger.Latch("again", b.now, b); err != nil || b.latches != 0 {
		t.Errorf("latched %d times over a hold, %v", b.latches, err)
	}
}

func TestOrdersThatHaveEndedAreNotJudged(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	for _, s := range []bridge.State{bridge.StateRefused, bridge.StateDuplicate, bridge.StateFailed, bridge.StateExpired, bridge.StateDone} {
		o := ruled("x"+string(s), "ws1", time.Hour)
		o.State, o.Reason, o.Strike, o.StrikeCount, o.StrikeWithin = s, bridge.ReasonAge, "k", 9, time.Hour
		want(t, b.admit(o), s, bridge.ReasonAge)
	}
	b.wantLive(t, "a")
	if len(b.facts) != 0 {
		t.Errorf("facts %+v, want none", b.facts)
	}
}
