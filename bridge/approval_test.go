package bridge_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// waiting returns an order that waits for a person, with what the person is shown.
func waiting(t *testing.T) (bridge.Order, string) {
	t.Helper()
	o := bridge.Order{
		ID: "o1", Actor: "cli:alice (INC-1)", Host: "ws1", Task: bridge.StartProcess{ExecutablePath: `C:\x.exe`}, State: bridge.StateHeld,
		Reason: bridge.ReasonApproval, Due: decisionTime().Add(time.Hour), For: time.Minute, Subject: bridge.Process{PID: 4, Start: 5, Path: `C:\p.exe`},
	}
	digest, err := o.Digest()
	if err != nil || len(digest) != 64 {
		t.Fatalf("digest %q, %v; want 64 hex digits", digest, err)
	}
	return o, digest
}

func decisionTime() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

func TestDecisionsAreTakenOnlyAboutWhatWasShown(t *testing.T) {
	t.Parallel()
	decided := decisionTime()
	yes, no := bridge.Decision{Approve: true, Actor: "cli:bob", Why: "ok"}, bridge.Decision{Actor: "cli:bob", Why: "no"}
	alice := bridge.Decision{Approve: true, Actor: "socket:alice", Why: "ok"}
	held := func(r bridge.Reason) func(*bridge.Order) {
		return func(o *bridge.Order) { o.Reason, o.Detail = r, "drill" }
	}
	state := func(s bridge.State) func(*bridge.Order) { return func(o *bridge.Order) { o.State = s } }
	due := func(d time.Time) func(*bridge.Order) { return func(o *bridge.Order) { o.Due = d } }
	for name, tc := range map[string]struct {
		change   func(*bridge.Order)
		digest   func(string) string
		decision bridge.Decision
		fourEyes bool
		want     string // part of the error; empty = it is taken
	}{
		"approved":                      {decision: yes},
		"approved, four eyes":           {decision: yes, fourEyes: true},
		"approved by eight digits":      {digest: func(d string) string { return d[:8] }, decision: yes},
		"approved by capital digits":    {digest: strings.ToUpper, decision: yes},
		"approved of oneself":           {decision: alice},
		"approved by a rule's reader":   {change: func(o *bridge.Order) { o.Actor, o.Rule = "", "r" }, decision: alice, fourEyes: true},
		"at the last moment":            {change: due(decided), decision: yes},
		"without a last moment":         {change: due(time.Time{}), decision: yes},
		"damped":                        {change: held(bridge.ReasonDamping), decision: yes},
		"at night":                      {change: held(bridge.ReasonHours), decision: yes},
		"rejected without digest":       {digest: func(string) string { return "" }, decision: no},
		"rejected by who asked":         {decision: bridge.Decision{Actor: "cli:alice", Why: "no"}, fourEyes: true},
		"four eyes, two ways in":        {decision: alice, fourEyes: true, want: "four eyes"},
		"seven digits":                  {digest: func(d string) string { return d[:7] }, decision: yes, want: "digest"},
		"no digest":                     {digest: func(string) string { return "" }, decision: yes, want: "digest"},
		"another digest":                {digest: func(string) string { return "deadbeef" }, decision: yes, want: "digest"},
		"a longer digest":               {digest: func(d string) string { return d + "0" }, decision: yes, want: "digest"},
		"another host by now":           {change: func(o *bridge.Order) { o.Host = "ws2" }, decision: yes, want: "digest"},
		"no task":                       {change: func(o *bridge.Order) { o.Task = nil }, decision: yes, want: "no task"},
		"not held":                      {change: state(bridge.StateQueued), decision: yes, want: "queued"},
		"over already":                  {change: state(bridge.StateDone), decision: no, want: "done"},
		"held for a hold":               {change: held(bridge.ReasonHold), decision: no, want: "drill"},
		"held for a budget":             {change: held(bridge.ReasonLimit), decision: yes, want: "limits"},
		"held for room":                 {change: held(bridge.ReasonLiveTasks), decision: yes, want: "ksc.tasks"},
		"nobody":                        {decision: bridge.Decision{Approve: true, Why: "ok"}, want: "required"},
		"nobody but blanks":             {decision: bridge.Decision{Approve: true, Actor: " ", Why: "ok"}, want: "required"},
		"no reason":                     {decision: bridge.Decision{Approve: true, Actor: "cli:bob", Why: " \t"}, want: "required"},
		"no reason to reject":           {decision: bridge.Decision{Actor: "cli:bob"}, want: "required"},
		"too late":                      {change: due(decided.Add(-time.Nanosecond)), decision: yes, want: "ended at 2026-11-20T11:59:59Z"},
		"too late to reject":            {change: due(decided.Add(-time.Second)), decision: no, want: "ended at"},
		"four eyes over a changed case": {decision: bridge.Decision{Approve: true, Actor: "cli:Alice", Why: "ok"}, fourEyes: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, shown := waiting(t)
			if tc.change != nil {
				tc.change(&o)
			}
			tc.decision.Order, tc.decision.Digest = o.ID, shown
			if tc.digest != nil {
				tc.decision.Digest = tc.digest(shown)
			}
			notAfter := decided.Add(10 * time.Minute)
			got, err := bridge.Decide(o, tc.decision, tc.fourEyes, decided, notAfter)
			if tc.want != "" {
				if !errors.Is(err, bridge.ErrNotApprovable) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), o.ID) {
					t.Errorf("error %v, want one of order o1 about %q", err, tc.want)
				}
				if got.State != o.State || got.Reason != o.Reason || got.Approval.By != "" {
					t.Errorf("the order became %s %s by %q all the same", got.State, got.Reason, got.Approval.By)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Approval.By != tc.decision.Actor || got.Approval.Why != tc.decision.Why || !got.Approval.At.Equal(decided) {
				t.Errorf("recorded %+v", got.Approval)
			}
			if !tc.decision.Approve {
				if got.State != bridge.StateRefused || got.Reason != bridge.ReasonApproval || got.Approval.Digest != "" || !strings.Contains(got.Detail, "rejected by cli:") {
					t.Errorf("rejected: %s %s %q", got.State, got.Reason, got.Detail)
				}
				return
			}
			full, _ := got.Digest()
			if got.State != bridge.StateQueued || got.Reason != "" || got.Approval.Digest != full || !got.NotAfter.Equal(notAfter) {
				t.Errorf("approved: %s %s until %s for %q", got.State, got.Reason, got.NotAfter, got.Approval.Digest)
			}
		})
	}
}

func TestDigestChangesWithAllAnApprovalIsAbout(t *testing.T) {
	t.Parallel()
	o, before := waiting(t)
	for name, change := range map[string]func(*bridge.Order){
		"id":       func(o *bridge.Order) { o.ID = "o2" },
		"task":     func(o *bridge.Order) { o.Task = bridge.DeleteFile{Path: `C:\x.exe`} },
		"params":   func(o *bridge.Order) { o.Task = bridge.StartProcess{ExecutablePath: `C:\y.exe`} },
		"host":     func(o *bridge.Order) { o.Host = "ws2" },
		"pid":      func(o *bridge.Order) { o.Subject.PID = 6 },
		"start":    func(o *bridge.Order) { o.Subject.Start = 6 },
		"image":    func(o *bridge.Order) { o.Subject.Path = `C:\q.exe` },
		"duration": func(o *bridge.Order) { o.For = -1 },
	} {
		changed := o
		change(&changed)
		if got, err := changed.Digest(); err != nil || got == before {
			t.Errorf("another %s has the digest %s, %v", name, got, err)
		}
	}
	for name, change := range map[string]func(*bridge.Order){
		"state":    func(o *bridge.Order) { o.State, o.Reason, o.Detail = bridge.StateSending, "", "x" },
		"deadline": func(o *bridge.Order) { o.NotAfter, o.Due = decisionTime(), decisionTime() },
		"intent":   func(o *bridge.Order) { o.Intent.Target = "guid" },
		"attempts": func(o *bridge.Order) { o.Attempts, o.Ref = 3, "7" },
	} {
		changed := o
		change(&changed)
		if got, err := changed.Digest(); err != nil || got != before {
			t.Errorf("with another %s the digest is %s, %v; an approval would be lost", name, got, err)
		}
	}
}

func TestActorsOfOnePersonAreOne(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"cli:alice", "cli:alice", true},
		{"cli:alice (INC-1)", "socket:alice", true},
		{"socket:alice", "cli:alice (because (of) that)", true},
		{"alice", "cli:alice", true},
		{`cli:CORP\alice`, `socket:CORP\alice`, true},
		{"cli:alice", "cli:bob", false},
		{"cli:alice (bob)", "cli:bob", false},
		{"cli:alice", "cli:alice2", false},
		{"cli:root", "cli:", false},
		{"", "cli:alice", false},
		{"", "", false},
		{"cli:", "socket:", true}, // nobody knows who they are: four eyes are not proved
	} {
		if got := bridge.SamePerson(tc.a, tc.b); got != tc.want {
			t.Errorf("SamePerson(%q, %q) = %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}
