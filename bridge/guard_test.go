package bridge_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func newGuard(t *testing.T, cfg bridge.GuardConfig, protect bridge.ProtectConfig) *bridge.Guard {
	t.Helper()
	p, err := bridge.NewProtect(protect)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Protect = p
	if cfg.Hold == nil {
		cfg.Hold = &bridge.HoldSwitch{}
	}
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return noon }
	}
	g, err := bridge.NewGuard(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestGuardAdmits(t *testing.T) {
	t.Parallel()
	order := func(change func(*bridge.Order)) bridge.Order {
		o := bridge.Order{
			ID: "o1", AlertID: "a1", Source: "bus", Rule: "r", At: "rules.yaml:4", Host: "WS-1", Mode: bridge.ModeEnforce,
			Task: bridge.IsolateHost{Action: bridge.IsolationOn}, AlertTime: noon.Add(-time.Minute),
		}
		if change != nil {
			change(&o)
		}
		return o
	}
	for name, tc := range map[string]struct {
		ceiling bridge.Mode
		order   bridge.Order
		want    bridge.State
		reason  bridge.Reason
		detail  string
	}{
		"enforce under enforce":            {bridge.ModeEnforce, order(nil), bridge.StateQueued, bridge.ReasonNone, ""},
		"ceiling shadow names its setting": {bridge.ModeShadow, order(nil), bridge.StateShadow, bridge.ReasonMode, "edr-bridge.yaml:6"},
		"ceiling unset is shadow":          {"", order(nil), bridge.StateShadow, bridge.ReasonMode, ""},
		"rule in shadow names its place":   {bridge.ModeEnforce, order(func(o *bridge.Order) { o.Mode = bridge.ModeShadow }), bridge.StateShadow, bridge.ReasonMode, "rules.yaml:4"},
		"approve is held":                  {bridge.ModeApprove, order(nil), bridge.StateHeld, bridge.ReasonApproval, ""},
		"off is refused":                   {bridge.ModeOff, order(nil), bridge.StateRefused, bridge.ReasonMode, ""},
		"deleteFile always waits": {
			bridge.ModeEnforce, order(func(o *bridge.Order) { o.Task = bridge.DeleteFile{Path: "/opt/lab/x"} }),
			bridge.StateHeld, bridge.ReasonApproval, "",
		},
		"deleteFile by hand does not": {
			bridge.ModeShadow, order(func(o *bridge.Order) { o.Task = bridge.DeleteFile{Path: "/opt/lab/x"}; o.Rule, o.AlertID = "", "" }),
			bridge.StateQueued, bridge.ReasonNone, "",
		},
		"alert too old":      {bridge.ModeEnforce, order(func(o *bridge.Order) { o.AlertTime = noon.Add(-16 * time.Minute) }), bridge.StateRefused, bridge.ReasonAge, "16m0s old"},
		"alert of tomorrow":  {bridge.ModeEnforce, order(func(o *bridge.Order) { o.AlertTime = noon.Add(24 * time.Hour) }), bridge.StateRefused, bridge.ReasonAge, "future"},
		"alert without time": {bridge.ModeEnforce, order(func(o *bridge.Order) { o.AlertTime = time.Time{} }), bridge.StateQueued, bridge.ReasonNone, ""},
		"no host":            {bridge.ModeEnforce, order(func(o *bridge.Order) { o.Host = "" }), bridge.StateRefused, bridge.ReasonNoHost, "bus"},
		"shadow still checks protected hosts": {
			bridge.ModeShadow, order(func(o *bridge.Order) { o.Host = "dc01" }),
			bridge.StateRefused, bridge.ReasonProtectedHost, "edr-bridge.yaml:9",
		},
		"A5 domain controller by hand": {
			bridge.ModeShadow, order(func(o *bridge.Order) { o.Host = "DC01.corp.local"; o.Rule, o.AlertID = "", "" }),
			bridge.StateRefused, bridge.ReasonProtectedHost, "dc*",
		},
		"A5 the bridge's own host": {bridge.ModeEnforce, order(func(o *bridge.Order) { o.Host = "10.1.2.3" }), bridge.StateRefused, bridge.ReasonProtectedHost, "bridge"},
		"A5 the bridge's own host by the local agent": {
			bridge.ModeEnforce, order(func(o *bridge.Order) { o.Host, o.Executor = "10.1.2.3", bridge.ExecutorLocal }), bridge.StateQueued, bridge.ReasonNone, "",
		},
		"A5 the bridge's own host by its GUID": {
			bridge.ModeEnforce, order(func(o *bridge.Order) { o.Intent.Names = []string{"SOC01"} }),
			bridge.StateRefused, bridge.ReasonProtectedHost, "bridge",
		},
		"A5 a GUID whose name is protected": {
			bridge.ModeEnforce, order(func(o *bridge.Order) { o.Intent.Names = []string{"dc02"} }),
			bridge.StateRefused, bridge.ReasonProtectedHost, "dc02",
		},
		"invalid task": {bridge.ModeEnforce, order(func(o *bridge.Order) { o.Task = bridge.IsolateHost{Action: 2} }), bridge.StateRefused, bridge.ReasonInvalid, "params.action"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuard(t, bridge.GuardConfig{
				Ceiling: tc.ceiling, Self: bridge.Identity{Names: []string{"soc01"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.2.3")}},
				At: func(s string) string { return map[string]string{"mode": "edr-bridge.yaml:6"}[s] },
			}, bridge.ProtectConfig{Hosts: []bridge.ProtectEntry{{Pattern: "dc*", At: "edr-bridge.yaml:9"}}})
			got := g.Admit(tc.order)
			if got.State != tc.want || got.Reason != tc.reason || !strings.Contains(got.Detail, tc.detail) {
				t.Errorf("got %+v, want %s %s with %q", got, tc.want, tc.reason, tc.detail)
			}
		})
	}
}

func TestI11AlertWithoutTimeIsRefusedWhenAboutAPID(t *testing.T) {
	t.Parallel()
	g := newGuard(t, bridge.GuardConfig{Ceiling: bridge.ModeEnforce}, bridge.ProtectConfig{})
	o := bridge.Order{AlertID: "a", Rule: "r", Host: "here", Mode: bridge.ModeEnforce, Task: bridge.TerminateProcess{}, Subject: bridge.Process{PID: 4711}}
	if got := g.Admit(o); got.State != bridge.StateRefused || got.Reason != bridge.ReasonAge {
		t.Errorf("got %+v, want refused for age", got)
	}
	o.AlertTime = noon.Add(-61 * time.Second)
	if got := g.Admit(o); got.State != bridge.StateRefused || got.Reason != bridge.ReasonAge {
		t.Errorf("61 s old: got %+v, want refused for age", got)
	}
	o.AlertTime = noon.Add(-59 * time.Second)
	if got := g.Admit(o); got.State != bridge.StateQueued {
		t.Errorf("59 s old: got %+v, want queued", got)
	}
}

func TestI13PIDOfAnotherMachineIsRefused(t *testing.T) {
	t.Parallel()
	r := bridge.Router{Self: bridge.Identity{Names: []string{"here"}}}
	o := bridge.Order{Host: "elsewhere", Task: bridge.TerminateProcess{}, Subject: bridge.Process{PID: 4711}, Executor: bridge.ExecutorKSC}
	if _, v := r.Identify(t.Context(), o); v.State != bridge.StateRefused || v.Reason != bridge.ReasonInvalid {
		t.Errorf("got %+v, want refused", v)
	}
}

func TestIdentityIsNeverALoopbackName(t *testing.T) {
	t.Parallel()
	id := bridge.Identity{Names: []string{"ws-1.corp.local"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("127.0.0.1")}}
	for host, want := range map[string]bool{
		"WS-1": true, "ws-1.corp.local": true, "10.1.2.3": true, "::ffff:10.1.2.3": true,
		"127.0.0.1": false, "::1": false, "localhost": false, "ws-2": false, "": false, "corp.local": false,
	} {
		if got := id.Is(host); got != want {
			t.Errorf("Is(%q) = %t, want %t", host, got, want)
		}
	}
}

func TestIdentityFollowsTheAddressesOfTheMachine(t *testing.T) {
	t.Parallel()
	var now []netip.Addr
	id := bridge.Identity{Names: []string{"ws-1"}, Now: func() ([]string, []netip.Addr) { return []string{"ws-1.corp.local"}, now }}
	if id.Is("10.1.2.3") {
		t.Error("an address nobody has yet is its own")
	}
	now = []netip.Addr{netip.MustParseAddr("10.1.2.3")}
	if !id.Is("10.1.2.3") || !id.Is("ws-1.corp.local") || !id.Is("ws-1") {
		t.Error("an address that came later is not its own")
	}
	now = nil
	if id.Is("10.1.2.3") {
		t.Error("an address that went away is still its own")
	}
}

// places gives the place of each setting a guard names.
func places(setting string) string {
	return map[string]string{
		"mode": "edr-bridge.yaml:6", "approvals.tasks": "edr-bridge.yaml:20", "approvals.four_eyes": "edr-bridge.yaml:21",
		"protect.hosts": "edr-bridge.yaml:9", "max_age": "edr-bridge.yaml:30",
	}[setting]
}

func byRule(task bridge.Task) bridge.Order {
	return bridge.Order{
		ID: "o1", AlertID: "a1", Source: "bus", Rule: "r", At: "rules.yaml:4", Host: "WS-1", Mode: bridge.ModeEnforce, Task: task, AlertTime: noon,
	}
}

func approve(t *testing.T, o bridge.Order) bridge.Order {
	t.Helper()
	digest, err := o.Digest()
	if err != nil {
		t.Fatal(err)
	}
	o.Approval = bridge.Approval{By: "socket:bob", Why: "INC-1", At: noon, Digest: digest}
	return o
}

func TestHeldForAPersonNamesThePlaceThatAsksForOne(t *testing.T) {
	t.Parallel()
	inApprove := byRule(bridge.IsolateHost{Action: bridge.IsolationOn})
	inApprove.Mode = bridge.ModeApprove
	for name, tc := range map[string]struct {
		ceiling bridge.Mode
		order   bridge.Order
		place   string
	}{
		"the rule asks":    {bridge.ModeEnforce, inApprove, "mode approve (rules.yaml:4)"},
		"the ceiling asks": {bridge.ModeApprove, byRule(bridge.IsolateHost{Action: bridge.IsolationOn}), "mode approve (edr-bridge.yaml:6)"},
		"both ask":         {bridge.ModeApprove, inApprove, "mode approve (rules.yaml:4)"},
		"the task asks":    {bridge.ModeEnforce, byRule(bridge.DeleteFile{Path: "/opt/lab/x"}), "deleteFile always waits for a person (edr-bridge.yaml:20)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuard(t, bridge.GuardConfig{Ceiling: tc.ceiling, At: places}, bridge.ProtectConfig{})
			for word, judge := range map[string]func(bridge.Order) bridge.Verdict{"admit": g.Admit, "begin": g.Begin} {
				if got := judge(tc.order); got != (bridge.Verdict{State: bridge.StateHeld, Reason: bridge.ReasonApproval, Detail: tc.place}) {
					t.Errorf("%s: %+v, want held with %q", word, got, tc.place)
				}
				if got := judge(approve(t, tc.order)); got.State != bridge.StateQueued {
					t.Errorf("%s when approved: %+v, want queued", word, got)
				}
			}
		})
	}
}

func TestApprovalIsGoodForWhatWasShownOnly(t *testing.T) {
	t.Parallel()
	rule := byRule(bridge.StartProcess{ExecutablePath: "/opt/lab/x"})
	hand := rule
	hand.Rule, hand.AlertID, hand.Actor = "", "", "cli:alice"
	for who, o := range map[string]bridge.Order{"rule": rule, "hand": hand} {
		for name, change := range map[string]func(*bridge.Order){
			"params":           func(o *bridge.Order) { o.Task = bridge.StartProcess{ExecutablePath: "/opt/lab/y"} },
			"another task":     func(o *bridge.Order) { o.Task = bridge.DeleteFile{Path: "/opt/lab/x"} },
			"host":             func(o *bridge.Order) { o.Host = "WS-2" },
			"process":          func(o *bridge.Order) { o.Subject.PID = 7 },
			"start of it":      func(o *bridge.Order) { o.Subject.Start = 7 },
			"image of it":      func(o *bridge.Order) { o.Subject.Path = "/opt/lab/z" },
			"duration":         func(o *bridge.Order) { o.For = time.Hour },
			"another order":    func(o *bridge.Order) { o.ID = "o2" },
			"digest missing":   func(o *bridge.Order) { o.Approval.Digest = "" },
			"digest cut short": func(o *bridge.Order) { o.Approval.Digest = o.Approval.Digest[:8] },
		} {
			t.Run(who+" "+name, func(t *testing.T) {
				t.Parallel()
				g := newGuard(t, bridge.GuardConfig{Ceiling: bridge.ModeEnforce}, bridge.ProtectConfig{})
				agreed := approve(t, o)
				if got := g.Begin(agreed); got.State != bridge.StateQueued {
					t.Fatalf("as shown: %+v, want queued", got)
				}
				change(&agreed)
				if got := g.Begin(agreed); got.State != bridge.StateRefused || got.Reason != bridge.ReasonApproval {
					t.Errorf("changed: %+v, want refused for its approval", got)
				}
			})
		}
	}
}

func TestFourEyesLetTasksByHandWaitForASecondPerson(t *testing.T) {
	t.Parallel()
	hand := byRule(bridge.DeleteFile{Path: "/opt/lab/x"})
	hand.Rule, hand.AlertID, hand.Actor = "", "", "cli:alice"
	lease := hand
	lease.Actor = bridge.ActorLease
	harmless := hand
	harmless.Task = bridge.IsolateHost{Action: bridge.IsolationOn}
	for name, tc := range map[string]struct {
		four  bool
		order bridge.Order
		want  bridge.State
	}{
		"on":                                {true, hand, bridge.StateHeld},
		"off":                               {false, hand, bridge.StateQueued},
		"a task nobody has to look at":      {true, harmless, bridge.StateQueued},
		"the bridge's own":                  {true, lease, bridge.StateQueued},
		"approved by a second person":       {true, approve(t, hand), bridge.StateQueued},
		"approved, and then something else": {true, func() bridge.Order { o := approve(t, hand); o.Host = "WS-9"; return o }(), bridge.StateRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuard(t, bridge.GuardConfig{FourEyes: tc.four, At: places}, bridge.ProtectConfig{})
			for word, judge := range map[string]func(bridge.Order) bridge.Verdict{"admit": g.Admit, "begin": g.Begin} {
				got := judge(tc.order)
				if got.State != tc.want {
					t.Errorf("%s: %+v, want %s", word, got, tc.want)
				}
				if got.State == bridge.StateHeld && (got.Reason != bridge.ReasonApproval || !strings.Contains(got.Detail, "edr-bridge.yaml:21")) {
					t.Errorf("%s: %+v, want the place of the setting", word, got)
				}
			}
		})
	}
}

func TestModeLoweredAfterAdmissionHoldsAtTheLastHop(t *testing.T) {
	t.Parallel()
	o := byRule(bridge.IsolateHost{Action: bridge.IsolationOn})
	for mode, want := range map[bridge.Mode]bridge.Verdict{
		bridge.ModeEnforce: {State: bridge.StateQueued},
		bridge.ModeApprove: {State: bridge.StateHeld, Reason: bridge.ReasonApproval, Detail: "mode approve (edr-bridge.yaml:6)"},
		bridge.ModeShadow:  {State: bridge.StateRefused, Reason: bridge.ReasonMode, Detail: "mode shadow (edr-bridge.yaml:6)"},
		bridge.ModeOff:     {State: bridge.StateRefused, Reason: bridge.ReasonMode, Detail: "mode off (edr-bridge.yaml:6)"},
		"":                 {State: bridge.StateRefused, Reason: bridge.ReasonMode, Detail: "mode shadow (edr-bridge.yaml:6)"},
	} {
		g := newGuard(t, bridge.GuardConfig{Ceiling: mode, At: places}, bridge.ProtectConfig{})
		if got := g.Begin(o); got != want {
			t.Errorf("ceiling %q: %+v, want %+v", mode, got, want)
		}
		if got := g.Begin(approve(t, o)); mode == bridge.ModeShadow && got.State != bridge.StateRefused {
			t.Errorf("approved before the mode was lowered to shadow: %+v, want refused", got)
		}
	}
}

func TestReleaseMayWaitADayAndPassesAHold(t *testing.T) {
	t.Parallel()
	hold := &bridge.HoldSwitch{}
	hold.Set(bridge.Hold{Active: true, Reason: "drill", Since: noon})
	now := noon
	g := newGuard(t, bridge.GuardConfig{Hold: hold, Now: func() time.Time { return now }}, bridge.ProtectConfig{Hosts: []bridge.ProtectEntry{{Pattern: "*"}}})
	o := bridge.Order{ID: "o", Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOff}, Actor: "cli:alice", Created: noon}
	if got := g.Deadline(o); !got.Equal(noon.Add(24 * time.Hour)) {
		t.Errorf("deadline %s, want 24 h later", got)
	}
	o.NotAfter = g.Deadline(o)
	for _, judge := range []func(bridge.Order) bridge.Verdict{g.Admit, g.Begin, g.Still} {
		now = noon.Add(24 * time.Hour)
		if got := judge(o); got.State != bridge.StateQueued {
			t.Errorf("a release under hold, its host protected, a day later: %+v, want queued", got)
		}
	}
	now = now.Add(time.Second)
	if got := g.Still(o); got.State != bridge.StateExpired || got.Reason != bridge.ReasonAge {
		t.Errorf("after a day: %+v, want expired", got)
	}
	other := o
	other.Task = bridge.GetFile{Path: `C:\x`}
	if got := g.Deadline(other); !got.Equal(noon.Add(15 * time.Minute)) {
		t.Errorf("deadline of another order %s, want 15 min later", got)
	}
	now = noon
	if got := newGuard(t, bridge.GuardConfig{Hold: hold}, bridge.ProtectConfig{}).Still(other); got.State != bridge.StateHeld || got.Reason != bridge.ReasonHold {
		t.Errorf("another order under hold: %+v, want held", got)
	}
}

func TestGroupProtectionFailsClosedWhenTheGroupIsNotKnown(t *testing.T) {
	t.Parallel()
	named := bridge.ProtectConfig{Hosts: []bridge.ProtectEntry{{Pattern: "group:Managed devices/Servers", At: "edr-bridge.yaml:9"}}}
	for name, tc := range map[string]struct {
		protect bridge.ProtectConfig
		task    bridge.Task
		intent  bridge.Intent
		want    bridge.State
	}{
		"another group":         {named, nil, bridge.Intent{Target: "g", Names: []string{"ws-1", "group:Managed devices/Desks"}}, bridge.StateQueued},
		"the group":             {named, nil, bridge.Intent{Target: "g", Names: []string{"group:managed devices/SERVERS"}}, bridge.StateRefused},
		"below it":              {named, nil, bridge.Intent{Target: "g", Names: []string{"group:Managed devices/Servers/Mail"}}, bridge.StateRefused},
		"a name that begins so": {named, nil, bridge.Intent{Target: "g", Names: []string{"group:Managed devices/Servers2"}}, bridge.StateQueued},
		"not known":             {named, nil, bridge.Intent{Target: "g", Names: []string{"ws-1"}}, bridge.StateRefused},
		"no name at all":        {named, nil, bridge.Intent{Target: "g"}, bridge.StateRefused},
		"an empty path":         {named, nil, bridge.Intent{Target: "g", Names: []string{"group:", "group: /"}}, bridge.StateRefused},
		"not looked up yet":     {named, nil, bridge.Intent{}, bridge.StateQueued},
		"a release":             {named, bridge.IsolateHost{Action: bridge.IsolationOff}, bridge.Intent{Target: "g"}, bridge.StateQueued},
		"nobody goes by groups": {bridge.ProtectConfig{}, nil, bridge.Intent{Target: "g"}, bridge.StateQueued},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuard(t, bridge.GuardConfig{Ceiling: bridge.ModeEnforce, At: places}, tc.protect)
			o := byRule(bridge.IsolateHost{Action: bridge.IsolationOn})
			if tc.task != nil {
				o.Task = tc.task
			}
			o.Intent = tc.intent
			got := g.Begin(o)
			if got.State != tc.want || got.State == bridge.StateRefused && (got.Reason != bridge.ReasonProtectedHost || !strings.Contains(got.Detail, "edr-bridge.yaml:9")) {
				t.Errorf("got %+v, want %s", got, tc.want)
			}
		})
	}
}
