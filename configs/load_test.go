package configs

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/configs/secrets"
)

const canary = "hunter2-canary"

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func load(t *testing.T, text string, pairs ...string) (*Settings, error) {
	t.Helper()
	return build("edr-bridge.yaml", filepath.FromSlash("/etc/edr-bridge"), []byte(text), env(pairs...))
}

func mustLoad(t *testing.T, text string, pairs ...string) *Settings {
	t.Helper()
	s, err := load(t, text, pairs...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const small = `version: 1
mode: approve
sources:
  bus: {type: redis-stream, address: 127.0.0.1:6379, stream: alerts, group: edr-bridge, preset: python-edr}
  legacy: {type: redis-pubsub, address: 10.0.0.1:6379, channel: high_severity_alerts, preset: python-edr}
ksc: {address: ksc01.corp.local, ca: klserver.cer, user: svc-edr, password: "secret:ksc/password"}
fallback: local
local: {enabled: true, dry_run: false, state: /var/lib/edr-bridge}
protect:
  hosts:
    - dc*
    - 10.0.5.0/24
rules: [rules.d/*.yaml]
`

func TestSmallFileLoadsWithDefaults(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, small)
	bus, legacy := s.Sources["bus"], s.Sources["legacy"]
	got := []any{
		s.Mode, s.Fallback, s.KSC.Address, s.KSC.CA, s.KSC.Password, s.KSC.InFlight, s.KSC.Timeout, s.KSC.SettleTime, s.KSC.DomainEncoding,
		bus.Host, bus.DeadLetter, bus.ClaimAfter, legacy.Host, legacy.Queue, s.MaxAge["pid"], s.MaxAge["default"], s.Dedupe.For,
		s.Secrets.Backend, s.Secrets.Dir, s.Log.Level, s.Log.Format,
	}
	want := []any{
		bridge.ModeApprove, FallbackLocal, "ksc01.corp.local:13299", "/etc/edr-bridge/klserver.cer", SecretRef("secret:ksc/password"), 16,
		30 * time.Second, time.Minute, "plain", "this", "alerts:dead", time.Minute, "", 4096, time.Minute, 15 * time.Minute, 15 * time.Minute,
		"file", "/var/lib/edr-bridge/secrets", "info", "auto",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultIsShadowAndActsOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	s, err := Load("", noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if s.Mode != bridge.ModeShadow || s.KSC != nil || !s.Local.Enabled || s.Local.DryRun || s.Fallback != FallbackNone || s.File() != "" {
		t.Errorf("%+v", s)
	}
	with := mustLoad(t, "version: 1\nksc: {address: k, user: u, system_roots: true}\n")
	if with.Local.Enabled {
		t.Error("the local agent acts beside a KSC without being asked")
	}
	if with.Mode != bridge.ModeShadow {
		t.Error(with.Mode)
	}
}

func TestAtNamesFileAndLine(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, small, "EDR_BRIDGE_FALLBACK", "local")
	for path, want := range map[string]string{
		"version": "edr-bridge.yaml:1", "mode": "edr-bridge.yaml:2", "sources.bus": "edr-bridge.yaml:4", "sources.bus.group": "edr-bridge.yaml:4",
		"protect.hosts": "edr-bridge.yaml:10", "protect.hosts[0]": "edr-bridge.yaml:11", "protect.hosts[1]": "edr-bridge.yaml:12",
		"protect.hosts[9]": "edr-bridge.yaml:10", "protect.paths": "edr-bridge.yaml:9", "max_age.pid": "default", "log.level": "default",
		"fallback": "EDR_BRIDGE_FALLBACK", "rules[0]": "edr-bridge.yaml:13",
	} {
		if got := s.At(path); got != want {
			t.Errorf("At(%q) = %q, want %q", path, got, want)
		}
	}
	if at := s.ProtectConfig().Hosts[1]; at.At != "edr-bridge.yaml:12" || at.Pattern != "10.0.5.0/24" {
		t.Errorf("%+v", at)
	}
}

func TestF35MistakesAreReportedTogetherWithTheirPlaces(t *testing.T) {
	t.Parallel()
	_, err := load(t, `version: 1
mode: enforced
sources:
  bus: {type: redis-strem, address: localhost, preset: x, db: x}
  poll:
    type: sensor
    token: abc
  two:
    type: redis-pubsub
    addess: 10.0.0.1:6379
    address: 10.0.0.1
    channel: c
    channel: d
    group: g
    tasks: [isolatehost]
ksc:
  user: svc
  timeout: 30
  in_flight: many
limits: [{task: isolateHost, max: 5}]
protect: {hosts: [""], paths: [relative/x]}
metrics: {listen: 0.0.0.0:9448}
max_age: {killProcess: 1m, pid: -3s}
rules: "*.yaml"
log:
`)
	own, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%T %v", err, err)
	}
	var got []string
	for _, p := range own.Problems {
		got = append(got, p.String())
	}
	want := []string{
		`edr-bridge.yaml:2:7: mode: must be off, shadow, approve or enforce, not "enforced", did you mean "enforce"?`,
		`edr-bridge.yaml:4:15: sources.bus.type: must be redis-pubsub, redis-stream, webhook, kuma-http, kuma-soar, kuma-poll, kuma-script, syslog or sensor, not "redis-strem", did you mean "redis-stream"?`,
		`edr-bridge.yaml:4:63: sources.bus.db: must be a whole number, not "x"`,
		`edr-bridge.yaml:7:12: sources.poll.token: must be a reference such as secret:ksc/password, never the value itself: store the value with ` + "`edr-bridge secrets set ksc/password`",
		`edr-bridge.yaml:9:5: sources.two.preset: required: how the documents are read, such as python-edr (edr-bridge presets list)`,
		`edr-bridge.yaml:10:5: sources.two.addess: unknown setting, did you mean "address"?`,
		`edr-bridge.yaml:11:14: sources.two.address: must be host:port or unix:///path; user and password stand in username and password`,
		`edr-bridge.yaml:13:5: sources.two.channel: is set twice; the first is in line 12`,
		`edr-bridge.yaml:14:12: sources.two.group: is a setting of redis-stream`,
		`edr-bridge.yaml:15:13: sources.two.tasks[0]: unknown task "isolatehost", did you mean "isolateHost"?`,
		`edr-bridge.yaml:17:3: ksc.address: required: host:port of the Administration Server`,
		`edr-bridge.yaml:18:12: ksc.timeout: must be a time with a unit, such as 30s, 15m or 4h, not "30"`,
		`edr-bridge.yaml:19:14: ksc.in_flight: must be a whole number, not "many"`,
		`edr-bridge.yaml:20:10: limits[0].per: required: the time in which they count, such as 1h`,
		`edr-bridge.yaml:21:19: protect.hosts[0]: is empty: give it a value or remove the line`,
		`edr-bridge.yaml:21:32: protect.paths[0]: pattern "relative/x" is not absolute: start it with /, a drive letter, ?:\ for any drive, or **/ for anywhere`,
		`edr-bridge.yaml:22:19: metrics.listen: must be a loopback address such as 127.0.0.1:9448, because the page has no authentication; not "0.0.0.0:9448"`,
		`edr-bridge.yaml:23:11: max_age.killProcess: unknown task`,
		`edr-bridge.yaml:23:33: max_age.pid: must not be negative`,
		`edr-bridge.yaml:24:8: rules: must be a list in brackets, not text`,
		`edr-bridge.yaml:25:1: log: is empty: give it a value or remove the line`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if want := "  10 |     addess: …\n     |     ^"; !strings.Contains(err.Error(), want) {
		t.Errorf("no excerpt %q in\n%v", want, err)
	}
	if !strings.HasSuffix(err.Error(), "and 1 more") {
		t.Errorf("more than twenty problems are shown:\n%v", err)
	}
	raw, err := json.Marshal(own.Problems[0])
	if err != nil || !strings.Contains(string(raw), `"file":"edr-bridge.yaml","line":2,"column":7,"path":"mode"`) {
		t.Errorf("%s %v", raw, err)
	}
}

func TestSingleMistakes(t *testing.T) {
	t.Parallel()
	const head = "version: 1\n"
	redis := func(rest string) string {
		return head + "sources:\n  a: {type: redis-stream, address: \"127.0.0.1:1\", stream: s, preset: p" + rest + "}\n"
	}
	ksc := func(rest string) string { return head + "ksc: {address: k, user: u" + rest + "}\n" }
	for name, c := range map[string]struct{ text, want string }{
		"empty file":            {"", "the file is empty"},
		"only a comment":        {"# x\n", "the file is empty"},
		"no version":            {"mode: shadow\n", "edr-bridge.yaml:1:1: version: required"},
		"later version":         {"version: 2\n", "edr-bridge.yaml:1:10: version: must be 1, not 2"},
		"two documents":         {head + "---\nversion: 1\n", "only one document"},
		"broken yaml":           {head + "ksc: {address: b\nrules: x\n", "edr-bridge.yaml:3:1: this is no YAML"},
		"tab":                   {head + "\tmode: x\n", "edr-bridge.yaml:2:1: this is no YAML"},
		"a list":                {"- a\n", "must be a mapping"},
		"text":                  {"hello\n", "must be a mapping"},
		"alias":                 {head + "rules: &a [x]\n", "anchors (&)"},
		"unquoted star":         {head + "protect: {hosts: [*dc]}\n", "anchors (&) and aliases (*) are not allowed"},
		"tag":                   {head + "mode: !!str shadow\n", "tags (!) are not allowed"},
		"merge":                 {head + "<<: {mode: enforce}\n", "2:1"},
		"deep":                  {head + strings.Repeat("[", 500), "nested too deeply"},
		"yes is no bool":        {ksc(", system_roots: yes"), `must be true or false, not "yes"`},
		"quoted bool":           {ksc(`, system_roots: "true"`), `must be true or false`},
		"number as text":        {head + "ksc: {address: k, user: 7, ca: c}\n", "ksc.user: must be text: write it in quotes"},
		"octal":                 {redis(", db: 010"), "must be a whole number"},
		"control character":     {ksc(`, system_roots: true, domain: "a\u0007b"`), "without control characters"},
		"trust missing":         {ksc(""), "ksc: say how the certificate is checked"},
		"trust contradictory":   {ksc(", ca: c, insecure: true"), "ksc.insecure: must not stand beside"},
		"fingerprint":           {ksc(", fingerprints: [abcd]"), "ksc.fingerprints[0]: must be a SHA-256"},
		"settle before timeout": {ksc(", ca: c, timeout: 2m, settle_time: 1m"), "must not be shorter than ksc.timeout (2m)"},
		"ksc profiles":          {head + "ksc: {main: {address: a}, branch: {address: b, user: u, ca: c}}\n", "ksc.main.user: required"},
		"ksc profile typo":      {head + "ksc: {main: {address: a, usr: u, ca: c}}\n", "ksc.main.usr: unknown setting"},
		"ksc profile name":      {head + "ksc: {Main: {address: a, user: u, ca: c}}\n", "the name of a profile must be lower-case"},
		"ksc profile beside":    {head + "ksc: {main: {address: a, user: u, ca: c}, address: b}\n", "ksc.address: must be a mapping"},
		"tenant of nothing":     {head + "tenants: {t1: main}\n", "tenants: needs several KSC servers"},
		"tenant of nobody":      {head + "ksc: {main: {address: a, user: u, ca: c}}\ntenants: {t1: mian}\n", `there is no KSC profile "mian", did you mean "main"?`},
		"ksc port":              {head + "ksc: {address: \"k:99999\", user: u, ca: c}\n", "must be host or host:port"},
		"fallback without":      {head + "fallback: local\nlocal: {enabled: false}\n", "fallback: local needs local.enabled"},
		"fallback not asked":    {ksc(", ca: c") + "fallback: local\n", "local needs local.enabled: true"},
		"grace":                 {head + "local: {grace: 2h}\n", "local.grace: must be 0s to 1m, not 2h"},
		"several without":       {head + "sources: {a: {type: redis-stream, addresses: [\"a:1\", \"b:1\"], stream: s, preset: p}}\n", "several need sentinel"},
		"both addresses":        {redis(", addresses: [\"b:1\"]"), "must not stand beside address"},
		"sentinel and cluster":  {redis(", cluster: true, sentinel: {master: m}"), "must not stand beside sentinel"},
		"cluster database":      {redis(", cluster: true, db: 3"), "must be 0 in a cluster"},
		"half a certificate":    {redis(", tls: {cert: c}"), "needs both cert and key"},
		"user without password": {redis(", username: u"), "sources.a.password: required with username"},
		"dead letters to self":  {redis(", dead_letter: s"), "must be another stream"},
		"channel on a stream":   {redis(", channel: c"), "channel: is a setting of redis-pubsub"},
		"relative socket":       {head + "sources: {a: {type: redis-stream, address: \"unix://x\", stream: s, preset: p}}\n", "needs an absolute path"},
		"source name":           {head + "sources: {\"a b\": {type: redis-stream, address: \"a:1\", stream: s, preset: p}}\n", "its name must be letters"},
		"source as text":        {head + "sources: {a: redis}\n", "sources.a: must be a mapping"},
		"type missing":          {head + "sources: {a: {address: \"a:1\"}}\n", "sources.a.type: required"},
		"rule pattern":          {head + "rules: [\"a[\"]\n", "rules[0]: is no pattern"},
		"protected network":     {head + "protect: {addresses: [10.0.0.0/40]}\n", "edr-bridge.yaml:2:23: protect.addresses[0]"},
		"complex key":           {head + "? [a]\n: b\n", "edr-bridge.yaml:3:1: this is no YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, c.text)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %q", err, c.want)
			}
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%T is not *Error: no exit code 78", err)
			}
		})
	}
}

// A password in the file is refused, and no error shows it, whatever else is wrong around it.
func TestLiteralPasswordIsRefusedAndNeverShown(t *testing.T) {
	t.Parallel()
	const head = "version: 1\n"
	for name, text := range map[string]string{
		"literal":            head + "ksc: {address: k, user: u, ca: c, password: " + canary + "}\n",
		"number":             head + "ksc: {address: k, user: u, ca: c, password: 31337}\nmode: " + "x\n",
		"quoted":             head + "ksc:\n  address: k\n  password: \"" + canary + "\"\n  bogus: 1\n",
		"misspelled key":     head + "ksc: {address: k, pasword: " + canary + ", user: u}\n",
		"unknown key":        head + "ksc:\n  kennwort: " + canary + "\n",
		"block":              head + "ksc:\n  password: |\n    " + canary + "\n    more\n  bogus: x\n",
		"folded then broken": head + "ksc:\n  password: >\n    " + canary + "\n   bad\n",
		"unclosed quote":     head + "ksc:\n  password: \"" + canary + "\n  user: x\n",
		"two colons":         head + "password: x: " + canary + "\n",
		"error before":       head + "ksc: {bogus: [, password: " + canary + "}\n",
		"in the address":     head + "sources: {a: {type: redis-stream, address: \"redis://u:" + canary + "@h:1\", stream: s, preset: p}}\n",
		"in the ksc address": head + "ksc: {address: \"u:" + canary + "@k:1\", user: u, ca: c}\n",
		"as a list":          head + "ksc: {address: k, user: u, ca: c, password: [" + canary + "]}\n",
		"as a mapping":       head + "ksc: {address: k, user: u, ca: c, password: {value: " + canary + "}}\n",
		"tagged":             head + "ksc: {address: k, user: u, ca: c, password: !!str " + canary + "}\n",
		"anchored":           head + "ksc: {address: k, user: u, ca: c, password: &p " + canary + "}\n",
		"later source":       head + "sources: {a: {type: kuma-http, token: " + canary + "}}\n",
		"set twice":          head + "ksc: {address: k, user: u, ca: c, password: \"secret:a\", password: " + canary + "}\n",
		"comment beside":     head + "mode: x # password: " + canary + "\n",
		"almost a reference": head + "ksc: {address: k, user: u, ca: c, password: \"secret:" + strings.ToUpper(canary) + "\"}\n",
		"sentinel":           head + "sources: {a: {type: redis-stream, addresses: [\"h:1\"], sentinel: {master: m, password: " + canary + "}, stream: s, preset: p}}\n",
		"carriage returns":   "version: 1\rksc:\r  kennwort: " + canary + "\r  bogus: y\n\n\n",
		"windows line ends":  "version: 1\r\nksc:\r\n  kennwort: >\r\n    " + canary + "\r\n  bogus: y\r\n",
		"key of the chain":   head + "audit: {key: " + canary + "}\n",
		"key then broken":    head + "audit: {key: " + canary + ", anchor_every: [}\n",
		"key of a mapping":   head + "ksc: {address: k, user: u, ca: c, password: {" + canary + ": x}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, text)
			if err == nil {
				t.Fatal("it was taken")
			}
			raw, jsonErr := json.Marshal(err)
			if jsonErr != nil {
				t.Fatal(jsonErr)
			}
			for _, out := range []string{err.Error(), string(raw)} {
				if strings.Contains(strings.ToLower(out), canary) || strings.Contains(out, "31337") {
					t.Errorf("the password is shown:\n%s", out)
				}
			}
		})
	}
	_, err := load(t, head+"ksc: {address: k, user: u, ca: c, password: "+canary+"}\n")
	if !strings.Contains(err.Error(), "edr-bridge secrets set ksc/password") {
		t.Errorf("no way out: %v", err)
	}
	_, err = load(t, head, "EDR_BRIDGE_KSC_PASSWORD", canary)
	if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "EDR_BRIDGE_KSC_PASSWORD") {
		t.Errorf("from the environment: %v", err)
	}
}

func TestReferencesAreThoseOfTheSecretsPackage(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"secret:ksc/password", "secret:a", "secret:", "secret:/a", "secret:a//b", "secret:A", "secret:.a", "secret:a/..", "secret:_a", "a",
		"secret:a b", "secret:" + strings.Repeat("a", 128), "secret:" + strings.Repeat("a", 129), "secret:a/b/c/d/e/f/g/h", "secret:a/b/c/d/e/f/g/h/i",
		"secret:ä", "secret:a-", "secret:-a", "secret:0",
	} {
		_, err := secrets.ParseRef(text)
		if (err == nil) != validRef(text) {
			t.Errorf("%q: configs says %v, secrets %v", text, validRef(text), err)
		}
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, small, "EDR_BRIDGE_MODE", "enforce", "EDR_BRIDGE_KSC_TIMEOUT", "5s", "EDR_BRIDGE_KSC_IN_FLIGHT", "3",
		"EDR_BRIDGE_LOCAL_DRY_RUN", "true", "EDR_BRIDGE_KSC_PASSWORD", "secret:other", "EDR_BRIDGE_LOG_LEVEL", "")
	got := []any{s.Mode, s.KSC.Timeout, s.KSC.InFlight, s.Local.DryRun, s.KSC.Password, s.Log.Level, s.At("ksc.timeout"), s.At("log.level")}
	want := []any{bridge.ModeEnforce, 5 * time.Second, 3, true, SecretRef("secret:other"), "info", "EDR_BRIDGE_KSC_TIMEOUT", "default"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err := load(t, small, "EDR_BRIDGE_KSC_TIMEOUT", "5", "EDR_BRIDGE_MODE", "on", "EDR_BRIDGE_LOCAL_STATE", "state", "EDR_BRIDGE_LOCAL_ENABLED", "yes")
	for _, want := range []string{
		"EDR_BRIDGE_KSC_TIMEOUT: ksc.timeout: must be a time", "EDR_BRIDGE_MODE: mode: must be off", "EDR_BRIDGE_LOCAL_STATE: local.state: must be an absolute",
		"EDR_BRIDGE_LOCAL_ENABLED: local.enabled: must be true or false",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	only, err := Load("", env("EDR_BRIDGE_KSC_ADDRESS", "k:1", "EDR_BRIDGE_KSC_USER", "u", "EDR_BRIDGE_KSC_SYSTEM_ROOTS", "true"))
	if err != nil || only.KSC.Address != "k:1" || only.KSC.InFlight != 16 || only.Local.Enabled {
		t.Errorf("%+v %v", only, err)
	}
}

func TestEveryVariableOfTheTableReachesASetting(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, v := range EnvVars() {
		if seen[v.Name] || v.Meaning == "" {
			t.Errorf("%+v", v)
		}
		seen[v.Name] = true
		if v.Path != "" && !Default(noEnv).field(v.Path).IsValid() {
			t.Errorf("%s: no setting %s", v.Name, v.Path)
		}
		if secret := strings.HasSuffix(strings.ToLower(v.Name), "password") || strings.HasSuffix(v.Name, "_KEY"); secret != v.Sensitive {
			t.Errorf("%s: sensitive is %v", v.Name, v.Sensitive)
		}
	}
}

func TestResolvedLoadsToTheSameSettings(t *testing.T) {
	t.Parallel()
	full, err := os.ReadFile("samples/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{small, string(full), "version: 1\n"} {
		s := mustLoad(t, text)
		out, err := s.Resolved()
		if err != nil {
			t.Fatal(err)
		}
		again, err := build("other.yaml", "/tmp/elsewhere", out, noEnv)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		a, errA := s.Digest()
		b, errB := again.Digest()
		if a != b || len(a) != 64 || errA != nil || errB != nil {
			t.Errorf("%s %s %v %v\n%s", a, b, errA, errB, out)
		}
	}
	changed, err := mustLoad(t, small, "EDR_BRIDGE_MODE", "off").Digest()
	if err != nil {
		t.Fatal(err)
	}
	if same, err := mustLoad(t, small).Digest(); changed == same || err != nil {
		t.Error("a changed mode does not change the digest")
	}
}

func TestSecretsLieBelowTheStateUnlessTheyAreSet(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ yaml, want string }{
		"default":      {"local: {state: /srv/eb}\n", "/srv/eb/secrets"},
		"set":          {"local: {state: /srv/eb}\nsecrets: {dir: /srv/keys}\n", "/srv/keys"},
		"no directory": {"local: {state: /srv/eb}\nsecrets: {backend: keyctl}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "edr-bridge.yaml")
			if err := os.WriteFile(path, []byte("version: 1\n"+tc.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			set, err := Load(path, func(string) (string, bool) { return "", false })
			if err != nil {
				t.Fatal(err)
			}
			if set.Secrets.Dir != tc.want {
				t.Errorf("secrets.dir is %q, want %q", set.Secrets.Dir, tc.want)
			}
		})
	}
}
