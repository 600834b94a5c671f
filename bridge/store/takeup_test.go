package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestTakeUpCommitsInParts(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	var orders []bridge.Order
	for i := range 3*takeUpChunk + 1 {
		o := numbered(t, i)
		o.State, o.Reason = bridge.StateHeld, bridge.ReasonHold
		orders = append(orders, o)
	}
	held := admitTest(t, s, orders...)
	got, err := s.TakeUp(t.Context(), held)
	if diff := cmp.Diff(ids(held), ids(got)); diff != "" || err != nil {
		t.Errorf("taken up: %v (-want +got):\n%s", err, diff)
	}
	if again, err := s.TakeUp(t.Context(), held); err != nil || len(again) != 0 {
		t.Errorf("%d orders were taken up twice, %v", len(again), err)
	}
}

func TestOrdersOfTheDeskBelongToTheRunningBridge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run, send := openTest(t, Config{Dir: dir}), openTest(t, Config{Dir: dir, Owner: OwnerSend})
	o := numbered(t, 1)
	o.State, o.Reason = bridge.StateHeld, bridge.ReasonApproval
	o = admitTest(t, send, o)[0]
	digest, err := o.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := send.Decide(t.Context(), bridge.Decision{Order: o.ID, Approve: true, Digest: digest, Actor: "cli:alice", Why: "seen"}); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[*Store][]string{run: {o.ID}, send: {}} {
		got, _, err := s.Pending(t.Context(), time.Time{}, Page{})
		if diff := cmp.Diff(want, ids(got)); diff != "" || err != nil {
			t.Errorf("pending for %s: %v (-want +got):\n%s", s.cfg.Owner, err, diff)
		}
	}
}

func TestApprovedOrdersGetTheTimeOfTheConfig(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openTest(t, Config{Now: c.now, NotAfter: func(o bridge.Order, from time.Time) time.Time {
		return from.Add(time.Duration(len(o.Host)) * time.Minute)
	}})
	o := numbered(t, 1)
	o.State, o.Reason, o.NotAfter = bridge.StateHeld, bridge.ReasonDamping, c.now().Add(time.Second)
	o = admitTest(t, s, o)[0]
	digest, err := o.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c.add(10 * time.Minute)
	got, err := s.Decide(t.Context(), bridge.Decision{Order: o.ID, Approve: true, Digest: digest, Actor: "cli:alice", Why: "seen"})
	if want := c.now().Add(3 * time.Minute); err != nil || !got.NotAfter.Equal(want) {
		t.Errorf("an approved order may begin until %v, %v, want %v", got.NotAfter, err, want)
	}
}

func TestFiguresCountWhatIsUnfinished(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	held := func(i int, reason bridge.Reason) bridge.Order {
		o := numbered(t, i)
		o.State, o.Reason = bridge.StateHeld, reason
		return o
	}
	admitTest(t, s, held(1, bridge.ReasonHold), held(2, bridge.ReasonHold), held(3, bridge.ReasonApproval), numbered(t, 4))
	moveTest(t, s, admitTest(t, s, isolate("ws1", 1))[0], bridge.StateAccepted)
	admitTest(t, s, isolate("ws1", 2))
	local := isolate("ws2", 3)
	local.Executor = bridge.ExecutorLocal
	moveTest(t, s, admitTest(t, s, local)[0], bridge.StateDone)
	moveTest(t, s, admitTest(t, s, isolate("ws3", 4))[0], bridge.StateFailed)
	for i := range 3 {
		if err := s.Bury(t.Context(), bridge.DeadLetter{Source: "bus", Document: fmt.Append(nil, i%2), Error: "bad"}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Figures(t.Context())
	want := Figures{
		States:    map[bridge.State]int64{bridge.StateHeld: 3, bridge.StateQueued: 1, bridge.StateAccepted: 1},
		Held:      map[bridge.Reason]int64{bridge.ReasonHold: 2, bridge.ReasonApproval: 1},
		LiveTasks: 1, Leases: 3, Letters: 2,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("figures: %v (-want +got):\n%s", err, diff)
	}
}

func TestOrdersAreListedByReason(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	o := numbered(t, 1)
	o.State, o.Reason = bridge.StateHeld, bridge.ReasonApproval
	other := numbered(t, 2)
	other.State, other.Reason = bridge.StateHeld, bridge.ReasonHold
	admitTest(t, s, o, other)
	got, err := s.Orders(t.Context(), Filter{State: bridge.StateHeld, Reason: bridge.ReasonApproval})
	if diff := cmp.Diff([]string{o.ID}, ids(got)); diff != "" || err != nil {
		t.Errorf("orders held for approval: %v (-want +got):\n%s", err, diff)
	}
}

func TestLettersPageEndsBeforeItGetsHeavy(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	for i := range 3 {
		if err := s.Bury(t.Context(), bridge.DeadLetter{Source: "bus", Entry: fmt.Sprint(i), Document: make([]byte, maxLetterPage-1), Error: "bad"}); err != nil {
			t.Fatal(err)
		}
	}
	var pages []int
	for page := (bridge.Page{}); ; {
		letters, next, err := s.Letters(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		if len(letters) == 0 {
			break
		}
		pages, page = append(pages, len(letters)), next
	}
	if diff := cmp.Diff([]int{2, 1}, pages); diff != "" {
		t.Errorf("letters of each page (-want +got):\n%s", diff)
	}
	if err := s.Bury(t.Context(), bridge.DeadLetter{Document: make([]byte, maxStored+1), Error: "bad"}); err == nil {
		t.Error("a document over the bound was taken")
	}
	if err := s.Bury(t.Context(), bridge.DeadLetter{Document: []byte("x")}); err == nil {
		t.Error("a letter that does not tell what is wrong was taken")
	}
}
