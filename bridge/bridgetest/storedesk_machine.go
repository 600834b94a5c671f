package bridgetest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// bring returns an order of the store that stands in the state.
func (d *desk) bring(s bridge.State) bridge.Order {
	d.t.Helper()
	o := d.kill("ws01")
	o.State = s
	switch s {
	case bridge.StateAccepted, bridge.StateRunning:
		o.State = bridge.StateSending
		o = d.turn(d.enter(o), bridge.StateAccepted)
		if s == bridge.StateRunning {
			o = d.turn(o, s)
		}
		return o
	default:
		return d.enter(o)
	}
}

func deskKeepsTheMachine(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	for _, from := range bridge.States() {
		for _, to := range bridge.States() {
			o := d.bring(from)
			o.State, o.Detail = to, "moved"
			_, err := d.Move(t.Context(), o, from)
			if lawful := from == to || bridge.EventOf(from, to) != ""; lawful != (err == nil) {
				t.Errorf("from %s to %s: %v, want it to be lawful: %v", from, to, err, lawful)
			}
			if err != nil && (!strings.Contains(err.Error(), string(from)) || !strings.Contains(err.Error(), string(to))) {
				t.Errorf("from %s to %s: %q does not name both states", from, to, err)
			}
			if got := d.standing(o); err != nil && (got.State != from || got.Detail == "moved") {
				t.Errorf("from %s to %s was refused and left the order %s with %q", from, to, got.State, got.Detail)
			}
		}
	}
}

func deskFillsDue(t *testing.T, d *desk) {
	d.open(bridge.Policy{Deadlines: bridge.Deadlines{Approval: 2 * time.Hour, Follow: 20 * time.Hour}})
	for _, state := range bridge.States() {
		o := d.bring(state)
		want := time.Time{}
		switch state {
		case bridge.StateHeld, bridge.StateQueued:
			want = o.NotAfter
		case bridge.StateSending:
			want = d.clock.now().Add(30 * time.Minute)
		case bridge.StateAccepted, bridge.StateRunning:
			want = d.clock.now().Add(20 * time.Hour)
		default:
		}
		if got := d.standing(o); !got.Due.Equal(want) || !o.Due.Equal(want) {
			t.Errorf("%s is due at %v, stored %v, want %v", state, o.Due, got.Due, want)
		}
	}
	o := d.kill("ws01")
	o.State, o.Reason = bridge.StateHeld, bridge.ReasonApproval
	if got, want := d.enter(o).Due, d.clock.now().Add(2*time.Hour); !got.Equal(want) {
		t.Errorf("an order held for a person is due at %v, want %v", got, want)
	}
	o = d.bring(bridge.StateAccepted)
	d.clock.add(time.Hour)
	due := o.Due
	o.Detail = "seen again"
	if got := d.turn(o, bridge.StateAccepted).Due; !got.Equal(due) {
		t.Errorf("a change of words moved the deadline from %v to %v", due, got)
	}
}

func deskListsOverdue(t *testing.T, d *desk) {
	d.open(bridge.Policy{Deadlines: bridge.Deadlines{Follow: time.Hour}})
	var want []string
	for range 3 {
		for _, state := range bridge.States() {
			o := d.bring(state)
			switch state {
			case bridge.StateHeld, bridge.StateQueued, bridge.StateAccepted, bridge.StateRunning:
				want = append(want, o.ID)
			default:
			}
		}
	}
	list := func() (ids []string) {
		t.Helper()
		for page := (bridge.Page{Limit: 2}); ; {
			orders, next, err := d.Overdue(t.Context(), page)
			if err != nil {
				t.Fatal(err)
			}
			if len(orders) == 0 {
				return ids
			}
			ids, page = append(ids, idsOf(orders)...), next
		}
	}
	d.clock.add(time.Hour - time.Nanosecond)
	if got := list(); len(got) != 0 {
		t.Errorf("before their time %d orders are overdue", len(got))
	}
	d.clock.add(time.Nanosecond)
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Errorf("overdue orders (-want +got):\n%s", diff)
	}
	never := d.kill("ws02")
	never.State, never.NotAfter = bridge.StateQueued, time.Time{}
	d.enter(never)
	d.clock.add(time.Hour * 24 * 365)
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Errorf("overdue orders beside one without a deadline (-want +got):\n%s", diff)
	}
}

func deskListsAccepted(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	var want, got []string
	for range 2 {
		for _, state := range bridge.States() {
			o := d.bring(state)
			if state == bridge.StateAccepted || state == bridge.StateRunning {
				want = append(want, o.ID)
			}
		}
	}
	for page := (bridge.Page{Limit: 1}); ; {
		orders, next, err := d.Accepted(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		if len(orders) == 0 {
			break
		}
		got, page = append(got, idsOf(orders)...), next
		d.turn(orders[0], bridge.StateDone)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("accepted orders (-want +got):\n%s", diff)
	}
}

func deskDropsIntents(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	first := d.kill("ws01")
	for _, state := range []bridge.State{bridge.StateHeld, bridge.StateQueued, bridge.StateRefused, bridge.StateDuplicate, bridge.StateShadow} {
		o := d.kill("ws01")
		o.State, o.Intent = state, first.Intent
		got := d.enter(o).Intent
		want := bridge.Intent{Target: first.Intent.Target, Names: first.Intent.Names}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("intent of a %s order (-want +got):\n%s", state, diff)
		}
	}
	sent := d.enter(first)
	if !sent.Intent.Second.Equal(first.Intent.Second) || sent.Intent.Body != first.Intent.Body {
		t.Errorf("intent is %+v, want %+v: nobody else has it", sent.Intent, first.Intent)
	}
	parked := d.turn(sent, bridge.StateQueued)
	again := d.kill("ws01")
	again.Intent = first.Intent
	if got := d.enter(again).Intent.Second; !got.Equal(first.Intent.Second) {
		t.Errorf("second is %v, want %v, which a queued order gave up", got, first.Intent.Second)
	}
	parked.Intent = first.Intent
	back := d.turn(parked, bridge.StateSending)
	if want := first.Intent.Second.Add(5 * time.Second); !back.Intent.Second.Equal(want) || back.Intent.Body != first.Intent.Body {
		t.Errorf("intent of the order sent again is %+v, want second %v", back.Intent, want)
	}
	if done := d.turn(back, bridge.StateAccepted); !done.Intent.Second.Equal(back.Intent.Second) {
		t.Errorf("an accepted order has second %v, want %v", done.Intent.Second, back.Intent.Second)
	}
}
