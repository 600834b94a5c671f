package bridgetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func storeSpreadsIntents(t *testing.T, s bridge.Store) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	second := func(id, target, body string, at time.Time) time.Duration {
		t.Helper()
		o := withIntent(NewOrder(t, id, "ws01"), target, body, at)
		got := admit(t, s, o)[0].Order.Intent.Second
		if back := stored(t, s, o).Intent.Second; !back.Equal(got) {
			t.Errorf("%s: second read back is %v, was answered as %v", id, back, got)
		}
		return got.Sub(at.Truncate(time.Second))
	}
	for i, want := range []time.Duration{0, 5 * time.Second, 10 * time.Second, 15 * time.Second} {
		if got := second(fmt.Sprint("a", i), "h", "body", at); got != want {
			t.Errorf("equal intent %d was moved by %v, want %v", i, got, want)
		}
	}
	if got := second("b", "h", "other body", at); got != 0 {
		t.Errorf("another body was moved by %v", got)
	}
	if got := second("c", "h2", "body", at); got != 0 {
		t.Errorf("another target was moved by %v", got)
	}
	if got := second("d", "h", "body", at.Add(time.Hour)); got != 0 {
		t.Errorf("a free second was moved by %v", got)
	}
	if got := second("e", "h", "body", at.Add(-time.Hour)); got != 0 {
		t.Errorf("a free second before was moved by %v", got)
	}
	if got := second("f", "h", "third", at.Add(700*time.Millisecond)); got != 0 {
		t.Errorf("a part of a second was not cut off: moved by %v", got)
	}
	many := make([]bridge.Order, 50)
	for i := range many {
		many[i] = withIntent(NewOrder(t, fmt.Sprint("m", i), "ws01"), "h", "many", at)
	}
	for i, ad := range admit(t, s, many...) {
		if want := at.Add(time.Duration(i) * 5 * time.Second); !ad.Order.Intent.Second.Equal(want) {
			t.Fatalf("equal intent %d of one admission has second %v, want %v", i, ad.Order.Intent.Second, want)
		}
	}
}

func storeSpreadsMovedIntents(t *testing.T, s bridge.Store) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	admit(t, s, withIntent(NewOrder(t, "a1", "ws01"), "h", "body", at))
	o := admit(t, s, NewOrder(t, "a2", "ws01"))[0].Order
	o.Intent = bridge.Intent{Target: "h", Names: []string{"ws01"}, Second: at, Body: "body"}
	o = move(t, s, o, bridge.StateSending)
	if want := at.Add(5 * time.Second); !o.Intent.Second.Equal(want) {
		t.Errorf("second of the move is %v, want %v", o.Intent.Second, want)
	}
	if diff := cmp.Diff(o, stored(t, s, o)); diff != "" {
		t.Errorf("order read back differs from the answer (-answer +stored):\n%s", diff)
	}
	again := move(t, s, o, bridge.StateAccepted)
	if !again.Intent.Second.Equal(o.Intent.Second) {
		t.Errorf("an intent that did not change was moved from %v to %v", o.Intent.Second, again.Intent.Second)
	}
}

func storeSpendsNoSecondOnRedelivery(t *testing.T, s bridge.Store) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	o := withIntent(NewOrder(t, "a1", "ws01"), "h", "body", at)
	for range 10 {
		if got := admit(t, s, o)[0].Order.Intent.Second; !got.Equal(at) {
			t.Fatalf("second of a known order is %v, want %v", got, at)
		}
	}
	next := admit(t, s, withIntent(NewOrder(t, "a2", "ws01"), "h", "body", at))[0].Order.Intent.Second
	if want := at.Add(5 * time.Second); !next.Equal(want) {
		t.Errorf("second after ten redeliveries is %v, want %v", next, want)
	}
}
