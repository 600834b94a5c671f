package configs

import (
	"encoding"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestSafetyHoldsWithoutAnySetting(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, "version: 1\nlocal: {state: /srv/eb}\nksc: {address: k, user: u, system_roots: true}\n")
	got := []any{
		s.LimitPolicy(), s.HoursPolicy(), s.Approvals, s.Damping, s.Undo, s.Leases, s.KSC.Tasks, s.GiveUp, s.Inventory.Hosts,
		s.Audit, s.Metrics.Listen, s.API,
	}
	want := []any{
		[]bridge.Limit{{Task: bridge.KindIsolateHost, Max: 5, Per: time.Hour, At: "default"}},
		[]bridge.Hours{},
		Approvals{Tasks: []bridge.Kind{bridge.KindStartProcess, bridge.KindDeleteFile}, Timeout: time.Hour, AskEvery: time.Hour},
		Damping{Max: 3, Within: 10 * time.Minute},
		Undo{Max: 3, Per: time.Hour},
		Leases{Default: 4 * time.Hour, ProductOff: 5 * time.Hour, OnProductOff: Reassert},
		KSCTasks{Hold: 80, Keep: 15, Per: PerServer, FollowEvery: 5 * time.Second, FollowFor: 24 * time.Hour},
		30 * time.Minute, 0,
		Audit{AnchorEvery: time.Hour, Keep: 2160 * time.Hour, Archive: "/srv/eb/archive"},
		"",
		API{Enabled: true, Socket: "/srv/eb/edr-bridge.sock"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

const policies = `version: 1
ksc: {address: k, user: u, ca: c.pem, tasks: {hold: 60, keep: 5, per: host, follow_every: 1s, follow_for: 1h}}
limits:
  - {task: isolateHost, max: 7, share: 2.5%, per: 2h}
  - task: "*"
    max: 100
    per: 10m
    by: source
    on_breach: hold
inventory: {hosts: 400}
approvals: {tasks: [], timeout: 2h, four_eyes: true, ask_every: 0s}
hours:
  - {task: isolateHost, days: [sun, mon], from: 22:00, to: "06:30", zone: Asia/Tokyo}
  - {task: "*", from: "00:00", to: 24:00}
damping: {max: 2, within: 5m}
undo: {max: 0}
leases: {default: 1h, product_off: 0s, on_product_off: record}
give_up: 10m
`

func TestPolicyCarriesValuesAndPlaces(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, policies)
	got := s.Policy()
	if hosts, known := got.Known(); hosts != 400 || !known {
		t.Errorf("known hosts: %d %v", hosts, known)
	}
	got.Known = nil
	want := bridge.Policy{
		Limits: []bridge.Limit{
			{Task: bridge.KindIsolateHost, Max: 7, Share: 0.025, Per: 2 * time.Hour, At: "edr-bridge.yaml:4"},
			{All: true, Max: 100, Per: 10 * time.Minute, By: bridge.LimitBySource, At: "edr-bridge.yaml:5"},
		},
		FlapMax: 2, FlapWithin: 5 * time.Minute, FlapAt: "edr-bridge.yaml:15",
		UndoPer: time.Hour, UndoAt: "edr-bridge.yaml:16",
		Live:      bridge.LiveTasks{Hold: 60, Keep: 5, PerHost: true, At: "edr-bridge.yaml:2"},
		FourEyes:  true,
		Deadlines: bridge.Deadlines{Approval: 2 * time.Hour, GiveUp: 10 * time.Minute, Follow: time.Hour},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if bare := mustLoad(t, "version: 1\n").Policy(); bare.Known != nil || bare.Live.Hold != 0 || !bare.Lease.Reassert || bare.AskEvery != time.Hour {
		t.Errorf("%+v", bare)
	}
}

func TestHoursPolicyCarriesDaysClockAndZone(t *testing.T) {
	t.Parallel()
	spans := mustLoad(t, policies).HoursPolicy()
	if len(spans) != 2 {
		t.Fatal(spans)
	}
	night, always := spans[0], spans[1]
	got := []any{night.Task, night.All, night.Days, night.From, night.To, night.Zone.String(), night.At, always.All, len(always.Days), always.From, always.To, always.Zone}
	want := []any{
		bridge.KindIsolateHost, false,
		[]time.Weekday{time.Sunday, time.Monday},
		22 * time.Hour, 6*time.Hour + 30*time.Minute, "Asia/Tokyo",
		"edr-bridge.yaml:13", true, 7, time.Duration(0), 24 * time.Hour, time.Local,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *time.Location) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	for moment, in := range map[string]bool{
		"2026-11-22T21:29:00Z": true,  // Monday 06:29 in Tokyo: the span of Sunday
		"2026-11-22T21:30:00Z": false, // Monday 06:30
		"2026-11-22T12:59:00Z": false, // Sunday 21:59
		"2026-11-22T13:00:00Z": true,  // Sunday 22:00
		"2026-11-24T13:00:00Z": false, // Tuesday 22:00
	} {
		at, err := time.Parse(time.RFC3339, moment)
		if err != nil {
			t.Fatal(err)
		}
		if night.Contains(at) != in {
			t.Errorf("%s: %v, want %v", moment, !in, in)
		}
	}
}

func TestMistakesInPoliciesNamePlaceAndWayOut(t *testing.T) {
	t.Parallel()
	const head = "version: 1\n"
	limit := func(rest string) string { return head + "limits: [{task: isolateHost, " + rest + "}]\n" }
	hours := func(rest string) string { return head + "hours: [{task: isolateHost, " + rest + "}]\n" }
	ksc := func(rest string) string {
		return head + "ksc: {address: k, user: u, ca: c, tasks: {" + rest + "}}\n"
	}
	bus := head + "sources: {bus: {type: redis-stream, address: \"127.0.0.1:1\", stream: s, preset: p}}\n"
	long := "/" + strings.Repeat("x", maxSocket)
	for name, c := range map[string]struct{ text, want string }{
		"profile stays refused":     {head + "profile: soc\n", "edr-bridge.yaml:2:1: profile: unknown setting"},
		"limit without task":        {head + "limits: [{max: 1, per: 1h}]\n", `edr-bridge.yaml:2:10: limits[0].task: required: the name of a task, or "*" for all`},
		"limit of unknown task":     {head + "limits: [{task: isolatehost, max: 1, per: 1h}]\n", `edr-bridge.yaml:2:17: limits[0].task: unknown task "isolatehost", did you mean "isolateHost"?`},
		"limit without number":      {limit("per: 1h"), "edr-bridge.yaml:2:10: limits[0].max: required: how many orders (max: 5), or which share of the hosts (share: 2%)"},
		"limit of nothing":          {limit("max: 0, per: 1h"), "edr-bridge.yaml:2:35: limits[0].max: must be 1 to 1000000, not 0"},
		"limit too large":           {limit("max: 1000001, per: 1h"), "must be 1 to 1000000, not 1000001"},
		"limit without time":        {limit("max: 1"), "limits[0].per: required"},
		"limit of seconds":          {limit("max: 1, per: 59s"), "edr-bridge.yaml:2:43: limits[0].per: must be 1m to 720h, not 59s"},
		"limit of months":           {limit("max: 1, per: 721h"), "must be 1m to 720h, not 721h"},
		"limit by host":             {limit("max: 1, per: 1h, by: host"), `limits[0].by: must be source or rule, not "host"`},
		"limit that drops":          {limit("max: 1, per: 1h, on_breach: drop"), `limits[0].on_breach: must be hold, not "drop"`},
		"misspelled limit":          {limit("max: 1, per: 1h, pre: 1h"), `edr-bridge.yaml:2:47: limits[0].pre: unknown setting, did you mean "per"?`},
		"share of nobody knows":     {limit("share: 2%, per: 1h"), "edr-bridge.yaml:2:37: limits[0].share: needs inventory.hosts"},
		"share without sign":        {limit("share: 2, per: 1h"), `edr-bridge.yaml:2:37: limits[0].share: must be a share of the known hosts from 0.01% to 100%, such as "2%", not "2"`},
		"share of nothing":          {limit("share: 0.009%, per: 1h"), "from 0.01% to 100%"},
		"share of more":             {limit("share: 100.1%, per: 1h"), "from 0.01% to 100%"},
		"share with exponent":       {limit("share: 1e1%, per: 1h"), "from 0.01% to 100%"},
		"share that is no number":   {limit("share: NaN%, per: 1h"), "from 0.01% to 100%"},
		"share as a list":           {limit("share: [2%], per: 1h"), "limits[0].share: must be a share of the known hosts from 0.01% to 100%, such as \"2%\", not a list"},
		"limits as a mapping":       {head + "limits: {task: isolateHost, max: 1, per: 1h}\n", "limits: must be a list"},
		"limit as text":             {head + "limits: [isolateHost]\n", "edr-bridge.yaml:2:10: limits[0]: must be a mapping"},
		"empty limits":              {head + "limits:\n", "limits: is empty"},
		"many limits":               {head + "limits: [" + strings.Repeat("{task: isolateHost, max: 1, per: 1h}, ", 101) + "]\n", "limits: must be 100 at most"},
		"negative hosts":            {head + "inventory: {hosts: -1}\n", "inventory.hosts: must be 0 to 10000000, not -1"},
		"approval of unknown":       {head + "approvals: {tasks: [startproces]}\n", `edr-bridge.yaml:2:21: approvals.tasks[0]: unknown task "startproces", did you mean "startProcess"?`},
		"approval of all":           {head + "approvals: {tasks: [\"*\"]}\n", "approvals.tasks[0]: unknown task"},
		"approval at once":          {head + "approvals: {timeout: 10s}\n", "edr-bridge.yaml:2:22: approvals.timeout: must be 1m to 168h, not 10s"},
		"asking daily":              {head + "approvals: {ask_every: 25h}\n", "approvals.ask_every: must be 0s to 24h, not 25h"},
		"hours without end":         {hours(`from: "08:00"`), "edr-bridge.yaml:2:9: hours[0].to: required: when the span ends"},
		"hours without begin":       {hours(`to: "08:00"`), "edr-bridge.yaml:2:9: hours[0].from: required: when the span begins"},
		"hours without task":        {head + `hours: [{from: "08:00", to: "18:00"}]` + "\n", "hours[0].task: required"},
		"hours of nothing":          {hours(`from: "08:00", to: 08:00`), `edr-bridge.yaml:2:48: hours[0].to: must differ from from`},
		"hours from the end":        {hours(`from: "24:00", to: "08:00"`), "hours[0].from: must be before 24:00: write 00:00"},
		"hours of one digit":        {hours(`from: 8:00, to: "18:00"`), `edr-bridge.yaml:2:35: hours[0].from: must be a time of day such as "08:00", not "8:00"`},
		"hours beyond the day":      {hours(`from: "08:00", to: "24:01"`), "hours[0].to: must be a time of day"},
		"minutes beyond the hour":   {hours(`from: "08:60", to: "18:00"`), "hours[0].from: must be a time of day"},
		"hours with seconds":        {hours(`from: "08:00:00", to: "18:00"`), "hours[0].from: must be a time of day"},
		"hours with a sign":         {hours(`from: "+8:00", to: "18:00"`), "hours[0].from: must be a time of day"},
		"unknown day":               {hours(`from: "08:00", to: "18:00", days: [mon, tues]`), `hours[0].days[1]: must be mon, tue, wed, thu, fri, sat or sun, not "tues", did you mean "tue"?`},
		"no day":                    {hours(`from: "08:00", to: "18:00", days: []`), "hours[0].days: is empty: name the days"},
		"unknown zone":              {hours(`from: "08:00", to: "18:00", zone: Europe/Berlim`), `hours[0].zone: must be the name of a time zone, such as Europe/Berlin, UTC or Local, not "Europe/Berlim"`},
		"zone out of the database":  {hours(`from: "08:00", to: "18:00", zone: ../../etc/passwd`), "hours[0].zone: must be the name of a time zone"},
		"empty zone":                {hours(`from: "08:00", to: "18:00", zone: ""`), "hours[0].zone: is empty"},
		"zone as a mapping":         {hours(`from: "08:00", to: "18:00", zone: {name: UTC}`), "hours[0].zone: must be the name of a time zone, such as Europe/Berlin, UTC or Local, not a mapping"},
		"damping off":               {head + "damping: {max: 0}\n", "edr-bridge.yaml:2:16: damping.max: must be 1 to 1000, not 0"},
		"damping for days":          {head + "damping: {within: 25h}\n", "damping.within: must be 1m to 24h, not 25h"},
		"negative undo":             {head + "undo: {max: -1}\n", "undo.max: must be 0 to 1000, not -1"},
		"undo for ever":             {head + "undo: {per: 0s}\n", "undo.per: must be 1m to 720h, not 0s"},
		"endless lease":             {head + "leases: {default: 0s}\n", "leases.default: must be 1m to 720h, not 0s"},
		"product off at once":       {head + "leases: {product_off: 4m}\n", "leases.product_off: must be 0s or 5m to 9999h, not 4m"},
		"product off, then":         {head + "leases: {on_product_off: release}\n", `leases.on_product_off: must be reassert or record, not "release"`},
		"give up at once":           {head + "give_up: 0s\n", "edr-bridge.yaml:2:10: give_up: must be 1m to 24h, not 0s"},
		"no live task":              {ksc("hold: 0"), "ksc.tasks.hold: must be 1 to 100000, not 0"},
		"negative keep":             {ksc("keep: -1"), "ksc.tasks.keep: must be 0 to 100000, not -1"},
		"live tasks per group":      {ksc("per: group"), `ksc.tasks.per: must be server or host, not "group"`},
		"following all the time":    {ksc("follow_every: 0s"), "ksc.tasks.follow_every: must be 1s to 1h, not 0s"},
		"following for seconds":     {ksc("follow_for: 1s"), "ksc.tasks.follow_for: must be 1m to 720h, not 1s"},
		"misspelled live tasks":     {ksc("hlod: 80"), `ksc.tasks.hlod: unknown setting, did you mean "hold"?`},
		"anchors each second":       {head + "audit: {anchor_every: 1s}\n", "audit.anchor_every: must be 0s or 1m to 168h, not 1s"},
		"anchors never to a file":   {head + "audit: {anchor_every: 0s, anchor_file: a}\n", "edr-bridge.yaml:2:23: audit.anchor_every: must not be 0s beside anchor_file"},
		"anchors never to a stream": {bus + "audit: {anchor_every: 0s, anchor_stream: {source: bus, stream: a}}\n", "audit.anchor_every: must not be 0s beside"},
		"audit of an hour":          {head + "audit: {keep: 1h}\n", "audit.keep: must be 0s or 24h to 87600h, not 1h"},
		"anchor without source":     {bus + "audit: {anchor_stream: {stream: a}}\n", "audit.anchor_stream.source: required"},
		"anchor without stream":     {bus + "audit: {anchor_stream: {source: bus}}\n", "audit.anchor_stream.stream: required"},
		"anchor in unknown source":  {bus + "audit: {anchor_stream: {source: buss, stream: a}}\n", `edr-bridge.yaml:3:33: audit.anchor_stream.source: must be the name of a source, not "buss", did you mean "bus"?`},
		"anchor among the alerts":   {bus + "audit: {anchor_stream: {source: bus, stream: s}}\n", "audit.anchor_stream.stream: must be another stream than those of sources.bus"},
		"anchor among dead letters": {bus + "audit: {anchor_stream: {source: bus, stream: \"s:dead\"}}\n", "must be another stream than those of sources.bus"},
		"metrics for everybody":     {head + "metrics: {listen: \":9448\"}\n", `edr-bridge.yaml:2:19: metrics.listen: must be a loopback address such as 127.0.0.1:9448, because the page has no authentication; not ":9448"`},
		"metrics for the network":   {head + "metrics: {listen: \"10.0.0.1:9448\"}\n", "because the page has no authentication"},
		"metrics on a name":         {head + "metrics: {listen: \"localhost.evil:9448\"}\n", "because the page has no authentication"},
		"metrics without port":      {head + "metrics: {listen: 127.0.0.1}\n", "metrics.listen: must be host:port"},
		"metrics on port 0":         {head + "metrics: {listen: \"127.0.0.1:0\"}\n", "metrics.listen: must be host:port"},
		"long socket":               {head + "api: {socket: " + long + "}\n", "edr-bridge.yaml:2:15: api.socket: must be 107 bytes at most, not 108"},
		"long state":                {head + "local: {state: " + long + "}\n", "edr-bridge.yaml:2:16: local.state: is too long for the control socket in it (124 bytes, 107 at most): set api.socket"},
		"group as a path":           {head + "api: {group: a/b}\n", "api.group: must be the name of a Unix group"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, c.text)
			own, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant %q", err, c.want)
			}
			if len(own.Problems) != 1 {
				t.Errorf("one mistake, %d problems:\n%v", len(own.Problems), err)
			}
		})
	}
}

func TestWhatIsNoMistakeIsTaken(t *testing.T) {
	t.Parallel()
	const head = "version: 1\n"
	for _, text := range []string{
		"limits: [{task: isolateHost, max: 1, per: 1m}, {task: '*', max: 1000000, per: 720h}]\n",
		"inventory: {hosts: 1}\nlimits: [{task: isolateHost, share: 0.01%, per: 1h}, {task: isolateHost, share: 100%, per: 1h}]\n",
		"ksc: {address: k, user: u, ca: c}\nlimits: [{task: isolateHost, share: 2%, per: 1h}]\n",
		"hours: [{task: isolateHost, from: \"00:00\", to: \"24:00\"}, {task: isolateHost, from: 23:59, to: \"00:00\", zone: UTC}]\n",
		"audit: {anchor_every: 0s, keep: 0s}\nundo: {max: 0}\nleases: {product_off: 5m}\n",
		"metrics: {listen: \"[::1]:1\"}\n", "metrics: {listen: \"localhost:65535\"}\n", "metrics: {listen: 127.8.9.1:9448}\n",
		"api: {enabled: false}\nlocal: {state: /" + strings.Repeat("x", maxSocket) + "}\n",
		"api: {socket: /" + strings.Repeat("x", maxSocket-1) + "}\n",
		"protect: {hosts: [\"dc*\"]}\napi: {group: \"domain users\"}\n",
	} {
		s, err := load(t, head+text)
		if err != nil {
			t.Errorf("%s%v", text, err)
			continue
		}
		out, err := s.Resolved()
		if err != nil {
			t.Fatal(err)
		}
		again, err := build("other.yaml", "/tmp/elsewhere", out, noEnv)
		if err != nil {
			t.Errorf("%v\nof\n%s", err, out)
			continue
		}
		if second, err := again.Resolved(); err != nil || string(second) != string(out) {
			t.Errorf("%v (-first +second)\n%s", err, cmp.Diff(string(out), string(second)))
		}
	}
}

// An empty list is a decision; without the key the default holds. Both must come through config show.
func TestAnEmptyListIsNotADefault(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, "version: 1\nlimits: []\napprovals: {tasks: []}\n")
	for range 2 {
		if len(s.LimitPolicy()) != 0 || len(s.Approvals.Tasks) != 0 {
			t.Errorf("%v %v", s.LimitPolicy(), s.Approvals.Tasks)
		}
		out, err := s.Resolved()
		if err != nil {
			t.Fatal(err)
		}
		s = mustLoad(t, string(out))
	}
	if two := mustLoad(t, "version: 1\nlimits: [{task: getFile, max: 1, per: 1h}]\n"); len(two.Limits) != 1 || two.Limits[0].Task != "getFile" {
		t.Errorf("the default stands beside what was set: %v", two.Limits)
	}
}

func TestShareWaitsForTheHostsOfTheVendorEnvironment(t *testing.T) {
	t.Parallel()
	const text = "version: 1\nlimits: [{task: isolateHost, share: 2%, per: 1h}]\n"
	s := mustLoad(t, text, "kscHost", "ksc01", "kscUser", "u")
	v, err := VendorEnv(env("kscHost", "ksc01", "kscUser", "u"))
	if err != nil {
		t.Fatal(err)
	}
	if p := s.WithVendor(v).Policy(); p.Live.Hold != 80 || p.Live.Keep != 15 || p.Follow != 24*time.Hour || p.Known != nil {
		t.Errorf("%+v", p)
	}
	if _, err := load(t, text, "kscHost", ""); err == nil {
		t.Error("an empty kscHost counts as a KSC")
	}
}

func TestEnvironmentOverridesPolicies(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, policies, "EDR_BRIDGE_UNDO_MAX", "4", "EDR_BRIDGE_APPROVALS_FOUR_EYES", "false", "EDR_BRIDGE_KSC_TASKS_HOLD", "70",
		"EDR_BRIDGE_AUDIT_KEY", "secret:audit/key", "EDR_BRIDGE_API_SOCKET", "/run/eb.sock", "EDR_BRIDGE_LEASES_ON_PRODUCT_OFF", "reassert")
	got := []any{s.Undo, s.Policy().FourEyes, s.KSC.Tasks.Hold, s.Audit.Key, s.API.Socket, s.Leases.OnProductOff, s.At("undo.max")}
	want := []any{Undo{Max: 4, Per: time.Hour}, false, 70, SecretRef("secret:audit/key"), "/run/eb.sock", Reassert, "EDR_BRIDGE_UNDO_MAX"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err := load(t, policies, "EDR_BRIDGE_METRICS_LISTEN", "0.0.0.0:1", "EDR_BRIDGE_DAMPING_MAX", "x", "EDR_BRIDGE_LOCAL_STATE", "state")
	own, ok := errors.AsType[*Error](err)
	if !ok || len(own.Problems) != 3 {
		t.Fatal(err)
	}
	for _, want := range []string{
		"EDR_BRIDGE_METRICS_LISTEN: metrics.listen: must be a loopback", "EDR_BRIDGE_DAMPING_MAX: damping.max: must be a whole number",
		"EDR_BRIDGE_LOCAL_STATE: local.state: must be an absolute path",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	for _, v := range EnvVars() {
		for _, list := range []string{"limits", "hours", "protect", "approvals.tasks", "max_age"} {
			if strings.HasPrefix(v.Path, list) {
				t.Errorf("%s sets a safety list", v.Name)
			}
		}
	}
}

func TestPathsOfAuditAndSocketAreRelativeToTheFile(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, "version: 1\naudit: {anchor_file: a.txt, archive: old}\napi: {socket: run/eb.sock}\n")
	got := []string{s.Audit.AnchorFile, s.Audit.Archive, s.API.Socket}
	if diff := cmp.Diff([]string{"/etc/edr-bridge/a.txt", "/etc/edr-bridge/old", "/etc/edr-bridge/run/eb.sock"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestScalarsAreWrittenAsTheyAreRead(t *testing.T) {
	t.Parallel()
	type scalar interface {
		written
		encoding.TextMarshaler
	}
	for _, c := range []struct {
		value      scalar
		text, want string
	}{
		{new(Share), "2%", "2%"},
		{new(Share), "0.01%", "0.01%"},
		{new(Share), "100.0%", "100%"},
		{new(Share), "33.333%", "33.333%"},
		{new(Clock), "00:00", "00:00"},
		{new(Clock), "07:05", "07:05"},
		{new(Clock), "24:00", "24:00"},
		{new(Day), "mon", "mon"},
		{new(Day), "sat", "sat"},
		{new(Day), "sun", "sun"},
		{new(Zone), "UTC", "UTC"},
		{new(Zone), "Local", "Local"},
		{new(Zone), "Europe/Berlin", "Europe/Berlin"},
	} {
		if err := c.value.parse(c.text); err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got, err := c.value.MarshalText(); string(got) != c.want || err != nil {
			t.Errorf("%q is written as %q %v", c.text, got, err)
		}
	}
	if got := time.Weekday(*mustDay(t, "sun")); got != time.Sunday {
		t.Error(got)
	}
	if got, err := Day(7).MarshalText(); err == nil {
		t.Errorf("day 7 is %s", got)
	}
}

func mustDay(t *testing.T, text string) *Day {
	t.Helper()
	d := new(Day)
	if err := d.parse(text); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConfigShowWritesTheDefaultsOut(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("samples/one-machine.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, err := mustLoad(t, string(text)).Resolved()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"limits:\n  - task: isolateHost\n    max: 5\n    per: 1h\n    on_breach: hold\n", "tasks:\n    - startProcess\n    - deleteFile\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
