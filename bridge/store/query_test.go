package store

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestOrderIsFoundByUniquePrefix(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	for _, id := range []string{"oab1", "oab12", "oac1", "oé"} {
		o := numbered(t, 1)
		o.ID = id
		admitTest(t, s, o)
	}
	for _, tc := range []struct {
		id, want string
		err      error
	}{
		{"oab1", "oab1", nil},
		{"oab12", "oab12", nil},
		{"oac", "oac1", nil},
		{"o\xc3", "oé", nil},
		{"oab", "", ErrAmbiguous},
		{"o", "", ErrAmbiguous},
		{"", "", ErrNotFound},
		{"x", "", ErrNotFound},
		{"oab123", "", ErrNotFound},
		{"oab%", "", ErrNotFound},
	} {
		got, err := s.Order(t.Context(), tc.id)
		if got.ID != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("order %q: %q, %v, want %q, %v", tc.id, got.ID, err, tc.want, tc.err)
		}
	}
}

func TestOrdersAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openTest(t, Config{Now: c.now})
	var all []bridge.Order
	for i := range 12 {
		o := numbered(t, i) // hosts ws0, ws1, ws2 in turn
		o.Rule = fmt.Sprint("rule", i%2)
		if i%4 == 3 {
			o.Task, o.State = bridge.IsolateHost{Action: bridge.IsolationOn}, bridge.StateHeld
		}
		all = append(all, admitTest(t, s, o)...)
		c.add(time.Minute)
	}
	slices.Reverse(all)
	pick := func(keep func(o bridge.Order) bool) []string {
		out := []string{}
		for _, o := range all {
			if keep(o) {
				out = append(out, o.ID)
			}
		}
		return out
	}
	start := newClock().at
	for name, tc := range map[string]struct {
		filter Filter
		want   []string
	}{
		"all":              {Filter{}, ids(all)},
		"limit":            {Filter{Limit: 3}, ids(all[:3])},
		"before":           {Filter{Limit: 3, Before: all[2].ID}, ids(all[3:6])},
		"state":            {Filter{State: bridge.StateHeld}, pick(func(o bridge.Order) bool { return o.State == bridge.StateHeld })},
		"host":             {Filter{Host: "ws1"}, pick(func(o bridge.Order) bool { return o.Host == "ws1" })},
		"rule":             {Filter{Rule: "rule1"}, pick(func(o bridge.Order) bool { return o.Rule == "rule1" })},
		"task":             {Filter{Task: bridge.KindIsolateHost}, pick(func(o bridge.Order) bool { return o.State == bridge.StateHeld })},
		"alert":            {Filter{Source: "bus", AlertID: "a7"}, pick(func(o bridge.Order) bool { return o.AlertID == "a7" })},
		"since":            {Filter{Since: start.Add(9 * time.Minute)}, ids(all[:3])},
		"since before all": {Filter{Since: start.Add(-time.Hour)}, ids(all)},
		"since after all":  {Filter{Since: start.Add(time.Hour)}, []string{}},
		"state and host": {
			Filter{State: bridge.StateHeld, Host: "ws0", Since: start.Add(time.Minute)},
			pick(func(o bridge.Order) bool { return o.State == bridge.StateHeld && o.Host == "ws0" }),
		},
		"nothing": {Filter{Host: "' OR 1=1 --"}, []string{}},
	} {
		got, err := s.Orders(t.Context(), tc.filter)
		if diff := cmp.Diff(tc.want, ids(got)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	counts, err := s.Counts(t.Context())
	if diff := cmp.Diff(map[bridge.State]int64{bridge.StateHeld: 3, bridge.StateQueued: 9}, counts); diff != "" || err != nil {
		t.Errorf("counts: %v (-want +got):\n%s", err, diff)
	}
}

func TestPendingLeavesOthersTheirFreshOrders(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	run := openTest(t, Config{Dir: dir, Now: c.now})
	send := openTest(t, Config{Dir: dir, Now: c.now, Owner: OwnerSend})
	mine := admitTest(t, run, numbered(t, 1))[0]
	foreign := admitTest(t, send, numbered(t, 2))[0]
	sending := moveTest(t, run, admitTest(t, run, numbered(t, 3))[0], bridge.StateSending)
	moveTest(t, run, admitTest(t, run, numbered(t, 4))[0], bridge.StateFailed)
	held := numbered(t, 5)
	held.State, held.Reason = bridge.StateHeld, bridge.ReasonHold
	approval := numbered(t, 6)
	approval.State, approval.Reason = bridge.StateHeld, bridge.ReasonApproval
	admitTest(t, run, held, approval)
	pending := func(s *Store) []string {
		t.Helper()
		got, _, err := s.Pending(t.Context(), c.now().Add(-time.Minute), Page{})
		if err != nil {
			t.Fatal(err)
		}
		return ids(got)
	}
	if diff := cmp.Diff([]string{mine.ID, sending.ID}, pending(run)); diff != "" {
		t.Errorf("pending for run (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{foreign.ID}, pending(send)); diff != "" {
		t.Errorf("pending for send (-want +got):\n%s", diff)
	}
	c.add(time.Minute)
	if diff := cmp.Diff([]string{mine.ID, foreign.ID, sending.ID}, pending(run)); diff != "" {
		t.Errorf("pending for run after a minute (-want +got):\n%s", diff)
	}
	moveTest(t, run, foreign, bridge.StateSending)
	if diff := cmp.Diff([]string{mine.ID, sending.ID}, pending(send)); diff != "" {
		t.Errorf("pending for send after the other took its order over (-want +got):\n%s", diff)
	}
	for _, tc := range []struct {
		reasons []bridge.Reason
		want    []string
	}{
		{[]bridge.Reason{bridge.ReasonHold}, []string{held.ID}},
		{[]bridge.Reason{bridge.ReasonApproval, bridge.ReasonAge}, []string{approval.ID}},
		{[]bridge.Reason{bridge.ReasonHold, bridge.ReasonApproval}, []string{held.ID, approval.ID}},
		{nil, []string{held.ID, approval.ID}},
		{[]bridge.Reason{bridge.ReasonAge}, []string{}},
	} {
		got, _, err := run.Held(t.Context(), tc.reasons, Page{})
		if diff := cmp.Diff(tc.want, ids(got)); diff != "" || err != nil {
			t.Errorf("held for %q: %v (-want +got):\n%s", tc.reasons, err, diff)
		}
	}
}

func TestPendingIsWalkedInPagesWhileOrdersMove(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	var want, got []string
	for i := range 95 {
		o := admitTest(t, s, numbered(t, i))[0]
		if i%2 == 1 {
			moveTest(t, s, o, bridge.StateSending)
		}
		want = append(want, o.ID)
	}
	page := Page{Limit: 10}
	for {
		orders, next, err := s.Pending(t.Context(), time.Time{}, page)
		if err != nil {
			t.Fatal(err)
		}
		if len(orders) == 0 {
			break
		}
		if len(orders) > 10 {
			t.Fatalf("a page of %d orders, want at most 10", len(orders))
		}
		for _, o := range orders {
			got = append(got, o.ID)
			moveTest(t, s, o, map[bridge.State]bridge.State{bridge.StateQueued: bridge.StateFailed, bridge.StateSending: bridge.StateAccepted}[o.State])
		}
		page = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("orders of all pages (-want +got):\n%s", diff)
	}
}

func TestUnreadableOrderDoesNotHideTheOthers(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	bad, good := admitTest(t, s, numbered(t, 1))[0], admitTest(t, s, numbered(t, 2))[0]
	err := s.do(t.Context(), func(tx *tx) error {
		_, err := tx.run(`UPDATE orders SET params = '{"path":1}', subject = '{', intent_names = '7' WHERE id = ?`, bad.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := s.Pending(t.Context(), time.Now(), Page{})
	if diff := cmp.Diff([]string{bad.ID, good.ID}, ids(got)); diff != "" || err != nil {
		t.Fatalf("pending: %v (-want +got):\n%s", err, diff)
	}
	if got[0].Task != nil || got[0].Detail == "" {
		t.Errorf("unreadable order has task %v, detail %q, want none and words", got[0].Task, got[0].Detail)
	}
	moveTest(t, s, got[0], bridge.StateFailed)
}

func TestAlertOfAnOrderIsKept(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	at := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	doc := []byte(`{"two":"alerts"}`)
	var a bridge.Admission
	for i := range 3 {
		o := numbered(t, i)
		a.Orders = append(a.Orders, o)
		a.Alerts = append(a.Alerts, bridge.Alert{ID: o.AlertID, Source: o.Source, Preset: "p", Tenant: "t", Case: "c-" + o.AlertID, Received: at, Raw: doc})
	}
	a.Alerts[2].Raw = []byte("other\x00")
	for range 2 { // the second time all of it is known
		if _, err := s.Admit(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for i, o := range a.Orders {
		got, err := s.AlertOf(t.Context(), o.ID)
		if diff := cmp.Diff(a.Alerts[i], got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
			t.Errorf("alert of order %d: %v (-want +got):\n%s", i, err, diff)
		}
	}
	got, err := s.Alerts(t.Context(), at, 0)
	if err != nil || len(got) != 3 || got[0].ID != a.Alerts[2].ID {
		t.Errorf("alerts: %d of them, %v, want 3, newest first", len(got), err)
	}
	if _, err := s.AlertOf(t.Context(), "o"); !errors.Is(err, ErrNotFound) {
		t.Errorf("alert of an unknown order: %v, want ErrNotFound", err)
	}
	var copies int64
	err = s.read(t.Context(), func(c *conn) error {
		row, err := c.first(t.Context(), "SELECT count(raw) FROM alerts")
		copies = asInt(row[0])
		return err
	})
	if copies != 2 || err != nil {
		t.Errorf("the store holds %d documents, %v, want 2", copies, err)
	}
}
