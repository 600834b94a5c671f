package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// crowdedDesk lists orders as a store does: newest first, as many as the filter allows.
type crowdedDesk struct {
	bridge.Desk
	orders []bridge.Order
}

// Orders implements bridge.Desk.
func (d crowdedDesk) Orders(_ context.Context, f bridge.OrderFilter) ([]bridge.Order, error) {
	var out []bridge.Order
	for _, o := range d.orders {
		if (f.State == "" || o.State == f.State) && (f.Reason == "" || o.Reason == f.Reason) && len(out) < f.Limit {
			out = append(out, o)
		}
	}
	return out, nil
}

func TestOrdersThatWaitForTheHoldDoNotHideThoseThatWaitForAPerson(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	var d crowdedDesk
	for i := range listAll + 10 { // newest first
		d.orders = append(d.orders, bridge.Order{
			ID: fmt.Sprint("h", i), State: bridge.StateHeld, Reason: bridge.ReasonHold, Created: start.Add(-time.Duration(i) * time.Second),
		})
	}
	old := start.Add(-24 * time.Hour)
	for i, reason := range []bridge.Reason{bridge.ReasonHours, bridge.ReasonApproval, bridge.ReasonDamping} {
		d.orders = append(d.orders, bridge.Order{
			ID: "p" + string(reason), State: bridge.StateHeld, Reason: reason, Created: old.Add(-time.Duration(i) * time.Second),
		})
	}
	held, err := approvable(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range held {
		got = append(got, o.ID)
	}
	if want := "phours papproval pdamping"; strings.Join(got, " ") != want {
		t.Errorf("orders %v, want %s", got, want)
	}
}

func TestOrderWhoseTaskCannotBeReadIsShownAndCannotBeApproved(t *testing.T) {
	t.Parallel()
	o := bridge.Order{ID: "o1", State: bridge.StateHeld, Reason: bridge.ReasonApproval, Host: "ws-014", Detail: "unreadable"}
	view, err := viewApproval(o)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeApproval(&out, view, bridge.TaskInfo{}, nil); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "ws-014") || strings.Contains(text, "digest") {
		t.Errorf("shown as:\n%s", text)
	}
	a := &app{std: stdio{in: strings.NewReader("y\n"), err: &out}}
	if _, err := a.askApproval(o); problemOf(t.Context(), err).exit != exitRefused {
		t.Errorf("approving it gives %v, want a refusal", err)
	}
}

func TestApprovalShowsWhatItIsGoodFor(t *testing.T) {
	t.Parallel()
	o := bridge.Order{
		ID: "o1", State: bridge.StateHeld, Reason: bridge.ReasonApproval, Host: "ws-014", For: -1,
		Task:    bridge.IsolateHost{Action: bridge.IsolationOn},
		Subject: bridge.Process{PID: 4711, Path: "/usr/bin/sleep"},
	}
	view, err := viewApproval(o)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeApproval(&out, view, bridge.Describe(o.Task.Kind()), nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"o1", "isolateHost", `{"action":1}`, "ws-014", "4711", "/usr/bin/sleep", "permanent", view.Digest} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not shown:\n%s", want, out.String())
		}
	}
}
