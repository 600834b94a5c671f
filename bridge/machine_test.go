package bridge_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// inState returns an order that stands in a state, held ones for the reason.
func inState(s bridge.State, r bridge.Reason, notAfter time.Time) bridge.Order {
	return bridge.Order{ID: "o1", Task: bridge.TerminateProcess{Path: "/x"}, State: s, Reason: r, NotAfter: notAfter}
}

func TestEveryStateIsReachedAndTheRowsAreDistinct(t *testing.T) {
	t.Parallel()
	reached := map[bridge.State]bool{}
	for _, s := range bridge.States() {
		// An order is admitted in any state but these.
		reached[s] = s != bridge.StateAccepted && s != bridge.StateRunning
	}
	rows := map[string]bool{}
	for range bridge.Transitions() {
		for _, row := range bridge.Transitions() {
			reached[row.To] = reached[row.To] || reached[row.From]
		}
	}
	for _, row := range bridge.Transitions() {
		for _, key := range []string{fmt.Sprint(row), fmt.Sprint(row.From, "+", row.Event)} {
			if rows[key] {
				t.Errorf("row %v repeats %s", row, key)
			}
			rows[key] = true
		}
		if row.From.End() {
			t.Errorf("row %v leads out of an end", row)
		}
		if row.From == row.To {
			t.Errorf("row %v leads nowhere", row)
		}
	}
	for _, s := range bridge.States() {
		if !reached[s] {
			t.Errorf("nothing leads to %s", s)
		}
	}
}

func TestEndsAreTheStatesNothingLeadsOutOf(t *testing.T) {
	t.Parallel()
	leads := map[bridge.State]bool{}
	for _, row := range bridge.Transitions() {
		leads[row.From] = true
	}
	for _, s := range bridge.States() {
		if s.End() == leads[s] {
			t.Errorf("%s: End() = %v, and rows lead out of it: %v", s, s.End(), leads[s])
		}
	}
}

func TestEveryPairOfStatesHasItsEventOrNone(t *testing.T) {
	t.Parallel()
	want := map[string]bridge.Event{}
	for _, row := range bridge.Transitions() {
		key := fmt.Sprint(row.From, ">", row.To)
		if _, two := want[key]; !two {
			want[key] = row.Event
		}
	}
	for _, from := range append(bridge.States(), "", "nonsense") {
		for _, to := range append(bridge.States(), "", "nonsense") {
			if got := bridge.EventOf(from, to); got != want[fmt.Sprint(from, ">", to)] {
				t.Errorf("from %q to %q: event %q, want %q", from, to, got, want[fmt.Sprint(from, ">", to)])
			}
		}
	}
}

func TestNoOrderStaysForEver(t *testing.T) {
	t.Parallel()
	entered := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	notAfter := entered.Add(7 * time.Minute)
	for name, tc := range map[string]struct {
		state  bridge.State
		reason bridge.Reason
		d      bridge.Deadlines
		want   time.Duration // after entering
	}{
		"waits for a person":             {bridge.StateHeld, bridge.ReasonApproval, bridge.Deadlines{}, time.Hour},
		"waits for a person, damped":     {bridge.StateHeld, bridge.ReasonDamping, bridge.Deadlines{}, time.Hour},
		"waits for a person, at night":   {bridge.StateHeld, bridge.ReasonHours, bridge.Deadlines{Approval: time.Minute}, time.Minute},
		"waits for the end of a hold":    {bridge.StateHeld, bridge.ReasonHold, bridge.Deadlines{}, 7 * time.Minute},
		"waits for a resume":             {bridge.StateHeld, bridge.ReasonLimit, bridge.Deadlines{}, 7 * time.Minute},
		"waits for room":                 {bridge.StateHeld, bridge.ReasonLiveTasks, bridge.Deadlines{}, 7 * time.Minute},
		"queued":                         {bridge.StateQueued, "", bridge.Deadlines{}, 7 * time.Minute},
		"sending":                        {bridge.StateSending, "", bridge.Deadlines{}, 30 * time.Minute},
		"sending, set":                   {bridge.StateSending, "", bridge.Deadlines{GiveUp: time.Hour}, time.Hour},
		"accepted":                       {bridge.StateAccepted, "", bridge.Deadlines{}, 24 * time.Hour},
		"running":                        {bridge.StateRunning, "", bridge.Deadlines{Follow: time.Hour}, time.Hour},
		"a negative setting is no value": {bridge.StateSending, "", bridge.Deadlines{GiveUp: -1}, 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tc.d.Due(inState(tc.state, tc.reason, notAfter), entered); !got.Equal(entered.Add(tc.want)) {
				t.Errorf("due after %s, want %s", got.Sub(entered), tc.want)
			}
		})
	}
	for _, s := range bridge.States() {
		if got := (bridge.Deadlines{}).Due(inState(s, "", notAfter), entered); got.IsZero() != s.End() {
			t.Errorf("%s is due at %s, and it is an end: %v", s, got, s.End())
		}
	}
}

func TestOverdueOrdersEndAsTheirStateDemands(t *testing.T) {
	t.Parallel()
	notAfter := time.Date(2026, 11, 20, 12, 7, 0, 0, time.FixedZone("", 3600))
	for name, tc := range map[string]struct {
		state, want bridge.State
		held, why   bridge.Reason
		text        string
	}{
		"nobody approved":  {bridge.StateHeld, bridge.StateRefused, bridge.ReasonApproval, bridge.ReasonApproval, "nobody"},
		"nobody looked":    {bridge.StateHeld, bridge.StateRefused, bridge.ReasonDamping, bridge.ReasonApproval, "nobody"},
		"at night":         {bridge.StateHeld, bridge.StateRefused, bridge.ReasonHours, bridge.ReasonApproval, "nobody"},
		"on hold":          {bridge.StateHeld, bridge.StateExpired, bridge.ReasonHold, bridge.ReasonAge, "2026-11-20T11:07:00Z"},
		"over its budget":  {bridge.StateHeld, bridge.StateExpired, bridge.ReasonLimit, bridge.ReasonAge, "not begun"},
		"no room":          {bridge.StateHeld, bridge.StateExpired, bridge.ReasonLiveTasks, bridge.ReasonAge, "not begun"},
		"queued":           {bridge.StateQueued, bridge.StateExpired, "", bridge.ReasonAge, "2026-11-20T11:07:00Z"},
		"sending":          {bridge.StateSending, bridge.StateUnknown, "", bridge.ReasonDeadline, "nobody found out"},
		"accepted":         {bridge.StateAccepted, bridge.StateUnknown, "", bridge.ReasonDeadline, "KSC accepted"},
		"running":          {bridge.StateRunning, bridge.StateUnknown, "", bridge.ReasonDeadline, "KSC accepted"},
		"done stays done":  {bridge.StateDone, bridge.StateDone, "", "", ""},
		"failed stays so":  {bridge.StateFailed, bridge.StateFailed, bridge.ReasonInvalid, bridge.ReasonInvalid, ""},
		"unknown stays so": {bridge.StateUnknown, bridge.StateUnknown, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := bridge.Overdue(inState(tc.state, tc.held, notAfter))
			if v.State != tc.want || v.Reason != tc.why || !strings.Contains(v.Detail, tc.text) {
				t.Errorf("overdue: %+v, want %s %s with %q", v, tc.want, tc.why, tc.text)
			}
			if tc.state != tc.want && bridge.EventOf(tc.state, v.State) == "" {
				t.Errorf("no row leads from %s to %s", tc.state, v.State)
			}
		})
	}
}

func TestOnlyLostAndUndecidedEndsAlarm(t *testing.T) {
	t.Parallel()
	nothing := map[bridge.State]bool{
		bridge.StateRefused: true, bridge.StateFailed: true, bridge.StateExpired: true, bridge.StateCancelled: true, bridge.StateShadow: true,
	}
	for _, s := range bridge.States() {
		if got, want := s.Alarm(), s == bridge.StateExpired || s == bridge.StateUnknown; got != want {
			t.Errorf("%s alarms: %v, want %v", s, got, want)
		}
		if got := s.CameToNothing(); got != nothing[s] {
			t.Errorf("%s came to nothing: %v, want %v", s, got, nothing[s])
		}
	}
}
