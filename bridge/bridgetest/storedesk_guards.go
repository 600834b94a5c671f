package bridgetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func twoIsolations() bridge.Policy {
	return bridge.Policy{Limits: []bridge.Limit{{Task: bridge.KindIsolateHost, Max: 2, Per: time.Hour, At: "edr-bridge.yaml:9"}}}
}

func deskLatches(t *testing.T, d *desk) {
	d.open(twoIsolations())
	d.isolate("ws01")
	d.isolate("ws02")
	if d.onHold().Active {
		t.Error("the budget latched before it was used up")
	}
	third := d.expect(d.enter(d.isolation("ws03")), bridge.StateHeld, bridge.ReasonLimit)
	if third.Intent.Body != "" || !third.Intent.Second.IsZero() {
		t.Errorf("a held order keeps the intent %+v", third.Intent)
	}
	hold := d.onHold()
	if !hold.Active || hold.Actor != bridge.ActorGuard || !hold.Since.Equal(d.clock.now()) {
		t.Errorf("hold is %+v, want one the guard latched", hold)
	}
	if notes := d.notes(bridge.NoteHold); len(notes) != 1 || notes[0].Actor != bridge.ActorGuard {
		t.Errorf("notes of the hold: %+v, want one by the guard", notes)
	}
	queued := d.kill("ws04")
	queued.State = bridge.StateQueued
	d.expect(d.turn(d.enter(queued), bridge.StateSending), bridge.StateHeld, bridge.ReasonHold)
	d.expect(d.enter(d.release("ws01")), bridge.StateSending, "")
	d.reopen()
	d.expect(d.enter(d.isolation("ws05")), bridge.StateHeld, bridge.ReasonHold)
}

func deskResumes(t *testing.T, d *desk) {
	d.open(twoIsolations())
	var hosts []bridge.Order
	for _, host := range []string{"ws01", "ws02", "ws03", "ws04", "ws05", "ws06"} {
		hosts = append(hosts, d.enter(d.isolation(host)))
		d.clock.add(time.Second)
	}
	count := func() (n int) {
		for _, o := range hosts {
			if d.standing(o).State == bridge.StateSending {
				n++
			}
		}
		return n
	}
	if n := count(); n != 2 {
		t.Fatalf("%d isolations began, want 2", n)
	}
	for round, want := range []int{4, 6} {
		d.resume()
		d.clock.add(time.Second)
		if round == 0 {
			d.reopen()
		}
		for _, o := range d.takeUp(bridge.ReasonHold, bridge.ReasonLimit) {
			d.expect(o, bridge.StateQueued, "")
			d.turn(o, bridge.StateSending)
		}
		if n := count(); n != want {
			t.Errorf("%d isolations began after resume %d, want %d", n, round+1, want)
		}
	}
	if d.onHold().Active {
		t.Error("on hold although nothing waits")
	}
}

func deskRefusesByHand(t *testing.T, d *desk) {
	d.open(twoIsolations())
	for i, host := range []string{"ws01", "ws02", "ws03"} {
		o := d.isolation(host)
		o.Rule, o.Actor = "", "cli:alice"
		if i < 2 {
			d.expect(d.enter(o), bridge.StateSending, "")
		} else {
			d.expect(d.enter(o), bridge.StateRefused, bridge.ReasonLimit)
		}
	}
	if d.onHold().Active {
		t.Error("an order by hand latched the hold")
	}
	d.clock.add(time.Hour + time.Second)
	d.expect(d.enter(d.isolation("ws04")), bridge.StateSending, "")
}

func deskCountsOnce(t *testing.T, d *desk) {
	d.open(twoIsolations())
	first := d.isolation("ws01")
	for i := range 10 {
		if known := admit(t, d, first)[0].Known; known != (i > 0) {
			t.Errorf("delivery %d is known: %v", i, known)
		}
	}
	second := d.isolation("ws02")
	both := admit(t, d, second, second)
	d.expect(both[0].Order, bridge.StateSending, "")
	if !both[1].Known {
		t.Error("the same order twice in an admission is not known")
	}
	third := d.isolation("ws03")
	d.expect(d.enter(third), bridge.StateHeld, bridge.ReasonLimit)
	d.resume()
	if !admit(t, d, third)[0].Known || d.onHold().Active {
		t.Error("a redelivery of a held order was judged once more")
	}
}

func deskGivesBack(t *testing.T, d *desk) {
	d.open(twoIsolations())
	d.enter(d.isolation("ws01"))
	for range 5 {
		o := d.expect(d.enter(d.isolation("ws02")), bridge.StateSending, "")
		d.turn(o, bridge.StateFailed)
	}
	o := d.enter(d.isolation("ws02"))
	for range 5 {
		o = d.turn(o, bridge.StateQueued)
		d.reopen()
		o = d.expect(d.turn(o, bridge.StateSending), bridge.StateSending, "")
	}
	d.expect(d.enter(d.isolation("ws03")), bridge.StateHeld, bridge.ReasonLimit)
}

func deskHolds(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	if err := d.SetHold(t.Context(), bridge.Hold{Active: true, Reason: "stop", Actor: "cli:alice"}); err != nil {
		t.Fatal(err)
	}
	d.expect(d.enter(d.kill("ws01")), bridge.StateHeld, bridge.ReasonHold)
	d.expect(d.enter(d.isolation("ws01")), bridge.StateHeld, bridge.ReasonHold)
	queued := d.kill("ws01")
	queued.State = bridge.StateQueued
	d.expect(d.turn(d.enter(queued), bridge.StateSending), bridge.StateHeld, bridge.ReasonHold)
	d.expect(d.enter(d.release("ws01")), bridge.StateSending, "")
	d.resume()
	d.expect(d.enter(d.kill("ws01")), bridge.StateSending, "")
}

func deskCountsLiveTasks(t *testing.T, d *desk) {
	d.open(bridge.Policy{Live: bridge.LiveTasks{Hold: 3, Keep: 1, At: "edr-bridge.yaml:12"}})
	var live []bridge.Order
	for range 3 {
		live = append(live, d.turn(d.expect(d.enter(d.kill("ws01")), bridge.StateSending, ""), bridge.StateAccepted))
	}
	d.expect(d.enter(d.kill("ws01")), bridge.StateHeld, bridge.ReasonLiveTasks)
	local := d.kill("ws01")
	local.Executor, local.Intent = bridge.ExecutorLocal, bridge.Intent{}
	d.expect(d.enter(local), bridge.StateSending, "")
	d.expect(d.enter(d.isolation("ws02")), bridge.StateSending, "")
	d.expect(d.enter(d.isolation("ws03")), bridge.StateHeld, bridge.ReasonLiveTasks)
	d.reopen()
	d.expect(d.enter(d.kill("ws01")), bridge.StateHeld, bridge.ReasonLiveTasks)
	d.turn(live[0], bridge.StateDone)
	d.turn(live[1], bridge.StateRunning)
	d.expect(d.enter(d.kill("ws01")), bridge.StateHeld, bridge.ReasonLiveTasks)
	d.turn(live[2], bridge.StateFailed)
	d.expect(d.enter(d.kill("ws01")), bridge.StateSending, "")
}

func deskTakesUpRoom(t *testing.T, d *desk) {
	d.open(bridge.Policy{Live: bridge.LiveTasks{Hold: 3}})
	var live, want []bridge.Order
	for i := range 10 {
		o := d.enter(d.kill("ws01"))
		if i < 3 {
			live = append(live, o)
		} else {
			want = append(want, d.expect(o, bridge.StateHeld, bridge.ReasonLiveTasks))
		}
	}
	if got := d.takeUp(bridge.ReasonLiveTasks); len(got) != 0 {
		t.Errorf("%d orders were taken up without room", len(got))
	}
	for _, o := range live[:2] {
		d.turn(d.turn(o, bridge.StateAccepted), bridge.StateDone)
	}
	taken := d.takeUp(bridge.ReasonLiveTasks)
	if diff := cmp.Diff(idsOf(want[:2]), idsOf(taken)); diff != "" {
		t.Fatalf("taken up (-want +got):\n%s", diff)
	}
	if got := d.takeUp(bridge.ReasonLiveTasks); len(got) != 0 {
		t.Errorf("%d orders were taken up into room that others have been promised", len(got))
	}
	for _, o := range taken {
		d.expect(d.turn(o, bridge.StateSending), bridge.StateSending, "")
	}
}

func deskTakesUpHeld(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	hold := func(reason bridge.Reason) bridge.Order {
		o := d.kill("ws01")
		o.State, o.Reason = bridge.StateHeld, reason
		return d.enter(o)
	}
	want := []bridge.Order{hold(bridge.ReasonHold), hold(bridge.ReasonLimit)}
	stays := hold(bridge.ReasonApproval)
	gone := hold(bridge.ReasonHold)
	all := d.held()
	d.turn(gone, bridge.StateCancelled)
	if err := d.SetHold(t.Context(), bridge.Hold{Active: true, Actor: "cli:alice"}); err != nil {
		t.Fatal(err)
	}
	if got, err := d.TakeUp(t.Context(), all); err != nil || len(got) != 0 {
		t.Errorf("under a hold %d orders were taken up, %v", len(got), err)
	}
	d.resume()
	got, err := d.TakeUp(t.Context(), all)
	if diff := cmp.Diff(idsOf(want), idsOf(got)); diff != "" || err != nil {
		t.Errorf("taken up: %v (-want +got):\n%s", err, diff)
	}
	for _, o := range got {
		d.expect(d.standing(o), bridge.StateQueued, "")
	}
	d.expect(d.standing(stays), bridge.StateHeld, bridge.ReasonApproval)
	d.expect(d.standing(gone), bridge.StateCancelled, bridge.ReasonHold)
	pending, _, err := d.Pending(t.Context(), time.Time{}, bridge.Page{})
	if diff := cmp.Diff(idsOf(want), idsOf(pending)); diff != "" || err != nil {
		t.Errorf("pending: %v (-want +got):\n%s", err, diff)
	}
}

func deskTakesUpNoReleased(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	// The isolation was begun, so the release found nothing that waited; the hold then parked it.
	begun := d.enter(d.isolation("ws01"))
	d.enter(d.release("WS01"))
	begun.Reason = bridge.ReasonHold
	begun = d.turn(begun, bridge.StateHeld)
	later := d.isolation("ws01")
	later.State, later.Reason = bridge.StateHeld, bridge.ReasonHold
	later = d.enter(later)
	if got := idsOf(d.takeUp(bridge.ReasonHold)); len(got) != 1 || got[0] != later.ID {
		t.Errorf("taken up: %v, want %s alone", got, later.ID)
	}
	d.expect(d.standing(begun), bridge.StateCancelled, "")
}

func deskDamps(t *testing.T, d *desk) {
	d.open(bridge.Policy{FlapMax: 3, FlapWithin: 10 * time.Minute, AskEvery: time.Hour})
	d.isolate("ws01")
	d.turn(d.turn(d.enter(d.release("ws01")), bridge.StateAccepted), bridge.StateDone)
	d.clock.add(time.Minute)
	d.isolate("ws01")
	d.turn(d.turn(d.enter(d.release("ws01")), bridge.StateAccepted), bridge.StateDone)
	d.reopen()
	out := admit(t, d, d.isolation("ws01"))[0]
	d.expect(out.Order, bridge.StateHeld, bridge.ReasonDamping)
	if !out.Asked {
		t.Error("nobody is asked about a host that goes back and forth")
	}
	d.isolate("ws02")
	d.clock.add(10 * time.Minute)
	d.isolate("ws01")
}

func deskCountsStrikes(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	strike := func() bridge.Order {
		o := d.kill("ws01")
		o.Strike, o.StrikeCount, o.StrikeWithin = "rule/ws01", 3, time.Minute
		return o
	}
	first := strike()
	for i := range 5 {
		if known := admit(t, d, first)[0].Known; known != (i > 0) {
			t.Errorf("delivery %d is known: %v", i, known)
		}
	}
	d.expect(d.standing(first), bridge.StateRefused, bridge.ReasonThreshold)
	d.expect(d.enter(strike()), bridge.StateRefused, bridge.ReasonThreshold)
	d.reopen()
	d.expect(d.enter(strike()), bridge.StateSending, "")
	d.clock.add(time.Minute)
	d.expect(d.enter(strike()), bridge.StateRefused, bridge.ReasonThreshold)
}

func deskCoversByLease(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	keyed := func() bridge.Order {
		o := d.isolation("ws01")
		o.Rule, o.Dedupe, o.Window = "other rule", "other/ws01", time.Hour
		return o
	}
	effect := d.turn(d.enter(d.isolation("ws01")), bridge.StateAccepted)
	reason := d.expect(d.enter(keyed()), bridge.StateDuplicate, bridge.ReasonLease)
	again := d.expect(d.enter(keyed()), bridge.StateDuplicate, bridge.ReasonLease)
	if reason.Covers != effect.ID || again.Covers != effect.ID || len(d.leases()) != 3 {
		t.Errorf("alerts of another rule are covered by %q and %q with %d leases, want %s and 3", reason.Covers, again.Covers, len(d.leases()), effect.ID)
	}
	d.turn(effect, bridge.StateFailed)
	d.expect(d.enter(keyed()), bridge.StateSending, "")
}
