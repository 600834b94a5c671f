package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

func TestOrdersGoToTheKSCOfTheAlertsTenant(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		profiles []string
		profile  string // of the source
		tenant   string
		host     string
		reason   bridge.Reason
		detail   string
	}{
		"one server":             {nil, "", "t-1", "ws-1", "", ""},
		"tenant":                 {[]string{"main", "branch"}, "", "t-1", "ws-1@branch", "", ""},
		"tenant before source":   {[]string{"main", "branch"}, "main", "t-1", "ws-1@branch", "", ""},
		"source":                 {[]string{"main", "branch"}, "main", "", "ws-1@main", "", ""},
		"unknown tenant":         {[]string{"main", "branch"}, "main", "t-2", "ws-1", bridge.ReasonTenant, `tenant "t-2" has no KSC profile: add it to tenants`},
		"nobody says":            {[]string{"main", "branch"}, "", "", "ws-1", bridge.ReasonTenant, "set sources.bus.profile"},
		"tenant in another case": {[]string{"main", "branch"}, "main", "T-1", "ws-1", bridge.ReasonTenant, "tenants"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := mapping.Config{
				Files:    []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(everyAlert)}},
				Sources:  map[string]mapping.Source{"bus": {Preset: "kuma", Profile: c.profile}},
				Profiles: c.profiles,
			}
			if c.profiles != nil {
				cfg.Tenants = map[string]string{"t-1": "branch"}
			}
			m, err := mapping.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			got := mapAll(t, m, fmt.Sprintf(`{"ID":"1","DeviceHostName":"ws-1","TenantID":%q}`, c.tenant))[0]
			all := append(got.Orders, got.Refused...)
			if len(all) != 1 || all[0].Host != c.host || all[0].Reason != c.reason || !strings.Contains(all[0].Detail, c.detail) || (c.reason == "") != (len(got.Orders) == 1) {
				t.Fatalf("%+v", all)
			}
			if c.reason == "" {
				want, err := bridge.NewOrderID("bus", "1", "every", bridge.IsolateHost{Action: 1}, c.host)
				if err != nil || all[0].ID != want {
					t.Errorf("id %s, want %s, %v", all[0].ID, want, err)
				}
			}
		})
	}
}

func TestHostsOfTwoServersAreCountedAndDedupedApart(t *testing.T) {
	t.Parallel()
	m, err := mapping.New(mapping.Config{
		Files: []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(
			"rules: [{name: r, mode: enforce, match: {}, do: [{task: isolateHost, params: {action: 1}}], after: {count: 2, within: 10m}}]")}},
		Sources:  map[string]mapping.Source{"bus": {Preset: "kuma"}},
		Profiles: []string{"main", "branch"},
		Tenants:  map[string]string{"t-1": "main", "t-2": "branch", "t-3": "branch"},
	})
	if err != nil {
		t.Fatal(err)
	}
	keys, strikes := map[string]string{}, map[string]string{}
	for _, tenant := range []string{"t-1", "t-2", "t-3"} {
		o := mapAll(t, m, fmt.Sprintf(`{"ID":"1","DeviceHostName":"ws-1","TenantID":%q}`, tenant))[0].Orders[0]
		keys[tenant], strikes[tenant] = o.Dedupe, o.Strike
	}
	for _, k := range []map[string]string{keys, strikes} {
		if k["t-1"] == k["t-2"] || k["t-2"] != k["t-3"] {
			t.Errorf("%v", k)
		}
	}
}

func TestRulesMatchTenantAndCase(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "kuma-alert", "", "rules: [{name: r, mode: enforce, match: {tenant: t-1, \"case|startswith\": a-}, do: [{task: isolateHost, params: {action: 1}}]}]")
	for doc, want := range map[string]int{
		`{"id":"a-1","tenantID":"t-1","events":[{"ID":"1","DeviceHostName":"ws-1"}]}`: 1,
		`{"id":"b-1","tenantID":"t-1","events":[{"ID":"1","DeviceHostName":"ws-1"}]}`: 0,
		`{"id":"a-1","events":[{"ID":"1","DeviceHostName":"ws-1"}]}`:                  0,
	} {
		if got := len(mapAll(t, m, doc)[0].Orders); got != want {
			t.Errorf("%s: %d orders, want %d", doc, got, want)
		}
	}
}

func TestASourceActsOnItsOwnHostsOnly(t *testing.T) {
	t.Parallel()
	m, err := mapping.New(mapping.Config{
		Files:   []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(everyAlert)}},
		Sources: map[string]mapping.Source{"bus": {Preset: "generic", Hosts: []string{"ws-*", "lab.corp.local", "10.0.5.0/24", "10.9.9.9", "fd00::*"}}, "none": {Preset: "generic", Hosts: []string{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for host, ok := range map[string]bool{
		"ws-1": true, "WS-1": true, "ws-1.corp.local": true, "ws-1.": true, "lab.corp.local": true, "lab": false, "lab.corp.local.evil.example": false, "dc01": false, "xws-1": false,
		"10.0.5.7": true, "10.0.6.7": false, "10.9.9.9": true, "::ffff:10.0.5.7": true, "fd00::7": true, "fd01::7": false, "dc01.ws-1": false,
	} {
		got := mapAll(t, m, fmt.Sprintf(`{"host":%q}`, host))[0]
		if (len(got.Orders) == 1) != ok {
			t.Errorf("%s: %+v", host, got.Refused)
		}
		for _, o := range got.Refused {
			if o.Reason != bridge.ReasonSource || !strings.Contains(o.Detail, "sources.bus.hosts") {
				t.Errorf("%s: %s %s", host, o.Reason, o.Detail)
			}
		}
	}
	none, err := m.Map(bridge.Alert{Source: "none", Received: received, Raw: []byte(`{"host":"ws-1"}`)})
	if err != nil || len(none[0].Orders) != 0 {
		t.Errorf("an empty list let %+v through, %v", none, err)
	}
}

func TestMistakesInSourcesAndTenantsNameTheSetting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  mapping.Config
		want string
	}{
		"profile of nothing": {mapping.Config{Sources: map[string]mapping.Source{"bus": {Preset: "kuma", Profile: "main"}}}, "sources.bus.profile: there are no profiles"},
		"tenants of nothing": {mapping.Config{Tenants: map[string]string{"t": "main"}}, "tenants: there are no profiles"},
		"unknown profile":    {mapping.Config{Profiles: []string{"main"}, Sources: map[string]mapping.Source{"bus": {Preset: "kuma", Profile: "mian"}}}, `sources.bus.profile: unknown profile "mian", did you mean "main"`},
		"unknown of tenant":  {mapping.Config{Profiles: []string{"main"}, Tenants: map[string]string{"t-1": "x"}}, `tenants.t-1: unknown profile "x"`},
		"profile name":       {mapping.Config{Profiles: []string{"a@b"}}, `profile "a@b" must be`},
		"hosts":              {mapping.Config{Sources: map[string]mapping.Source{"bus": {Preset: "kuma", Hosts: []string{"a b"}}}}, `sources.bus.hosts: "a b" is neither`},
		"hosts mask":         {mapping.Config{Sources: map[string]mapping.Source{"bus": {Preset: "kuma", Hosts: []string{"10.0.5.1/24"}}}}, "write 10.0.5.0/24"},
		"mode without":       {mapping.Config{Sources: map[string]mapping.Source{"bus": {Preset: "kuma", Mode: "enforce"}}}, "sources.bus.mode: belongs to sources whose documents are orders"},
		"mode":               {mapping.Config{Sources: map[string]mapping.Source{"bus": {Direct: true, Mode: "go"}}}, `sources.bus.mode: unknown mode "go"`},
		"strict direct":      {mapping.Config{Sources: map[string]mapping.Source{"bus": {Direct: true, Preset: "generic"}}}, "sources.bus.preset: generic reads no events of calls"},
	} {
		if _, err := mapping.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}
