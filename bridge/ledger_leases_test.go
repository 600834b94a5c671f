package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func want(t *testing.T, o bridge.Order, s bridge.State, r bridge.Reason) {
	t.Helper()
	if o.State != s || o.Reason != r {
		t.Errorf("%s is %s %s (%s), want %s %s", o.ID, o.State, o.Reason, o.Detail, s, r)
	}
}

func (b *books) wantLive(t *testing.T, ids ...string) {
	t.Helper()
	if got := b.live(); !slices.Equal(got, ids) {
		t.Errorf("leases of %v hold, want %v", got, ids)
	}
	if len(b.problems) > 0 {
		t.Error(strings.Join(b.problems, "\n"))
	}
	if diff := b.sameAfterRestart(); diff != "" {
		t.Errorf("after a restart (-next +this):\n%s", diff)
	}
}

// wantRelease looks for the one release that is due for a host.
func (b *books) wantRelease(t *testing.T, host string) bridge.Order {
	t.Helper()
	ids := b.keep(t)
	if len(ids) != 1 {
		t.Fatalf("%d orders are due, want one release", len(ids))
	}
	o := b.orders[ids[0]]
	if !bridge.IsRelease(o.Task) || o.Host != host || o.Actor != bridge.ActorLease {
		t.Fatalf("due is %+v, want a release of %s", o, host)
	}
	return o
}

func (b *books) wantNothingDue(t *testing.T) {
	t.Helper()
	if ids := b.keep(t); len(ids) > 0 {
		t.Errorf("due is %+v, want nothing", b.orders[ids[0]])
	}
}

// isolatedBooks has host ws1 isolated by order a for an hour.
func isolatedBooks(p bridge.Policy) *books {
	b := newBooks(p)
	b.admit(ruled("a", "ws1", time.Hour))
	b.send("a", bridge.StateAccepted, at("g1"))
	return b
}

func TestSecondReasonIsAddedAndTheLastOneReleases(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	b.now = b.now.Add(30 * time.Minute)
	second := b.admit(ruled("b", "WS1", time.Hour))
	want(t, second, bridge.StateDuplicate, bridge.ReasonLease)
	if second.Covers != "a" {
		t.Errorf("covered by %q, want a", second.Covers)
	}
	b.now = b.now.Add(30 * time.Minute)
	b.wantNothingDue(t)
	b.now = b.now.Add(30 * time.Minute)
	r := b.wantRelease(t, "ws1")
	b.wantLive(t)
	b.send(r.ID, bridge.StateAccepted)
	b.move(r.ID, bridge.StateDone)
	b.wantNothingDue(t)
	for _, id := range []string{"a", "b"} {
		if l := b.leases[id]; l.End != bridge.LeaseLapsed || l.Kept() {
			t.Errorf("lease %s ended %q, kept %v", id, l.End, l.Kept())
		}
	}
}

func TestReasonSurvivesTheIsolationItMetOnItsWay(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{})
	b.admit(ruled("a", "ws1", time.Hour))
	b.send("a", bridge.StateSending, at("g1"))
	want(t, b.admit(ruled("b", "ws1", time.Hour)), bridge.StateQueued, "")
	b.move("a", bridge.StateFailed)
	b.wantLive(t)
	want(t, b.send("b", bridge.StateAccepted, at("g1")), bridge.StateAccepted, "")
	b.wantLive(t, "b")
	want(t, b.admit(ruled("c", "ws1", time.Hour)), bridge.StateDuplicate, bridge.ReasonLease)
}

func TestIsolationThatMayHaveHappenedCoversNoOtherAndIsReleased(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{})
	b.admit(ruled("a", "ws1", time.Hour))
	b.send("a", bridge.StateUnknown, at("g1"))
	want(t, b.admit(ruled("b", "ws1", 2*time.Hour)), bridge.StateQueued, "")
	want(t, b.send("b", bridge.StateDone, at("g1")), bridge.StateDone, "")
	b.wantLive(t, "a", "b")
	b.now = b.now.Add(2 * time.Hour)
	b.wantRelease(t, "ws1")
	b.wantLive(t)
}

func TestRefusedBeginningIsNoReasonUntilItBeginsAgain(t *testing.T) {
	t.Parallel()
	for _, back := range []bridge.State{bridge.StateQueued, bridge.StateHeld} {
		b := newBooks(bridge.Policy{})
		b.admit(ruled("a", "ws1", time.Hour))
		b.send("a", back, at("g1"))
		b.wantLive(t)
		b.now = b.now.Add(2 * time.Hour)
		b.wantNothingDue(t)
		if back == bridge.StateHeld {
			b.move("a", bridge.StateQueued)
		}
		b.send("a", bridge.StateDone, at("g1"))
		b.wantLive(t, "a")
		b.now = b.now.Add(59 * time.Minute)
		b.wantNothingDue(t)
		b.now = b.now.Add(time.Minute)
		b.wantRelease(t, "ws1")
	}
}

func TestLengthOfAnIsolation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lasts, def, ends time.Duration // ends 0 = never
	}{
		"as asked":      {90 * time.Second, 4 * time.Hour, 90 * time.Second},
		"not said":      {0, 4 * time.Hour, 4 * time.Hour},
		"set otherwise": {0, 7 * time.Hour, 7 * time.Hour},
		"permanent":     {-1, 4 * time.Hour, 0},
	} {
		b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{Default: tc.def}})
		b.admit(ruled("a", "ws1", tc.lasts))
		b.send("a", bridge.StateDone, at("g1"))
		if tc.ends == 0 {
			b.now = b.now.Add(10_000 * time.Hour)
			b.wantNothingDue(t)
			b.wantLive(t, "a")
			continue
		}
		b.now = b.now.Add(tc.ends - time.Nanosecond)
		b.wantNothingDue(t)
		b.now = b.now.Add(time.Nanosecond)
		if o := b.wantRelease(t, "ws1"); t.Failed() {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestReleaseFindsTheMachineUnderItsOtherName(t *testing.T) {
	t.Parallel()
	for _, names := range [][2]string{{"ws1", "G1"}, {"g1", "WS1"}, {"ws1", "ws1.corp"}} {
		b := newBooks(bridge.Policy{})
		b.admit(ruled("a", names[0], time.Hour))
		b.send("a", bridge.StateAccepted, at("g1"))
		b.admit(ruled("b", names[0], -1))
		b.admit(released("r", names[1]))
		want(t, b.send("r", bridge.StateDone, at("g1")), bridge.StateDone, "")
		b.wantLive(t)
		b.now = b.now.Add(2 * time.Hour)
		b.wantNothingDue(t)
	}
}

func TestReleaseThatComesToNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		path []bridge.State
		why  bridge.Reason
		soon bool // it is sent again soon; else the reasons go on as before
	}{
		"not sent":                      {[]bridge.State{bridge.StateSending, bridge.StateFailed}, "", true},
		"too late":                      {[]bridge.State{bridge.StateExpired}, "", true},
		"lost":                          {[]bridge.State{bridge.StateSending, bridge.StateUnknown}, "", true},
		"the host did not do it":        {[]bridge.State{bridge.StateSending, bridge.StateAccepted, bridge.StateFailed}, "", true},
		"not after it ran":              {[]bridge.State{bridge.StateSending, bridge.StateAccepted, bridge.StateRunning, bridge.StateFailed}, "", true},
		"taken back by a person":        {[]bridge.State{bridge.StateCancelled}, "", false},
		"taken back after a first try":  {[]bridge.State{bridge.StateSending, bridge.StateQueued, bridge.StateCancelled}, "", false},
		"refused by a guard":            {[]bridge.State{bridge.StateRefused}, bridge.ReasonProtectedHost, false},
		"refused by KSC":                {[]bridge.State{bridge.StateSending, bridge.StateRefused}, bridge.ReasonHostNotFound, false},
		"parked":                        {[]bridge.State{bridge.StateSending, bridge.StateHeld}, bridge.ReasonHold, false},
		"the executor only pretends to": {[]bridge.State{bridge.StateSending, bridge.StateShadow}, bridge.ReasonDryRun, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := isolatedBooks(bridge.Policy{})
			b.admit(ruled("b", "ws1", -1))
			b.now = b.now.Add(time.Minute)
			b.admit(released("r", "ws1"))
			b.wantLive(t)
			for _, s := range tc.path {
				b.move("r", s, at("g1"), func(o *bridge.Order) { o.Reason = tc.why })
			}
			b.wantLive(t, "a", "b")
			b.wantNothingDue(t)
			b.now = b.now.Add(time.Minute)
			if tc.soon {
				b.wantRelease(t, "ws1")
				return
			}
			b.now = b.now.Add(2 * time.Hour)
			b.wantNothingDue(t)
			b.wantLive(t, "a", "b")
		})
	}
}

func TestAcceptedReleaseIsNotDone(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	b.admit(released("r", "ws1"))
	b.send("r", bridge.StateAccepted, at("g1"))
	b.ledger = b.rebuilt()
	if l := b.leases["a"]; !l.Kept() || l.EndedBy != "r" {
		t.Errorf("the lease is forgotten before the host was released: %+v", l)
	}
	b.move("r", bridge.StateUnknown) // nobody saw it done within a day; the task waits at KSC for the host
	b.wantLive(t)
	b.now = b.now.Add(48 * time.Hour)
	b.wantNothingDue(t)
}

func TestReleaseOfALeaseIsRepeatedOnceAMinuteUnderANewName(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	b.now = b.now.Add(time.Hour)
	seen := map[string]bool{}
	for i := range 6 {
		host := "ws1"
		if i == 3 || i == 5 {
			host = "g1" // a host that was renamed is found by its id only
		}
		r := b.wantRelease(t, host)
		if seen[r.ID] {
			t.Fatalf("try %d has an id that is known: it would never be sent", i)
		}
		seen[r.ID] = true
		b.wantNothingDue(t)
		b.move(r.ID, bridge.StateRefused)
		b.now = b.now.Add(59 * time.Second)
		b.wantNothingDue(t)
		b.now = b.now.Add(time.Second)
	}
}

func TestReleaseOfALeaseThatIsNotEvenAdmittedIsRepeated(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	b.now = b.now.Add(time.Hour)
	var last string
	for range 3 {
		due := b.due()
		if len(due) != 1 {
			t.Fatalf("%d due, want 1", len(due))
		}
		o, err := due[0].Order()
		if err != nil || o.ID == last {
			t.Fatalf("order %s again, %v", o.ID, err)
		}
		last = o.ID
		o.State, o.Reason = bridge.StateRefused, bridge.ReasonProtectedHost
		b.admit(o)
		b.wantNothingDue(t)
		b.now = b.now.Add(time.Minute)
	}
}

func TestNewReasonTakesTheReleaseOfALeaseBack(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	b.now = b.now.Add(time.Hour)
	r := b.wantRelease(t, "ws1")
	want(t, b.admit(ruled("b", "g1", time.Hour)), bridge.StateQueued, "")
	b.send("b", bridge.StateAccepted, at("g1"))
	want(t, b.move(r.ID, bridge.StateSending, at("g1")), bridge.StateCancelled, bridge.ReasonLease)
	b.wantLive(t, "a", "b")
	b.now = b.now.Add(time.Hour)
	b.wantRelease(t, "ws1")
}

func TestHostIsReleasedWhenItsIsolationTurnsUpAfterTheRelease(t *testing.T) {
	t.Parallel()
	for _, found := range []bridge.State{bridge.StateAccepted, bridge.StateDone, bridge.StateUnknown} {
		for _, crash := range []bool{false, true} {
			for _, first := range []string{"a", "r"} {
				b := newBooks(bridge.Policy{})
				b.admit(ruled("a", "ws1", -1))
				b.send("a", bridge.StateSending, at("g1"))
				b.admit(released("r", "ws1"))
				b.send("r", bridge.StateSending, at("g1"))
				turns := map[string][]bridge.State{"a": {found}, "r": {bridge.StateAccepted, bridge.StateDone}}
				for _, id := range []string{first, map[string]string{"a": "r", "r": "a"}[first]} {
					for _, s := range turns[id] {
						if crash {
							b.ledger = b.rebuilt()
						}
						b.move(id, s)
					}
				}
				b.wantLive(t, "a")
				b.wantRelease(t, "ws1")
				b.wantLive(t)
			}
		}
	}
}

func TestNoSecondReleaseIsNeededForAnIsolationBeforeIt(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{})
	b.admit(ruled("a", "ws1", -1))
	b.send("a", bridge.StateSending, at("g1"))
	b.admit(released("r", "ws1")) // waits behind it
	b.move("a", bridge.StateAccepted)
	b.wantLive(t)
	b.wantNothingDue(t)
	b.send("r", bridge.StateAccepted, at("g1"))
	b.move("r", bridge.StateDone)
	b.wantLive(t)
	b.wantNothingDue(t)
}

func TestLocalExecutorReleasesWhatItIsolatedAfterTakingOver(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: time.Minute}, Live: bridge.LiveTasks{Hold: 5}})
	b.admit(ruled("a", "here", time.Hour))
	b.send("a", bridge.StateQueued, at("g1"))
	if n := b.ledger.LiveTasks(); n != 0 {
		t.Errorf("%d live tasks, want none: nothing reached KSC", n)
	}
	b.send("a", bridge.StateDone, on(bridge.ExecutorLocal), func(o *bridge.Order) { o.Intent = bridge.Intent{} })
	more := ruled("b", "here", 30*time.Minute)
	want(t, b.admit(more), bridge.StateDuplicate, bridge.ReasonLease)
	for _, id := range []string{"a", "b"} {
		if l := b.leases[id]; l.Executor != bridge.ExecutorLocal || l.Target != "" {
			t.Errorf("lease %s is kept by %s as %q, want local", id, l.Executor, l.Target)
		}
	}
	b.now = b.now.Add(time.Hour)
	if r := b.wantRelease(t, "here"); r.Via != bridge.ViaLocal {
		t.Errorf("released via %s, want local: KSC does not know of it, and its product ends nothing", r.Via)
	}
}

func TestProductEndsAnIsolation(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: 5 * time.Hour}})
	b.admit(ruled("a", "ws1", -1))
	b.send("a", bridge.StateDone, at("g1"))
	b.admit(ruled("b", "ws1", 6*time.Hour))
	b.now = b.now.Add(5*time.Hour - time.Second)
	b.wantNothingDue(t)
	b.wantLive(t, "a", "b")
	b.now = b.now.Add(time.Second)
	b.wantNothingDue(t)
	b.wantLive(t)
	if len(b.notes) != 2 || b.notes[0].What != bridge.NoteLapsed || !strings.Contains(b.notes[0].Detail, "ws1") {
		t.Errorf("notes: %+v, want one for each reason", b.notes)
	}
	if l := b.leases["b"]; l.End != bridge.LeaseProduct || l.Kept() {
		t.Errorf("lease b ended %q", l.End)
	}
	want(t, b.admit(ruled("c", "ws1", time.Hour)), bridge.StateQueued, "")
}

func TestProductDoesNotEndWhatIsBeingSent(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: time.Hour}})
	b.admit(ruled("a", "ws1", 30*time.Minute))
	b.send("a", bridge.StateDone, at("g1"))
	b.now = b.now.Add(45 * time.Minute)
	b.admit(ruled("b", "ws1", 3*time.Hour))
	b.send("b", bridge.StateSending, at("g1"))
	b.now = b.now.Add(20 * time.Minute)
	b.wantNothingDue(t)
	b.wantLive(t, "a", "b")
	b.move("b", bridge.StateDone)
	b.wantNothingDue(t)
	b.wantLive(t, "a", "b")
	b.now = b.now.Add(40 * time.Minute) // an hour after b was sent
	b.wantNothingDue(t)
	b.wantLive(t)
}

func TestHostNobodyWantsIsolatedIsReleasedOnceAtLeast(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: 2 * time.Hour}})
	b.admit(ruled("a", "ws1", time.Hour))
	b.send("a", bridge.StateDone, at("g1"))
	b.now = b.now.Add(3 * time.Hour) // nobody looked for so long
	r := b.wantRelease(t, "ws1")
	b.send(r.ID, bridge.StateFailed)
	b.now = b.now.Add(time.Minute)
	b.wantNothingDue(t)
	b.wantLive(t)
	if l := b.leases["a"]; l.End != bridge.LeaseProduct {
		t.Errorf("the lease ended %q: its release failed, but the product let the host go", l.End)
	}
}

func TestIsolationIsSentAnewBeforeTheProductEndsIt(t *testing.T) {
	t.Parallel()
	start := func() *books {
		b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: 5 * time.Hour, Reassert: true}})
		b.admit(ruled("a", "ws1", 9*time.Hour))
		b.send("a", bridge.StateDone, at("g1"))
		b.now = b.now.Add(5*time.Hour - 10*time.Minute - time.Second)
		b.wantNothingDue(t)
		b.now = b.now.Add(time.Second)
		return b
	}
	renewal := func(b *books) bridge.Order {
		t.Helper()
		ids := b.keep(t)
		if len(ids) != 1 || !bridge.IsIsolation(b.orders[ids[0]].Task) {
			t.Fatalf("due: %v, want one isolation", ids)
		}
		b.wantNothingDue(t)
		return b.orders[ids[0]]
	}
	sent := func(o *bridge.Order) { o.Intent = bridge.Intent{Target: "g1", Second: o.NotAfter} }

	b := start()
	o := renewal(b)
	second := b.now
	b.move(o.ID, bridge.StateSending, sent, func(o *bridge.Order) { o.Intent.Second = second })
	b.move(o.ID, bridge.StateAccepted)
	b.move(o.ID, bridge.StateDone)
	b.now = b.now.Add(4 * time.Hour)
	b.wantNothingDue(t)
	b.wantLive(t, "a")
	b.now = second.Add(5*time.Hour - 10*time.Minute)
	b.wantRelease(t, "ws1") // nine hours are over before the product would end it

	b = start()
	for range 3 {
		o = renewal(b)
		b.move(o.ID, bridge.StateRefused)
		b.wantNothingDue(t) // never more than once a minute
		b.now = b.now.Add(time.Minute)
	}
	b.now = b.now.Add(8 * time.Minute)
	b.wantNothingDue(t)
	b.wantLive(t)

	b = start()
	o = renewal(b)
	second = b.now
	b.move(o.ID, bridge.StateSending, func(o *bridge.Order) { o.Intent = bridge.Intent{Target: "g1", Second: second} })
	b.move(o.ID, bridge.StateAccepted)
	b.move(o.ID, bridge.StateFailed) // the host did not do it
	b.now = b.now.Add(10 * time.Minute)
	b.wantNothingDue(t)
	b.wantLive(t)
	if l := b.leases["a"]; l.End != bridge.LeaseProduct {
		t.Errorf("the lease ended %q, want by the product", l.End)
	}

	b = start()
	o = renewal(b)
	b.admit(released("r", "ws1"))
	want(t, b.move(o.ID, bridge.StateSending, at("g1")), bridge.StateCancelled, bridge.ReasonLease)

	b = start()
	o = renewal(b)
	b.setHold(bridge.Hold{Active: true, Reason: "drill", Since: b.now})
	want(t, b.move(o.ID, bridge.StateSending, at("g1")), bridge.StateHeld, bridge.ReasonHold)
	b.now = b.now.Add(time.Hour)
	b.wantNothingDue(t) // it is on its way still
	b.wantLive(t, "a")
	b.move(o.ID, bridge.StateExpired)
	b.wantNothingDue(t)
	b.wantLive(t)
}

func TestRenewalNeedsRoomAtKSC(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{
		Live: bridge.LiveTasks{Hold: 1}, Lease: bridge.LeasePolicy{ProductOff: time.Hour, Reassert: true},
	})
	b.admit(ruled("a", "ws1", -1))
	b.send("a", bridge.StateDone, at("g1"))
	b.admit(ruled("b", "ws2", -1))
	b.send("b", bridge.StateAccepted, at("g2"))
	b.now = b.now.Add(55 * time.Minute)
	for _, id := range b.keep(t) {
		want(t, b.move(id, bridge.StateSending, at("g1")), bridge.StateRefused, bridge.ReasonLiveTasks)
	}
}

func TestPeopleWhoTakeBackTooMuchLatchTheHold(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{UndoMax: 2, UndoPer: time.Hour, UndoAt: "edr-bridge.yaml:7"})
	isolate := func(i int) string {
		host := fmt.Sprint("ws", i)
		o := ruled(fmt.Sprint("i", i), host, time.Hour)
		b.admit(o)
		b.send(o.ID, bridge.StateAccepted, at(fmt.Sprint("g", i)))
		return host
	}
	n := 0
	release := func(host string, change ...func(*bridge.Order)) {
		n++
		o := released(fmt.Sprint("r", n), host)
		for _, c := range change {
			c(&o)
		}
		b.admit(o)
	}
	release(isolate(1))
	b.move("r1", bridge.StateExpired) // the person tries once more: it is one host all the same
	release("WS1")
	release(isolate(2))
	release(isolate(3), func(o *bridge.Order) { o.Actor, o.Rule = "", "all-clear" }) // no person
	byHand := ruled("hand", "ws4", time.Hour)
	byHand.Rule, byHand.Actor = "", "cli:bob"
	b.admit(byHand)
	b.send("hand", bridge.StateAccepted, at("g4"))
	release("ws4") // nothing of a rule
	over := isolate(5)
	b.now = b.now.Add(time.Hour - time.Second)
	over6 := isolate(6)
	b.now = b.now.Add(time.Second)
	release(over) // its time was over anyway
	if b.hold.Active {
		t.Fatalf("latched too early: %s", b.hold.Reason)
	}
	b.now = b.now.Add(-time.Minute)
	b.ledger = b.rebuilt()
	release(over6)
	if !b.hold.Active || b.hold.Actor != bridge.ActorUndo || b.latches != 1 ||
		!strings.Contains(b.hold.Reason, "released 3 hosts") || !strings.Contains(b.hold.Reason, "edr-bridge.yaml:7") {
		t.Fatalf("hold %+v after three hosts, want it latched once", b.hold)
	}
	want(t, b.admit(func() bridge.Order { o := ruled("x", "ws9", 0); o.State = bridge.StateSending; return o }()), bridge.StateHeld, bridge.ReasonHold)
	b.now = b.now.Add(time.Second)
	b.resume()
	for range 2 {
		release(isolate(10 + n))
	}
	if b.hold.Active {
		t.Error("the resume gave no fresh count of what people take back")
	}
	b.ledger = b.rebuilt()
	release(isolate(30))
	if !b.hold.Active || b.latches != 2 {
		t.Error("a third host after the resume latches nothing")
	}
}

func TestLeaseTaskHasAStableID(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	base := bridge.Lease{Order: "o1", Effect: "o1", Host: "ws1", Target: "g1", Executor: bridge.ExecutorKSC, Since: since, Isolated: since}
	id := func(release bool, change func(*bridge.Lease)) string {
		l := base
		change(&l)
		o, err := (bridge.LeaseTask{Lease: l, Release: release}).Order()
		if err != nil {
			t.Fatal(err)
		}
		if bridge.IsRelease(o.Task) != release || o.Mode != bridge.ModeEnforce || o.Rule != "" || o.AlertID != "" {
			t.Errorf("order %+v", o)
		}
		return o.ID
	}
	for _, release := range []bool{true, false} {
		first := id(release, func(*bridge.Lease) {})
		for name, change := range map[string]func(*bridge.Lease){
			"another place of the clock": func(l *bridge.Lease) { l.Since, l.Isolated = since.Local(), since.Local() },
			"another end":                func(l *bridge.Lease) { l.Until = since.Add(time.Hour) },
			"an order on its way":        func(l *bridge.Lease) { l.Renewing = "o9" },
			"a pause":                    func(l *bridge.Lease) { l.Retry = since },
			"a target":                   func(l *bridge.Lease) { l.Target = "" },
		} {
			if got := id(release, change); got != first {
				t.Errorf("with %s the order is %s, want %s as before", name, got, first)
			}
		}
		for name, change := range map[string]func(*bridge.Lease){
			"lease":     func(l *bridge.Lease) { l.Order = "o2" },
			"try":       func(l *bridge.Lease) { l.Tries = 1 },
			"host":      func(l *bridge.Lease) { l.Host = "ws2" },
			"isolation": func(l *bridge.Lease) { l.Isolated = since.Add(time.Second) },
			"life":      func(l *bridge.Lease) { l.Since, l.Isolated = since.Add(time.Nanosecond), time.Time{} },
		} {
			if got := id(release, change); got == first {
				t.Errorf("another %s has the same order: it would never be sent", name)
			}
		}
	}
	if id(true, func(*bridge.Lease) {}) == id(false, func(*bridge.Lease) {}) {
		t.Error("release and renewal are one order")
	}
}

func TestReleaseOfALeaseTakesNoReasonThatCameMeanwhile(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	b.now = b.now.Add(time.Hour)
	due := b.due()
	b.admit(ruled("b", "ws1", time.Hour))
	b.send("b", bridge.StateDone, at("g1"))
	r, err := due[0].Order()
	if err != nil {
		t.Fatal(err)
	}
	r.State, r.Executor = bridge.StateQueued, bridge.ExecutorKSC
	b.admit(r)
	b.wantLive(t, "b")
	want(t, b.move(r.ID, bridge.StateSending, at("g1")), bridge.StateCancelled, bridge.ReasonLease)
	b.wantLive(t, "a", "b")
}

func TestReasonsMoreEndWithTheIsolationUnlessAnotherStands(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	b.admit(ruled("b", "ws1", -1))
	b.move("a", bridge.StateFailed)
	b.wantLive(t)
	b.wantNothingDue(t)
	for _, id := range []string{"a", "b"} {
		if l := b.leases[id]; l.End != bridge.LeaseFailed {
			t.Errorf("lease %s ended %q, want failed", id, l.End)
		}
	}

	b = isolatedBooks(bridge.Policy{})
	b.now = b.now.Add(time.Hour)
	b.admit(ruled("b", "ws1", time.Hour)) // a has lapsed, the host is not released yet
	b.send("b", bridge.StateAccepted, at("g1"))
	want(t, b.admit(ruled("c", "ws1", 3*time.Hour)), bridge.StateDuplicate, bridge.ReasonLease)
	b.move("b", bridge.StateFailed)
	b.wantLive(t, "a", "c")
	b.now = b.now.Add(3 * time.Hour)
	b.wantRelease(t, "ws1")
	b.wantLive(t)
}

func TestReleaseEndsReasonsUnderEveryNameTheyWereGivenBy(t *testing.T) {
	t.Parallel()
	b := isolatedBooks(bridge.Policy{})
	b.now = b.now.Add(time.Hour)
	b.admit(ruled("b", "10.0.0.5", -1))
	b.send("b", bridge.StateAccepted, at("g1"))
	b.wantLive(t, "a", "b")
	b.admit(released("r", "10.0.0.5"))
	b.wantLive(t)
	b.wantNothingDue(t)
}

func TestHostIsReleasedWhenItWasIsolatedAnewAfterTheRelease(t *testing.T) {
	t.Parallel()
	for _, found := range []bridge.State{bridge.StateAccepted, bridge.StateUnknown} {
		for _, first := range []bool{true, false} {
			b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: time.Hour, Reassert: true}})
			b.admit(ruled("a", "ws1", -1))
			b.send("a", bridge.StateDone, at("g1"))
			b.now = b.now.Add(55 * time.Minute)
			renewal := b.keep(t)[0]
			b.move(renewal, bridge.StateSending, at("g1"))
			b.admit(released("r", "g1"))
			b.send("r", bridge.StateSending, at("g1"))
			if first {
				b.move(renewal, found)
			}
			b.move("r", bridge.StateDone)
			if !first {
				b.wantLive(t)
				b.move(renewal, found)
			}
			b.wantRelease(t, map[bool]string{true: "ws1", false: b.orders[renewal].Host}[first])
			b.wantLive(t)
		}
	}
}

func TestFirstIsolationThatFailsLateEndsNothingOnceItWasSentAnew(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: time.Hour, Reassert: true}})
	b.admit(ruled("a", "ws1", 90*time.Minute))
	b.send("a", bridge.StateAccepted, at("g1"))
	b.now = b.now.Add(55 * time.Minute)
	renewal := b.keep(t)[0]
	b.send(renewal, bridge.StateDone, at("g1"))
	b.move("a", bridge.StateFailed)
	b.wantLive(t, "a")
	b.now = b.now.Add(time.Hour - 6*time.Minute)
	b.wantRelease(t, "ws1")
}

func TestReleaseThatKSCTookStaysWithItsLeases(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{})
	b.admit(ruled("a", "ws1", -1))
	b.send("a", bridge.StateDone, at("g1"))
	b.admit(released("r", "ws1"))
	b.send("r", bridge.StateAccepted, at("g1"))
	b.admit(released("again", "ws1"))
	b.send("again", bridge.StateRefused, at("g1"))
	b.wantLive(t)
	b.move("r", bridge.StateFailed) // the host did not do it
	b.wantLive(t, "a")
	b.now = b.now.Add(time.Minute)
	b.wantRelease(t, "ws1")
}

func TestOldIsolationIsNotEndedByTheProductUnderANewerOne(t *testing.T) {
	t.Parallel()
	b := newBooks(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: 2 * time.Hour}})
	b.admit(ruled("a", "ws1", time.Hour))
	b.send("a", bridge.StateDone, at("g1"))
	b.now = b.now.Add(3 * time.Hour)
	r := b.wantRelease(t, "ws1")
	b.move(r.ID, bridge.StateSending, at("g1"))
	b.admit(ruled("b", "g1", time.Hour))
	b.send("b", bridge.StateDone, at("g1"))
	b.admit(released("by-hand", "ws1")) // waits
	b.move(r.ID, bridge.StateFailed)
	b.now = b.now.Add(time.Minute)
	b.wantRelease(t, "ws1")
	if len(b.notes) != 0 {
		t.Errorf("notes %+v: the product has not ended what was sent a minute ago", b.notes)
	}
}
