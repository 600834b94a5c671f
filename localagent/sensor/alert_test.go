package sensor

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// TestPresetReadsWhatTheSensorWrites keeps the fields a response rests on in step with the preset.
func TestPresetReadsWhatTheSensorWrites(t *testing.T) {
	t.Parallel()
	m, err := mapping.New(mapping.Config{
		Files:   []mapping.RuleFile{{Name: "r", Data: []byte(`rules: [{name: all, mode: enforce, match: {}, do: [{task: isolateHost, params: {action: 1}}]}]`)}},
		Sources: map[string]mapping.Source{"sensor": {Preset: "python-edr"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	o := observe(t, Config{Host: "ws1", Now: func() time.Time { return now }})
	o.w.run(10, 0, 5, "/opt/winword.exe")
	_ = o.seed()
	o.forked(10, 11)
	o.w.run(11, 10, 9, "/opt/powershell.exe", "powershell.exe", "-enc", "<&>\"\\\x00\x1b[31m\xff")
	o.executed(11, 9)
	o.executed(11, 10) // the same once more is left out
	x := <-o.s.sightings
	o.s.digest(t.Context(), &x)
	o.s.finish(x)
	d, err := o.s.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := m.Map(d.Alert)
	if err != nil {
		t.Fatalf("%v in %s", err, d.Alert.Raw)
	}
	a := mapped[0].Alert
	p := a.Process
	if a.Level != LevelHigh || a.Host != "ws1" || !a.Time.Equal(now) || p.PID != 11 || p.Start != 9 || p.Path != "/opt/powershell.exe" ||
		p.Name != "powershell.exe" || p.SHA256 != x.SHA256 || len(p.SHA256) != 64 || p.ParentPath != "/opt/winword.exe" || a.Title != x.Title ||
		!strings.HasPrefix(a.Details, "command line: powershell.exe -enc ") || d.Alert.ID != x.ID || len(mapped[0].Orders) != 1 {
		t.Errorf("alert %+v\nof %s", a, d.Alert.Raw)
	}
	c := sighting{document: document{Level: LevelHigh, Title: "t", Timestamp: stamp(now), Host: "ws1"}}
	c.connection(connection{
		local: netip.MustParseAddrPort("[fe80::1%eth0]:1"), remote: netip.MustParseAddrPort("[2001:db8::7]:443"), protocol: "tcp",
	}, netip.MustParsePrefix("2001:db8::/32"))
	doc, err := c.marshal()
	if err != nil {
		t.Fatal(err)
	}
	mapped, err = m.Map(bridge.Alert{Source: "sensor", Preset: "python-edr", Received: now, Raw: doc})
	if err != nil {
		t.Fatalf("%v in %s", err, doc)
	}
	if got := mapped[0].Alert.SourceAddress; got != netip.MustParseAddr("2001:db8::7") {
		t.Errorf("source address %s of %s", got, doc)
	}
}

func TestAlertIDStaysTheSameAndTellsAlertsApart(t *testing.T) {
	t.Parallel()
	if alertID("a", "bc") == alertID("ab", "c") {
		t.Error("the parts of an id run into each other")
	}
	id := alertID("a")
	if again := alertID("a"); again != id {
		t.Errorf("the id changes from %s to %s", id, again)
	}
	if got := AlertID([]byte(`{"level":"HIGH","id":"` + id + `"}`)); got != id {
		t.Errorf("%q, want %q", got, id)
	}
	for _, doc := range []string{"", "{}", `{"id":"x"}`, `[]`, `{"id":5}`} {
		if got := AlertID([]byte(doc)); got != "" {
			t.Errorf("%s has id %q", doc, got)
		}
	}
}

func TestAlertsShowHostileTextHarmlessly(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(10, 0, 5, "/opt/winword.exe")
	_ = o.seed()
	o.forked(10, 11)
	o.w.run(11, 10, 9, "/opt/\x1b[2J\u202e'\n\xff/powershell.exe", "powershell.exe", strings.Repeat("é", maxCommandLine))
	o.executed(11, 9)
	d := o.one(t)
	if strings.ContainsFunc(d.Description, func(c rune) bool { return c < ' ' || c == '\u202e' }) {
		t.Errorf("description %q", d.Description)
	}
	if !utf8.ValidString(d.Cmdline) || len(d.Cmdline) > maxShownLine || len(d.Cmdline) < maxShownLine-10 {
		t.Errorf("%d bytes of command line", len(d.Cmdline))
	}
	doc, err := d.marshal()
	if err != nil || !json.Valid(doc) || slices.Contains(doc, '\n') || slices.Contains(doc, 0x1b) || len(doc) > 16<<10 {
		t.Errorf("%v: %q", err, doc)
	}
}

func TestTextIsCutAtCharacters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"aé", 2, "a"}, {"a世", 3, "a"}, {"😀", 3, ""}, {"\xff\xfe", 9, "\ufffd"}, {"a\x00b", 9, "a\ufffdb"},
	} {
		if got := clean(tt.text, tt.limit); got != tt.want {
			t.Errorf("%q cut to %d is %q, want %q", tt.text, tt.limit, got, tt.want)
		}
	}
	if pathShown("relative") != "" || pathShown("") != "" || pathShown("/"+strings.Repeat("x", maxShownPath)) != "" {
		t.Error("a path that is none, or too long, is shown")
	}
}

func TestSettingsThatCannotBeAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{
		Spool: Spool{Dir: "relative", MaxBytes: 1}, Poll: time.Nanosecond, Connections: time.Hour, Rate: Rate{PerSecond: math.NaN()},
		RuleRate: Rate{PerSecond: 1}, Baseline: Baseline{Learn: -1, Level: "x", File: "y"}, Rules: []Rule{{}},
		Indicators: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{
		"name:", "spool.dir:", "spool.max_bytes:", "poll:", "connections:", "rate:", "rule_rate:", "baseline:", "baseline.file:", "rule 1:", "indicators:",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
}
