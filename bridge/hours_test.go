package bridge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// atWork are hours as a settings file gives them: isolateHost on weekdays from 8 to 18, getFile over midnight on Fridays.
func atWork() []bridge.Hours {
	return []bridge.Hours{
		{
			Task: bridge.KindIsolateHost, Days: []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday},
			From: 8 * time.Hour, To: 18 * time.Hour, Zone: time.UTC, At: "edr-bridge.yaml:40",
		},
		{Task: bridge.KindIsolateHost, Days: []time.Weekday{time.Saturday}, From: 9 * time.Hour, To: 10 * time.Hour, Zone: time.UTC, At: "edr-bridge.yaml:44"},
		{Task: bridge.KindGetFile, Days: []time.Weekday{time.Friday}, From: 22 * time.Hour, To: 4 * time.Hour, Zone: time.UTC, At: "edr-bridge.yaml:48"},
	}
}

func TestHoursKeepRulesFromActingWhenNobodyIsThere(t *testing.T) {
	t.Parallel()
	file := bridge.GetFile{Path: `C:\x`}
	for name, tc := range map[string]struct {
		at    string
		task  bridge.Task
		hours []bridge.Hours
		want  bridge.State
		place string
	}{
		"Friday noon":                      {"2026-11-20T12:00:00Z", nil, atWork(), bridge.StateQueued, ""},
		"the first moment":                 {"2026-11-20T08:00:00Z", nil, atWork(), bridge.StateQueued, ""},
		"the moment before":                {"2026-11-20T07:59:59.9Z", nil, atWork(), bridge.StateHeld, "edr-bridge.yaml:40"},
		"the last moment":                  {"2026-11-20T17:59:59.9Z", nil, atWork(), bridge.StateQueued, ""},
		"the moment after":                 {"2026-11-20T18:00:00Z", nil, atWork(), bridge.StateHeld, "edr-bridge.yaml:40"},
		"Sunday":                           {"2026-11-22T12:00:00Z", nil, atWork(), bridge.StateHeld, "edr-bridge.yaml:40"},
		"Saturday, by the second entry":    {"2026-11-21T09:30:00Z", nil, atWork(), bridge.StateQueued, ""},
		"a task nobody named":              {"2026-11-22T03:00:00Z", bridge.IOCScan{}, atWork(), bridge.StateQueued, ""},
		"no hours at all":                  {"2026-11-22T03:00:00Z", nil, nil, bridge.StateQueued, ""},
		"over midnight, before":            {"2026-11-20T23:00:00Z", file, atWork(), bridge.StateQueued, ""},
		"over midnight, after":             {"2026-11-21T03:59:59Z", file, atWork(), bridge.StateQueued, ""},
		"over midnight, too late":          {"2026-11-21T04:00:00Z", file, atWork(), bridge.StateHeld, "edr-bridge.yaml:48"},
		"the night before the day":         {"2026-11-20T03:00:00Z", file, atWork(), bridge.StateHeld, "edr-bridge.yaml:48"},
		"every task, every day":            {"2026-11-22T12:00:00Z", file, []bridge.Hours{{All: true, From: 0, To: 24 * time.Hour, Zone: time.UTC}}, bridge.StateQueued, ""},
		"every task, not now":              {"2026-11-22T12:00:00Z", file, []bridge.Hours{{All: true, From: 0, To: 12 * time.Hour, Zone: time.UTC}}, bridge.StateHeld, ""},
		"one of two entries is enough":     {"2026-11-22T12:00:00Z", file, append(atWork(), bridge.Hours{All: true, To: 24 * time.Hour, Zone: time.UTC}), bridge.StateQueued, ""},
		"the clock of another zone counts": {"2026-11-20T12:00:00Z", nil, []bridge.Hours{{All: true, From: 20 * time.Hour, To: 22 * time.Hour, Zone: time.FixedZone("JST", 9*3600)}}, bridge.StateQueued, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, err := time.Parse(time.RFC3339, tc.at)
			if err != nil {
				t.Fatal(err)
			}
			g := newGuard(t, bridge.GuardConfig{
				Ceiling: bridge.ModeEnforce, Hours: tc.hours, Now: func() time.Time { return now },
			}, bridge.ProtectConfig{})
			o := bridge.Order{
				ID: "o", AlertID: "a", Rule: "r", Host: "WS-1", Mode: bridge.ModeEnforce, Task: bridge.IsolateHost{Action: bridge.IsolationOn}, AlertTime: now,
			}
			if tc.task != nil {
				o.Task = tc.task
			}
			got := g.Begin(o)
			if _, scan := o.Task.(bridge.IOCScan); !scan { // an empty one is not valid, and Begin does not ask again
				if admitted := g.Admit(o); admitted != got {
					t.Errorf("admission says %+v, begin %+v", admitted, got)
				}
			}
			if got.State != tc.want || !strings.Contains(got.Detail, tc.place) || (got.State == bridge.StateHeld) != (got.Reason == bridge.ReasonHours) {
				t.Errorf("got %+v, want %s at %q", got, tc.want, tc.place)
			}
			hand := o
			hand.Rule, hand.AlertID = "", ""
			if got := g.Begin(hand); got.State != bridge.StateQueued {
				t.Errorf("by hand: got %+v, want queued at any hour", got)
			}
			if o.Approval.By = "cli:alice"; true {
				if o.Approval.Digest, err = o.Digest(); err != nil {
					t.Fatal(err)
				}
			}
			if got := g.Begin(o); got.State != bridge.StateQueued {
				t.Errorf("approved: got %+v, want queued at any hour", got)
			}
		})
	}
}
