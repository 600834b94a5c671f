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
