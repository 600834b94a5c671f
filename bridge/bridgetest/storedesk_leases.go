package bridgetest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// isolate carries an isolation out.
func (d *desk) isolate(host string) bridge.Order {
	d.t.Helper()
	return d.turn(d.turn(d.expect(d.enter(d.isolation(host)), bridge.StateSending, ""), bridge.StateAccepted), bridge.StateDone)
}

func deskKeepsLeases(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	o := d.isolate("ws01")
	want := []bridge.Lease{{
		Order: o.ID, Effect: o.ID, Host: "ws01", Target: "id-ws01", Executor: bridge.ExecutorKSC, Rule: "rule",
		Since: d.clock.now(), Until: d.clock.now().Add(4 * time.Hour), Isolated: d.clock.now(),
	}}
	if diff := cmp.Diff(want, d.leases()); diff != "" {
		t.Fatalf("leases (-want +got):\n%s", diff)
	}
	d.clock.add(4*time.Hour - time.Second)
	if due := d.due(); len(due) != 0 {
		t.Errorf("a second before its end %d leases are due", len(due))
	}
	d.clock.add(time.Second)
	due := d.due()
	if len(due) != 1 || !due[0].Release || due[0].Lease.Order != o.ID {
		t.Fatalf("due leases: %+v, want the release of %s", due, o.ID)
	}
	release, err := due[0].Order()
	if err != nil {
		t.Fatal(err)
	}
	release.State, release.Executor = bridge.StateSending, bridge.ExecutorKSC
	release = d.expect(d.enter(release), bridge.StateSending, "")
	if n := len(d.due()) + len(d.leases()); n != 0 {
		t.Errorf("while the release is on its way %d leases hold or are due", n)
	}
	d.turn(release, bridge.StateAccepted)
	if n := len(d.due()) + len(d.leases()); n != 0 {
		t.Errorf("after the release %d leases hold or are due", n)
	}
}

func deskJoinsLeases(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	first := d.isolate("ws01")
	d.clock.add(time.Hour)
	again := d.isolation("WS01")
	again.Intent.Target = ""
	second := d.expect(d.enter(again), bridge.StateDuplicate, bridge.ReasonLease)
	if second.Covers != first.ID {
		t.Errorf("the second isolation is covered by %q, want %s", second.Covers, first.ID)
	}
	byTarget := d.isolation("other-name")
	byTarget.Intent.Target = first.Intent.Target
	d.expect(d.enter(byTarget), bridge.StateDuplicate, bridge.ReasonLease)
	queued := d.isolation("ws01")
	queued.State = bridge.StateQueued
	d.expect(d.enter(queued), bridge.StateDuplicate, bridge.ReasonLease)
	if n := len(d.leases()); n != 4 {
		t.Errorf("%d leases, want 4", n)
	}
	d.clock.add(3 * time.Hour)
	if due := d.due(); len(due) != 0 {
		t.Errorf("the first reason lapsed and %d leases are due, want none: others hold", len(due))
	}
	d.clock.add(time.Hour)
	if due := d.due(); len(due) != 1 || !due[0].Release {
		t.Errorf("the last reasons lapsed and %d leases are due, want one release of the host", len(due))
	}
}

func deskReopensLeases(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	o := d.isolate("ws01")
	d.enter(d.isolation("ws01"))
	forever := d.isolation("ws02")
	forever.For = -1
	d.enter(forever)
	freed := d.isolate("ws03")
	release := d.enter(d.release("ws03"))
	before := d.leases()
	if len(before) != 3 {
		t.Fatalf("%d leases, want 3", len(before))
	}
	d.reopen()
	if diff := cmp.Diff(before, d.leases()); diff != "" {
		t.Errorf("leases after reopening (-want +got):\n%s", diff)
	}
	d.expect(d.enter(d.isolation("ws01")), bridge.StateDuplicate, bridge.ReasonLease)
	d.clock.add(24 * time.Hour)
	due := d.due()
	if len(due) != 1 || due[0].Lease.Order != o.ID {
		t.Errorf("due after reopening: %+v, want %s alone", due, o.ID)
	}
	// A release that was on its way keeps its leases open: they come back with it.
	d.turn(release, bridge.StateFailed)
	var back []string
	for _, l := range d.leases() {
		back = append(back, l.Order)
	}
	if !strings.Contains(strings.Join(back, " "), freed.ID) {
		t.Errorf("leases after the release failed are of %v, want %s among them", back, freed.ID)
	}
}

func deskEndsFailedLease(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	o := d.turn(d.enter(d.isolation("ws01")), bridge.StateAccepted)
	d.expect(d.enter(d.isolation("ws01")), bridge.StateDuplicate, bridge.ReasonLease)
	d.turn(o, bridge.StateFailed)
	if n := len(d.leases()); n != 0 {
		t.Errorf("%d leases rest on an isolation that failed", n)
	}
	d.reopen()
	d.expect(d.enter(d.isolation("ws01")), bridge.StateSending, "")
}

func deskReturnsLease(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	d.isolate("ws01")
	release := d.enter(d.release("ws01"))
	if n := len(d.leases()); n != 0 {
		t.Errorf("%d leases hold beside a release", n)
	}
	d.reopen()
	d.turn(release, bridge.StateUnknown)
	if n := len(d.leases()); n != 1 {
		t.Fatalf("%d leases after the release was lost, want 1", n)
	}
	d.clock.add(time.Hour)
	if due := d.due(); len(due) != 1 || !due[0].Release {
		t.Errorf("due: %+v, want the release once more", due)
	}
}

func deskCancelsWaiting(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	with := func(host, target string, state bridge.State, reason bridge.Reason) bridge.Order {
		o := d.isolation(host)
		o.State, o.Reason, o.Intent.Target = state, reason, target
		return d.expect(d.enter(o), state, reason)
	}
	held := with("WS01.corp", "", bridge.StateHeld, bridge.ReasonApproval)
	queued := with("ws01.CORP", "", bridge.StateQueued, "")
	byTarget := with("10.0.0.1", "id-ws01.corp", bridge.StateHeld, bridge.ReasonHold)
	other := with("ws02.corp", "id-ws02.corp", bridge.StateQueued, "")
	task := d.kill("ws01.corp")
	task.State = bridge.StateQueued
	task = d.enter(task)
	release := d.enter(d.release("ws01.corp"))
	later := with("ws01.corp", "", bridge.StateHeld, bridge.ReasonApproval)
	for _, o := range []bridge.Order{held, queued, byTarget} {
		got := d.expect(d.standing(o), bridge.StateCancelled, "")
		if want := "released meanwhile by " + release.ID; got.Detail != want {
			t.Errorf("detail of %s is %q, want %q", o.ID, got.Detail, want)
		}
		trail, err := d.Audit(t.Context(), bridge.AuditFilter{Order: o.ID})
		if err != nil || len(trail) != 2 || trail[1].From != o.State || trail[1].To != bridge.StateCancelled {
			t.Errorf("audit of %s: %+v, %v, want its cancellation", o.ID, trail, err)
		}
	}
	d.expect(d.standing(other), bridge.StateQueued, "")
	d.expect(d.standing(task), bridge.StateQueued, "")
	d.expect(d.standing(later), bridge.StateHeld, bridge.ReasonApproval)
	// Sent again, the release takes nothing that is newer than it.
	d.turn(d.turn(release, bridge.StateQueued), bridge.StateSending)
	d.expect(d.standing(later), bridge.StateHeld, bridge.ReasonApproval)
}

func deskSparesOtherReasons(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	d.isolate("ws01")
	waits := d.isolation("ws01")
	waits.State, waits.Reason = bridge.StateHeld, bridge.ReasonApproval
	waits = d.enter(waits)
	d.clock.add(5 * time.Hour)
	release, err := d.due()[0].Order()
	if err != nil {
		t.Fatal(err)
	}
	release.State, release.Executor = bridge.StateSending, bridge.ExecutorKSC
	d.expect(d.enter(release), bridge.StateSending, "")
	d.expect(d.standing(waits), bridge.StateHeld, bridge.ReasonApproval)
}

func deskRecordsProductEnd(t *testing.T, d *desk) {
	d.open(bridge.Policy{Lease: bridge.LeasePolicy{ProductOff: 3 * time.Hour}})
	o := d.isolate("ws01")
	d.clock.add(3 * time.Hour)
	if due := d.due(); len(due) != 0 {
		t.Errorf("%d leases are due, want none: there is nothing to release", len(due))
	}
	if n := len(d.leases()); n != 0 {
		t.Errorf("%d leases hold after the product ended the isolation", n)
	}
	notes := d.notes(bridge.NoteLapsed)
	if len(notes) != 1 || !strings.Contains(notes[0].Detail, o.ID) {
		t.Errorf("notes %+v, want one that names %s", notes, o.ID)
	}
	d.reopen()
	if diff := cmp.Diff([]bridge.Lease{}, d.leases(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("leases after reopening (-want +got):\n%s", diff)
	}
	d.expect(d.enter(d.isolation("ws01")), bridge.StateSending, "")
}
