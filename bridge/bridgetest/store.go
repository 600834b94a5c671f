package bridgetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// TestStore runs the contract of bridge.Store against fresh, empty stores. The store's clock must not stand more than an
// hour away from the real one; open registers its own clean-up.
func TestStore(t *testing.T, open func(t *testing.T) bridge.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, bridge.Store){
		"an admission is answered in the order of its orders":       storeAnswersInOrder,
		"an order admitted again is known and unchanged":            storeKnowsRedelivery,
		"an order is stored with all its fields":                    storeKeepsAllFields,
		"a live window makes a duplicate that names what covers it": storeFindsDuplicates,
		"refused, shadow and duplicate orders open no window":       storeOpensNoWindowForNothing,
		"an order that came to nothing covers no other":             storeForgetsFailedCover,
		"a window ends": storeEndsWindow,
		"equal intents are kept five seconds apart":                    storeSpreadsIntents,
		"an intent given by a move is kept apart too":                  storeSpreadsMovedIntents,
		"a known order takes no second":                                storeSpendsNoSecondOnRedelivery,
		"a move from another state is stale and changes nothing":       storeRefusesStaleMove,
		"of many equal moves one wins":                                 storeLetsOneMoveWin,
		"of many orders with one key one is queued":                    storeAdmitsOneOfMany,
		"an admission is committed whole or not at all":                storeAdmitsWhole,
		"a context that has ended changes nothing":                     storeHeedsContext,
		"notes are taken":                                              storeTakesNotes,
		"an admission without orders is taken":                         storeTakesAlertsAlone,
		"hostile text comes back byte for byte":                        storeKeepsHostileText,
		"a refused order without a task is stored":                     storeKeepsOrderWithoutTask,
		"a move of an order nobody admitted is an error but not stale": storeRefusesUnknownMove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// NewOrder returns a queued order of an alert, as a rule would ask for it.
func NewOrder(t testing.TB, alertID, host string) bridge.Order {
	t.Helper()
	task := bridge.TerminateProcess{Path: `C:\Users\Public\a.exe`}
	id, err := bridge.NewOrderID("bus", alertID, "rule", task, host)
	if err != nil {
		t.Fatal(err)
	}
	return bridge.Order{
		ID: id, AlertID: alertID, Source: "bus", Rule: "rule", Host: host, Task: task, Mode: bridge.ModeEnforce, State: bridge.StateQueued,
	}
}

func admit(t *testing.T, s bridge.Store, orders ...bridge.Order) []bridge.Admitted {
	t.Helper()
	out, err := s.Admit(t.Context(), bridge.Admission{Orders: orders})
	if err != nil {
		t.Fatalf("admit: %v", err)
	}
	if len(out) != len(orders) {
		t.Fatalf("admit answered %d orders, want %d", len(out), len(orders))
	}
	return out
}

func move(t *testing.T, s bridge.Store, o bridge.Order, to bridge.State) bridge.Order {
	t.Helper()
	from := o.State
	o.State = to
	moved, err := s.Move(t.Context(), o, from)
	if err != nil {
		t.Fatalf("move from %s to %s: %v", from, to, err)
	}
	return moved
}

// stored reads an order back by admitting it again.
func stored(t *testing.T, s bridge.Store, o bridge.Order) bridge.Order {
	t.Helper()
	ad := admit(t, s, o)[0]
	if !ad.Known {
		t.Fatalf("order %s is not in the store", o.ID)
	}
	return ad.Order
}

func wantState(t *testing.T, o bridge.Order, state bridge.State, covers string) {
	t.Helper()
	if o.State != state || o.Covers != covers {
		t.Errorf("order is %s (reason %q, covered by %q), want %s covered by %q", o.State, o.Reason, o.Covers, state, covers)
	}
	if state == bridge.StateDuplicate && o.Reason != bridge.ReasonDedupe {
		t.Errorf("duplicate has reason %q, want %q", o.Reason, bridge.ReasonDedupe)
	}
}

func withKey(o bridge.Order, key string, window time.Duration) bridge.Order {
	o.Dedupe, o.Window = key, window
	return o
}

func withState(o bridge.Order, s bridge.State) bridge.Order {
	o.State = s
	return o
}

func withIntent(o bridge.Order, target, body string, second time.Time) bridge.Order {
	o.State, o.Intent = bridge.StateSending, bridge.Intent{Target: target, Body: body, Second: second}
	return o
}

func storeAnswersInOrder(t *testing.T, s bridge.Store) {
	var orders []bridge.Order
	for i := range 20 {
		orders = append(orders, NewOrder(t, fmt.Sprint("a", i), "ws01"))
	}
	for i, ad := range admit(t, s, orders...) {
		if ad.Known || ad.Order.ID != orders[i].ID {
			t.Errorf("answer %d is about %s (known %v), want %s", i, ad.Order.ID, ad.Known, orders[i].ID)
		}
	}
}

func storeKnowsRedelivery(t *testing.T, s bridge.Store) {
	o := NewOrder(t, "a1", "ws01")
	first := admit(t, s, o)[0]
	if first.Known {
		t.Error("a new order is known")
	}
	moved := move(t, s, first.Order, bridge.StateSending)
	again := admit(t, s, o, o)
	for i, ad := range again {
		if !ad.Known {
			t.Errorf("answer %d: order admitted again is not known", i)
		}
		if diff := cmp.Diff(moved, ad.Order, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("answer %d is not the order as stored (-want +got):\n%s", i, diff)
		}
	}
	twice := NewOrder(t, "a2", "ws01")
	if got := admit(t, s, twice, twice); got[0].Known || !got[1].Known {
		t.Errorf("known = %v, %v for one order twice in an admission, want false, true", got[0].Known, got[1].Known)
	}
}

func storeKeepsAllFields(t *testing.T, s bridge.Store) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.UTC)
	want := bridge.Order{
		ID: "o000000000000000000000001", AlertID: "a1", Source: "bus", Rule: "rule", At: "rules.d/a.yaml:7", Actor: "cli:admin", Host: "ws01",
		Subject: bridge.Process{
			PID: 4242, Start: 1 << 63, Started: at.Truncate(time.Second), Name: "a.exe", Path: `C:\a.exe`, MD5: "d0", SHA256: "e1",
			CommandLine: `a.exe "x" & y`, ParentName: "w.exe", ParentPath: `C:\w.exe`, Tree: true,
		},
		Task: bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Path: `C:\Users`, Recursive: true, Type: bridge.ScanFolder}}},
		Mode: bridge.ModeEnforce, Via: bridge.ViaKSC, For: 4 * time.Hour, Dedupe: "host=ws01", Window: time.Hour,
		AlertTime: at, Created: at.Add(time.Second), NotAfter: at.Add(time.Minute),
		State: bridge.StateSending, Reason: bridge.ReasonHold, Detail: "why & <how>", Covers: "o2", Executor: "ksc",
		Intent: bridge.Intent{
			Target: "0f1e", Names: []string{"ws01.corp.local", "WS01", "10.0.0.1"}, Second: at.Truncate(time.Second), Body: `{"task":"x"}`,
		},
		Attempts: 3, Ref: "4711", Approval: bridge.Approval{By: "cli:alice", Why: "seen <it>", At: at, Digest: "d1"},
	}
	got := admit(t, s, want)[0].Order
	want.Updated, want.Due = got.Updated, got.Due
	if got.Updated.IsZero() || got.Due.IsZero() {
		t.Error("Updated or Due is not filled in")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer differs from what was admitted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, stored(t, s, want)); diff != "" {
		t.Errorf("order read back differs from what was admitted (-want +got):\n%s", diff)
	}
	want.State, want.Reason, want.Detail, want.Covers, want.Executor = bridge.StateAccepted, "", "taken", "", "local"
	want.Attempts, want.Ref, want.NotAfter = 4, "4712", at.Add(time.Hour)
	want.Subject.PID = 4243
	want.Intent.Names = nil
	moved, err := s.Move(t.Context(), want, bridge.StateSending)
	if err != nil {
		t.Fatal(err)
	}
	if !moved.Due.After(got.Updated) {
		t.Errorf("Due of a moved order is %v, not after it moved", moved.Due)
	}
	want.Updated, want.Due = moved.Updated, moved.Due
	if diff := cmp.Diff(want, moved); diff != "" {
		t.Errorf("answer differs from what was moved (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, stored(t, s, want)); diff != "" {
		t.Errorf("order read back differs from what was moved (-want +got):\n%s", diff)
	}
}

func storeRefusesStaleMove(t *testing.T, s bridge.Store) {
	o := admit(t, s, NewOrder(t, "a1", "ws01"))[0].Order
	moved := move(t, s, o, bridge.StateSending)
	o.State, o.Detail = bridge.StateFailed, "must not be stored"
	if _, err := s.Move(t.Context(), o, bridge.StateQueued); !errors.Is(err, bridge.ErrStale) {
		t.Errorf("move from a state the order has left: %v, want ErrStale", err)
	}
	if diff := cmp.Diff(moved, stored(t, s, o)); diff != "" {
		t.Errorf("a stale move changed the order (-want +got):\n%s", diff)
	}
}

func storeLetsOneMoveWin(t *testing.T, s bridge.Store) {
	o := admit(t, s, NewOrder(t, "a1", "ws01"))[0].Order
	var won, stale int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			o := withState(o, bridge.StateSending)
			_, err := s.Move(t.Context(), o, bridge.StateQueued)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, bridge.ErrStale):
				stale++
			default:
				t.Errorf("move: %v", err)
			}
		})
	}
	wg.Wait()
	if won != 1 || stale != 31 {
		t.Errorf("%d moves won and %d were stale, want 1 and 31", won, stale)
	}
}

func storeAdmitsWhole(t *testing.T, s bridge.Store) {
	good, bad := NewOrder(t, "a1", "ws01"), NewOrder(t, "a2", "ws01")
	bad.State = "no such state"
	if _, err := s.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{good, bad}}); err == nil {
		t.Fatal("an order in an unknown state was admitted")
	}
	if admit(t, s, good)[0].Known {
		t.Error("half of a failed admission is in the store")
	}
}

func storeHeedsContext(t *testing.T, s bridge.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := NewOrder(t, "a1", "ws01")
	_, err := s.Admit(ctx, bridge.Admission{Orders: []bridge.Order{o}})
	if known := admit(t, s, o)[0].Known; known != (err == nil) {
		t.Errorf("admit with an ended context answered %v, but the order is in the store: %v", err, known)
	}
}

func storeTakesNotes(t *testing.T, s bridge.Store) {
	for _, what := range []string{
		bridge.NoteStart, bridge.NoteStop, bridge.NoteLoss, bridge.NoteGap, bridge.NoteDeadLetter, bridge.NoteHold, bridge.NoteResume,
	} {
		if err := s.Note(t.Context(), bridge.Note{What: what, Source: "bus", Actor: "cli:admin", Count: 3, Detail: "why"}); err != nil {
			t.Errorf("note %s: %v", what, err)
		}
	}
}

func storeTakesAlertsAlone(t *testing.T, s bridge.Store) {
	out, err := s.Admit(t.Context(), bridge.Admission{Alerts: []bridge.Alert{{ID: "a1", Source: "bus", Received: time.Now(), Raw: []byte(`{}`)}}})
	if err != nil || len(out) != 0 {
		t.Errorf("admission without orders answered %v, %v", out, err)
	}
}

func storeKeepsHostileText(t *testing.T, s bridge.Store) {
	hostile := "'; DROP TABLE orders;--\x00\x1b[31m\u202e\"\\\n%s${x}<&>日本"
	o := NewOrder(t, "a1", "ws01")
	o.AlertID, o.Host, o.Detail, o.Rule, o.Ref, o.Dedupe, o.Window = hostile, hostile, hostile, hostile, hostile, hostile, time.Hour
	o.Task, o.Subject.CommandLine = bridge.GetFile{Path: strings.ReplaceAll(hostile, "\x00", "")}, hostile
	o.State, o.Approval = bridge.StateSending, bridge.Approval{By: "alice", Why: strings.ReplaceAll(hostile, "\x00", "")}
	o.Intent = bridge.Intent{Target: hostile, Names: []string{hostile, ""}, Body: hostile + "\xff", Second: time.Unix(1, 0).UTC()}
	admit(t, s, o)
	got := stored(t, s, o)
	o.Created, o.Updated, o.Due = got.Created, got.Updated, got.Due
	if diff := cmp.Diff(o, got); diff != "" {
		t.Errorf("order read back differs (-want +got):\n%s", diff)
	}
}

func storeKeepsOrderWithoutTask(t *testing.T, s bridge.Store) {
	o := NewOrder(t, "a1", "ws01")
	o.Task, o.State, o.Reason = nil, bridge.StateRefused, bridge.ReasonInvalid
	admit(t, s, o)
	if got := stored(t, s, o); got.Task != nil || got.State != bridge.StateRefused || got.Reason != bridge.ReasonInvalid {
		t.Errorf("order without a task came back as %+v", got)
	}
}

func storeRefusesUnknownMove(t *testing.T, s bridge.Store) {
	o := NewOrder(t, "a1", "ws01")
	if _, err := s.Move(t.Context(), withState(o, bridge.StateSending), bridge.StateQueued); err == nil || errors.Is(err, bridge.ErrStale) {
		t.Errorf("move of an unknown order: %v, want another error than ErrStale", err)
	}
	if admit(t, s, o)[0].Known {
		t.Error("a move brought an order into the store")
	}
}
