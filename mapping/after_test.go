package mapping_test

import (
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// strikeOf returns the threshold key of the only order a document leads to under a rule that counts by those fields.
func strikeOf(t *testing.T, by, doc string) string {
	t.Helper()
	m := newMapping(t, "generic", "", "rules: [{name: r, match: {}, do: [{task: getFile, params: {path: '${file.path ?: \"/opt/x\"}'}, host: '${host ?: \"ws9\"}'}], after: {count: 3, within: 10m"+by+"}}]")
	got, err := mapDoc(m, doc)
	if err != nil || len(got.Orders) != 1 {
		t.Fatalf("%s: %v, %+v", doc, err, got)
	}
	o := got.Orders[0]
	if o.StrikeCount != 3 || o.StrikeWithin != 10*time.Minute || !strings.HasPrefix(o.Strike, "s") || o.Strike == o.Dedupe {
		t.Errorf("%s: threshold %q %d %s, dedupe %q", doc, o.Strike, o.StrikeCount, o.StrikeWithin, o.Dedupe)
	}
	return o.Strike
}

func TestThresholdCountsAlertsThatAgreeInTheFieldsOfBy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		by, a, b string
		same     bool
	}{
		"another alert":          {"", `{"id":"1","host":"ws1"}`, `{"id":"2","host":"ws1","user":"u","file":{"path":"/a"}}`, true},
		"host in another case":   {"", `{"host":"ws1"}`, `{"host":"WS1"}`, true},
		"another host":           {"", `{"host":"ws1"}`, `{"host":"ws2"}`, false},
		"host spelled out":       {", by: [alert.host]", `{"host":"ws1"}`, `{"host":"ws1","id":"2"}`, true},
		"user over hosts":        {", by: [user]", `{"user":"u","host":"ws1"}`, `{"user":"u","host":"ws2"}`, true},
		"user in another case":   {", by: [user]", `{"user":"u"}`, `{"user":"U"}`, false},
		"two fields":             {", by: [host, user]", `{"host":"a","user":"b"}`, `{"host":"b","user":"a"}`, false},
		"text is not a number":   {", by: [raw.n]", `{"n":5}`, `{"n":"5"}`, false},
		"numbers by value":       {", by: [raw.n]", `{"n":5}`, `{"n":5.0}`, true},
		"lists as a whole":       {", by: [raw.n]", `{"n":["a","b"]}`, `{"n":["a"]}`, false},
		"lists do not run over":  {", by: [raw.n, raw.m]", `{"n":["a","b"],"m":"c"}`, `{"n":"a","m":["b","c"]}`, false},
		"addresses by value":     {", by: [source_ip]", `{"source_ip":"::ffff:203.0.113.7"}`, `{"source_ip":"203.0.113.7"}`, true},
		"values that look joint": {", by: [user, title]", `{"user":"a\",\"b","title":"c"}`, `{"user":"a","title":"b\",\"c"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if a, b := strikeOf(t, c.by, c.a), strikeOf(t, c.by, c.b); (a == b) != c.same {
				t.Errorf("%s and %s give %s and %s, want the same: %v", c.a, c.b, a, b, c.same)
			}
		})
	}
}

func TestEachElementOfDoHasAThresholdOfItsOwn(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "generic", "", `
rules:
  - {name: a, match: {}, do: [{task: isolateHost, params: {action: 1}}, {task: isolateHost, params: {action: 1}}, {task: getFile, params: {path: /a}}], after: {count: 2, within: 1m}}
  - {name: b, match: {}, do: [{task: isolateHost, params: {action: 1}}], after: {count: 2, within: 1m}}
`)
	got, err := mapDoc(m, `{"host":"ws1"}`)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, o := range got.Orders {
		keys[o.Strike] = true
	}
	if len(got.Orders) != 4 || len(keys) != 4 {
		t.Errorf("%d orders with %d keys, want 4 of each", len(got.Orders), len(keys))
	}
}

func TestIsolationWithoutForLastsTheLeaseOfTheSettings(t *testing.T) {
	t.Parallel()
	for lease, want := range map[time.Duration]time.Duration{
		0: 4 * time.Hour, time.Second: time.Second, 720 * time.Hour: 720 * time.Hour,
		-1: 0, 999 * time.Millisecond: 0, 720*time.Hour + 1: 0,
	} {
		m, err := mapping.New(mapping.Config{
			Files:   []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(everyAlert)}},
			Sources: map[string]mapping.Source{"bus": {Preset: "generic"}},
			Ceiling: bridge.ModeEnforce, Lease: lease,
		})
		if want == 0 {
			if err == nil || !strings.Contains(err.Error(), "leases.default: must be from 1s to 720h") {
				t.Errorf("lease %s: got %v", lease, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := mapDoc(m, `{"host":"ws1"}`)
		if err != nil || len(got.Orders) != 1 {
			t.Fatalf("%v, %+v", err, got)
		}
		if got.Orders[0].For != want {
			t.Errorf("lease %s: isolated for %s, want %s", lease, got.Orders[0].For, want)
		}
	}
}
