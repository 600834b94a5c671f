package configs

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestSourcesOfIssuesHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, `version: 1
local: {state: /var/lib/x}
kuma: {address: core, system_roots: true}
sources:
  corr: {type: kuma-http, auth: {hmac: {keys: {k: "secret:k"}}}}
  soar: {type: kuma-soar, token: "secret:soar"}
  poll: {type: kuma-poll}
  calls: {type: kuma-script}
  hook: {type: webhook, preset: falco, auth: {body_hmac: {key: "secret:k"}}}
`)
	corr, soar, poll, calls, hook := s.Sources["corr"], s.Sources["soar"], s.Sources["poll"], s.Sources["calls"], s.Sources["hook"]
	got := []any{
		soar.Path, corr.Path, corr.Preset, soar.Preset, soar.Tags.ID, soar.Tags.URL, poll.Every, poll.Preset, calls.Preset, calls.Socket,
		calls.Spool, calls.Mode, hook.Path, hook.Auth.BodyHMAC.Header, s.KUMA.Address, s.KUMA.Token, s.KUMA.Version, s.HTTP.Listen,
	}
	want := []any{
		"/api/v2", "/corr", "kuma", "kuma-alert", "alert_id", "kuma_url", 10 * time.Second, "kuma-alert", "kuma-call", "/var/lib/x/kuma.sock",
		"/var/lib/x/spool", bridge.ModeEnforce, "/hook", "X-Hub-Signature-256", "core:7223", SecretRef("secret:kuma/token"), "auto", "127.0.0.1:8448",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesInSourcesThatAreCalled(t *testing.T) {
	t.Parallel()
	hook := func(rest string) string { return "sources: {a: {type: webhook, preset: falco" + rest + "}}\n" }
	const beyond = "http: {listen: \"0.0.0.0:8448\"}\n"
	const secured = "http: {listen: \"0.0.0.0:8448\", tls: {cert: a, key: b}}\n"
	const core = "kuma: {address: core, system_roots: true}\n"
	for name, tc := range map[string]struct{ text, want string }{
		"listener":              {"http: {listen: here}\n", "http.listen: must be host:port"},
		"beyond without tls":    {beyond + hook(""), "http.listen: beyond this machine needs http.tls"},
		"beyond without auth":   {secured + hook(""), "sources.a.auth: required beyond this machine"},
		"beyond with auth":      {secured + hook(`, auth: {bearer: "secret:t"}`), ""},
		"beyond by tls, no key": {"http: {listen: \"0.0.0.0:8448\", tls: {cert: a}}\n" + hook(`, auth: {bearer: "secret:t"}`), "http.tls.key: required"},
		"two ways":              {hook(`, auth: {bearer: "secret:t", basic: {user: u, password: "secret:p"}}`), "must be exactly one of"},
		"no way":                {hook(", auth: {}"), "must be exactly one of"},
		"token itself":          {hook(", auth: {bearer: hunter2}"), "must be a reference"},
		"clients":               {hook(", auth: {clients: [a]}"), "needs http.tls.client_ca"},
		"hmac without keys":     {hook(", auth: {hmac: {keys: {}}}"), "auth.hmac.keys: required"},
		"three keys":            {hook(`, auth: {hmac: {keys: {a: "secret:a", b: "secret:b", c: "secret:c"}}}`), "must be two at most"},
		"path":                  {hook(", path: alerts"), "must be a path such as /alerts"},
		"path twice":            {"sources: {a: {type: webhook, preset: falco, path: /x}, b: {type: kuma-http, path: /x}}\n", "is the path of sources.b as well"},
		"encoding":              {hook(", encodings: [br]"), "must be gzip or snappy"},
		"peer":                  {hook(", peers: [corp.local]"), "must be an address or a network"},
		"rate of nothing":       {hook(", rate: {}"), "needs requests, alerts or both"},
		"rate":                  {hook(", rate: {alerts: 0}"), "sources.a.rate"},
		"foreign":               {hook(", stream: s"), "sources.a.stream: is a setting of redis-stream"},
		"foreign to redis":      {"sources: {a: {type: redis-pubsub, address: \"r:1\", channel: c, preset: falco, path: /x}}\n", "is a setting of webhook, kuma-http, kuma-soar"},
		"profile of none":       {hook(", ksc: main"), `there is no KSC profile "main"`},
		"hosts":                 {hook(`, hosts: ["a@b"]`), "sources.a.hosts[0]: is no host name or glob"},
		"soar without core":     {`sources: {a: {type: kuma-soar, token: "secret:t"}}` + "\n", "needs the REST API of KUMA"},
		"soar without token":    {core + "sources: {a: {type: kuma-soar}}\n", "sources.a.token: required"},
		"poll often":            {core + "sources: {a: {type: kuma-poll, every: 10ms}}\n", "sources.a.every"},
		"script preset":         {"sources: {a: {type: kuma-script, preset: kuma}}\n", "call-outs have a form of their own"},
		"script mode":           {"sources: {a: {type: kuma-script, mode: off}}\n", "sources.a.mode: must be shadow"},
		"script socket":         {"sources: {a: {type: kuma-script, socket: /" + strings.Repeat("x", 107) + "}}\n", "must be 107 bytes at most"},
		"syslog beyond":         {"sources: {a: {type: syslog, preset: cef, listen: \"0.0.0.0:514\"}}\n", "needs server_tls with client_ca, or allow_plain"},
		"syslog nowhere":        {"sources: {a: {type: syslog, preset: cef}}\n", "sources.a.listen: required"},
		"core unchecked":        {"kuma: {address: core}\n", "say how the certificate is checked"},
		"core version":          {"kuma: {address: core, system_roots: true, version: v4}\n", "kuma.version: must be auto"},
		"list unnamed":          {"kuma: {address: core, system_roots: true, feedback: {active_lists: [{correlator: c}]}}\n", "active_lists[0].list: required"},
		"close":                 {"kuma: {address: core, system_roots: true, feedback: {close: done}}\n", "kuma.feedback.close: must be responded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, "version: 1\n"+tc.text)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
