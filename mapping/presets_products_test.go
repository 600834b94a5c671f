package mapping_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// jsonPresets are the presets that read JSON and are not strict.
func jsonPresets() []mapping.PresetInfo {
	return slices.DeleteFunc(mapping.Presets(), func(p mapping.PresetInfo) bool { return p.Strict || !slices.Contains(p.Formats, "json") })
}

// needed is what a document must hold to be an alert of a preset at all, by place.
func needed(preset string) map[string]any {
	switch preset {
	case "alertmanager", "grafana":
		return map[string]any{"status": "firing"}
	case "sentinel-hosts":
		return map[string]any{"kind": "Host"}
	default:
		return nil
	}
}

// documentOf builds a document with values at places of a preset: "^." in front leads to the document around.
func documentOf(t testing.TB, p *mapping.PresetInfo, values map[string]any) string {
	t.Helper()
	layers := make([]map[string]any, 1+len(p.Each))
	for i := range layers {
		layers[i] = map[string]any{}
	}
	wrapper := map[string]any{}
	for _, place := range slices.Sorted(maps.Keys(values)) {
		path, at := place, len(layers)-1
		for strings.HasPrefix(path, "^.") {
			path, at = path[2:], at-1
		}
		if at < 0 {
			put(wrapper, path, values[place])
		} else {
			put(layers[at], path, values[place])
		}
	}
	for i := len(layers) - 1; i > 0; i-- {
		put(layers[i-1], p.Each[i-1], []any{layers[i]})
	}
	doc := layers[0]
	if len(p.Unwrap) > 0 {
		put(wrapper, p.Unwrap[0], doc)
		doc = wrapper
	}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// put sets a place with dots; the last name of a place that is taken already is written with dots beside it.
func put(object map[string]any, path string, value any) {
	for {
		name, rest, nested := strings.Cut(path, ".")
		sub, ok := object[name].(map[string]any)
		switch {
		case !nested || object[name] != nil && !ok:
			object[path] = value
			return
		case !ok:
			sub = map[string]any{}
			object[name] = sub
		}
		object, path = sub, rest
	}
}

// factsOf lists the facts of an alert by the names of the fields.
func factsOf(a *bridge.Alert) map[string]string {
	facts := map[string]string{
		"id": a.ID, "time": "", "level": a.Level, "title": a.Title, "description": a.Description, "details": a.Details, "tenant": a.Tenant, "case": a.Case,
		"host": a.Host, "user": a.User, "process.name": a.Process.Name, "process.path": a.Process.Path, "process.md5": a.Process.MD5,
		"process.sha256": a.Process.SHA256, "process.command_line": a.Process.CommandLine, "process.parent.name": a.Process.ParentName,
		"process.parent.path": a.Process.ParentPath, "file.path": a.File.Path, "file.md5": a.File.MD5, "file.sha256": a.File.SHA256,
	}
	if !a.Time.IsZero() {
		facts["time"] = stamp(a.Time)
	}
	if a.Process.PID != 0 {
		facts["process.pid"] = fmt.Sprint(a.Process.PID)
	}
	if a.Process.Start != 0 {
		facts["process.start"] = fmt.Sprint(a.Process.Start)
	}
	if a.SourceAddress.IsValid() {
		facts["source_ip"] = a.SourceAddress.String()
	}
	if a.DestinationAddress.IsValid() {
		facts["destination_ip"] = a.DestinationAddress.String()
	}
	maps.DeleteFunc(facts, func(_, v string) bool { return v == "" })
	return facts
}

// oneAlert maps a delivery that must be one alert.
func oneAlert(t *testing.T, preset, doc string) map[string]string {
	t.Helper()
	mapped, err := newMapping(t, preset, "", "rules: []").Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)})
	if err != nil || len(mapped) != 1 || len(mapped[0].Refused) > 0 {
		t.Fatalf("%s: %s: %d alerts, %v", preset, doc, len(mapped), err)
	}
	return factsOf(&mapped[0].Alert)
}

func TestADocumentThatTellsNothingGivesNothingButItsDigest(t *testing.T) {
	t.Parallel()
	for _, p := range jsonPresets() {
		doc := documentOf(t, &p, needed(p.Name))
		facts := oneAlert(t, p.Name, doc)
		if len(facts["id"]) != 33 || len(facts) != 1 {
			t.Errorf("%s: %s: %v", p.Name, doc, facts)
		}
	}
	for _, c := range []struct{ preset, doc, want string }{
		{"cef", "CEF:0|||||||", ""},
		{"cef", "<13>1 - - - - - - CEF:0|||||||", ""},
		{"kuma", "CEF:0|||||||x=1", ""},
		{"syslog", "<13>1 - - - - - - {}", "description:{} level:LOW"},
		{"syslog", "CEF:0||p|||||", ""},
		{"kes", "X: y", ""},
		{"syslog", "<13>1 - - - - - - CEF:0||p|||||", "description:CEF:0||p|||||"},
	} {
		facts := oneAlert(t, c.preset, c.doc)
		delete(facts, "id")
		if got := strings.Trim(fmt.Sprint(facts), "map[]"); got != c.want {
			t.Errorf("%s: %s: %s, want %s", c.preset, c.doc, got, c.want)
		}
	}
}

// TestNoFieldIsFilledFromAPlaceThatIsNotItsOwn puts values at one place after another. Only fields that the preset declares for the
// place may be filled, and what follows from them by definition.
func TestNoFieldIsFilledFromAPlaceThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	follows := map[string]string{"process.name": "process.path", "process.parent.name": "process.parent.path"}
	values := []any{
		"some text", 7312, "7312", "high", 3, "2026-11-20T17:06:56Z", "C:\\Users\\Public\\a.exe", "/usr/bin/a", "203.0.113.7", "203.0.113.7:80", strings.Repeat("a1", 16),
		strings.Repeat("b2", 32), "MD5=" + strings.Repeat("a1", 16), true, false, nil,
		[]any{"x", "y"},
		[]any{map[string]any{"name": "x"}},
		map[string]any{"a": 1},
		"", 1795194416123,
	}
	for _, p := range jsonPresets() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			m := newMapping(t, p.Name, "", "rules: []")
			for _, f := range p.Fields {
				places := strings.Split(f.Path, " + ")
				own := map[string]bool{}
				for _, other := range p.Fields {
					if slices.ContainsFunc(strings.Split(other.Path, " + "), func(at string) bool { return slices.Contains(places, at) }) {
						own[other.Field] = true
					}
				}
				for _, v := range values {
					at := maps.Clone(needed(p.Name))
					if at == nil {
						at = map[string]any{}
					}
					for _, place := range places {
						at[place] = v
					}
					doc := documentOf(t, &p, at)
					mapped, err := m.Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)})
					if err != nil || len(mapped) == 0 || len(mapped[0].Refused) > 0 {
						continue // a place of only, whose value says that this is no alert
					}
					for name, got := range factsOf(&mapped[0].Alert) {
						digest := name == "id" && len(got) == 33 && got[0] == 'd'
						if !digest && !own[name] && !own[follows[name]] {
							t.Errorf("%s fills %s with %q: %s", f.Path, name, got, doc)
						}
					}
				}
			}
		})
	}
}

// TestNoFieldOfAFlatDocumentIsFilledFromAnotherPlace does the same for CEF, for JSON behind a syslog header, and for text.
func TestNoFieldOfAFlatDocumentIsFilledFromAnotherPlace(t *testing.T) {
	t.Parallel()
	follows := map[string]string{"process.name": "process.path", "process.parent.name": "process.parent.path"}
	values := []string{"some text", "7312", "high", "C:/Users/a.exe", "/usr/bin/a", "203.0.113.7", "1795194416123", "Nov 20 2026 17:06:56 UTC", strings.Repeat("a1", 16), strings.Repeat("b2", 32)}
	const header = "<13>1 - - - - - - "
	shapes := map[string][]string{"cef": {"CEF:0|||||||%s=%s"}, "kuma": {"CEF:0|||||||%s=%s"}, "syslog": {"CEF:0|||||||%s=%s", header + `{"%s":"%s"}`}, "kes": {"X: y\n%s: %s"}}
	for _, p := range mapping.Presets() {
		for _, shape := range shapes[p.Name] {
			// The header of syslog itself tells a severity and a text.
			base := factsOf(&bridge.Alert{})
			if strings.HasPrefix(shape, header) {
				base["level"], base["description"] = "LOW", "the JSON"
			}
			for _, f := range p.Fields {
				for place := range strings.SplitSeq(f.Path, " + ") {
					if strings.HasPrefix(place, "cef.") || strings.HasPrefix(place, "syslog.") || strings.Contains(shape, "CEF:") && strings.Contains(place, ".") {
						continue // of the header, or no key of CEF
					}
					own := map[string]bool{"id": true}
					for _, other := range p.Fields {
						if slices.Contains(strings.Split(other.Path, " + "), place) {
							own[other.Field] = true
						}
					}
					for _, v := range values {
						doc := fmt.Sprintf(shape, place, v)
						mapped, err := newMapping(t, p.Name, "", "rules: []").Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)})
						if err != nil || len(mapped) != 1 {
							if place != "Type" {
								t.Errorf("%s: %q: %d alerts, %v", p.Name, doc, len(mapped), err)
							}
							continue
						}
						for name, got := range factsOf(&mapped[0].Alert) {
							if !own[name] && !own[follows[name]] && base[name] == "" {
								t.Errorf("%s: %s fills %s with %q", p.Name, place, name, got)
							}
						}
					}
				}
			}
		}
	}
}

func TestHostileTextArrivesAsOneValueOrNotAtAll(t *testing.T) {
	t.Parallel()
	texts := []string{
		"$(reboot)", "`reboot`", "a\u202eexe.b", "x\ny", "\x1b[2J", "--action=0", `"; DROP`, "{{.Host}}", "${host}", "%COMPUTER%", "a b", "' OR 1=1", "*", "../../etc/passwd", "\ufeffx", "<script>",
		strings.Repeat("x", 300), "C:\\a\\..\\b", "\\\\server\\share\\x", "0x7f000001", "dc01,dc02",
	}
	shaped := func(got, text string) bool {
		return got == text || got == bridge.BaseName(text) || strings.HasPrefix(text, got+":")
	}
	for _, p := range jsonPresets() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			m := newMapping(t, p.Name, "", everyAlert)
			for _, f := range p.Fields {
				if f.Type != "text" && f.Type != "id" || strings.Contains(f.Path, " + ") {
					continue
				}
				for _, text := range texts {
					at := map[string]any{f.Path: text}
					maps.Copy(at, needed(p.Name))
					doc := documentOf(t, &p, at)
					mapped, err := m.Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)})
					if err != nil {
						t.Fatalf("%s: %v", doc, err)
					}
					for _, one := range mapped {
						got := factsOf(&one.Alert)[f.Field]
						if got != "" && !shaped(got, text) && (f.Field != "id" || len(got) != 33) {
							t.Errorf("%s: %s is %q, was %q", f.Path, f.Field, got, text)
						}
						if f.Type == "id" && strings.ContainsAny(got, "\n\x1b") {
							t.Errorf("%s: %s is %q", f.Path, f.Field, got)
						}
					}
				}
			}
		})
	}
}

func TestSeveritiesOfTheWholeScale(t *testing.T) {
	t.Parallel()
	const none = ""
	low, medium, high, critical := "LOW", "MEDIUM", "HIGH", "CRITICAL"
	for _, c := range []struct {
		preset, place string
		levels        map[any]string
	}{
		{"falco", "priority", map[any]string{
			"Emergency": critical, "ALERT": critical, "critical": critical, "Error": high, "Warning": medium, "Notice": low, "Informational": low, "Info": low, "Debug": low,
			"Fatal": none, 3: none, "": none,
		}},
		{"elastic", "kibana.alert.severity", map[any]string{"low": low, "medium": medium, "High": high, "critical": critical, "none": none, 73: none}},
		{"elastic", "kibana.alert.risk_score", map[any]string{0: low, 21: low, 22: medium, 47: medium, 48: high, 73: high, 74: critical, 100: critical, 101: none, -1: none, "73": high}},
		{"splunk", "result.severity", map[any]string{"informational": low, "low": low, "medium": medium, "high": high, "critical": critical, "unknown": none, "5": none}},
		{"sentinel", "properties.severity", map[any]string{"Informational": low, "Low": low, "Medium": medium, "High": high, "Critical": none}},
		{"sentinel-hosts", "^.properties.severity", map[any]string{"Informational": low, "Low": low, "Medium": medium, "High": high, "x": none}},
		{"crowdstrike", "event.SeverityName", map[any]string{"Informational": low, "Low": low, "Medium": medium, "High": high, "Critical": critical, "": none, 5: none}},
		{"crowdstrike", "event.Severity", map[any]string{5: none, 70: none}},
		{"alertmanager", "labels.severity", map[any]string{"info": low, "warning": medium, "error": high, "high": high, "critical": critical, "page": critical, "none": none, "P1": none}},
		{"grafana", "labels.severity", map[any]string{"low": low, "medium": medium, "major": high, "emergency": critical, "1": none}},
		{"graylog", "event.priority", map[any]string{0: low, 1: low, 2: medium, 3: high, 4: critical, 5: none, "3": high, "high": none}},
		{"zircolite", "^.rule_level", map[any]string{"informational": low, "low": low, "medium": medium, "high": high, "critical": critical, "severe": none}},
		{"sysmon", "level", map[any]string{"Information": none, "Critical": none}},
		{"wazuh", "rule.level", map[any]string{0: low, 4: low, 5: medium, 9: medium, 10: high, 14: high, 15: critical, 16: critical, 17: none, "12": high}},
	} {
		for _, p := range jsonPresets() {
			if p.Name != c.preset {
				continue
			}
			for value, want := range c.levels {
				at := map[string]any{c.place: value}
				maps.Copy(at, needed(p.Name))
				if got := oneAlert(t, p.Name, documentOf(t, &p, at))["level"]; got != want {
					t.Errorf("%s: %s %v is %q, want %q", p.Name, c.place, value, got, want)
				}
			}
		}
	}
	for pri, want := range []string{critical, critical, critical, high, medium, low, low, low} {
		if got := oneAlert(t, "syslog", fmt.Sprintf("<%d>1 - ws-1 - - - - text", 8+pri))["level"]; got != want {
			t.Errorf("syslog: severity %d is %q, want %q", pri, got, want)
		}
		if got := oneAlert(t, "syslog", fmt.Sprintf("<%d>1 - ws-1 - - - - CEF:0|a|b|c|d|e|Unknown|", 8+pri))["level"]; got != "" {
			t.Errorf("syslog: CEF of an unknown severity is %q", got)
		}
	}
	for text, want := range map[string]string{
		"Info": low, "Warning": medium, "Error": high, "Critical": critical, "1": low, "4": critical, "5": none, "Functional failure": none, "critical ": critical,
	} {
		if got := oneAlert(t, "kes", "Severity: "+text)["level"]; got != want {
			t.Errorf("kes: %q is %q, want %q", text, got, want)
		}
	}
}

// TestThePresetOfTheDocumentationReadsItsSample compiles the preset shown in docs/presets.md and reads the document shown above it.
func TestThePresetOfTheDocumentationReadsItsSample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/presets.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := func(language string) string {
		_, rest, found := strings.Cut(string(page), "\n```"+language+"\n")
		text, _, closed := strings.Cut(rest, "\n```\n")
		if !found || !closed {
			t.Fatalf("no block of %s", language)
		}
		return text
	}
	preset := strings.Replace(shown("yml"), "preset: acme-shield", "preset: own", 1)
	got := mapAll(t, withPreset(t, preset, "rules: []"), shown("json"))
	if len(got) != 1 {
		t.Fatalf("%d alerts", len(got))
	}
	want := map[string]string{
		"id": "i-1", "tenant": "t-7", "time": "2026-11-20T17:06:56Z", "level": "HIGH", "host": "ws-017", "process.path": "C:\\Users\\Public\\a.exe", "process.name": "a.exe",
		"process.pid": "7312", "process.md5": "44d88612fea8a8f36de82e1278abb02f", "source_ip": "203.0.113.7",
	}
	if diff := cmp.Diff(want, factsOf(&got[0].Alert)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, p := range mapping.Presets() {
		if !strings.Contains(string(page), "`"+p.Name+"`") {
			t.Errorf("docs/presets.md does not name preset %s", p.Name)
		}
	}
}
