package mapping_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// withPreset is a mapping whose only source reads with a preset of the user's.
func withPreset(t testing.TB, preset, rules string) *mapping.Mapping {
	t.Helper()
	m, err := mapping.New(mapping.Config{
		Files:    []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(rules)}},
		Presets:  []mapping.PresetFile{{Name: "presets.d/own.yaml", Data: []byte(preset)}},
		Sources:  map[string]mapping.Source{"bus": {Preset: "own"}},
		Ceiling:  bridge.ModeEnforce,
		Location: zone,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mapAll(t testing.TB, m *mapping.Mapping, doc string) []bridge.Mapped {
	t.Helper()
	got, err := m.Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestMistakesInPresetFilesAreToldWithTheirPlace(t *testing.T) {
	t.Parallel()
	head := "preset: own\nabout: x\nformat: json\n"
	for name, c := range map[string]struct{ file, want string }{
		"empty":                {"", "own.yaml:1:1: the file is empty"},
		"list":                 {"- a", "own.yaml:1:1: a preset must be a mapping"},
		"no fields":            {head, "own.yaml:1:1: the preset has no fields"},
		"unknown key":          {head + "fields: {id: [x]}\nfeilds: {}", `own.yaml:5:1: unknown field "feilds", did you mean "fields"`},
		"key twice":            {head + "fields: {id: [x]}\nabout: y", `own.yaml:5:1: key "about" is given twice`},
		"unknown field":        {head + "fields: {hots: [x]}", `own.yaml:4:10: unknown field "hots", did you mean "host"`},
		"field of the bridge":  {head + "fields: {source: [x]}", "own.yaml:4:10: source is set by the bridge"},
		"unknown format":       {"preset: own\nabout: x\nformat: jsn\nfields: {id: [x]}", `own.yaml:3:9: unknown format "jsn", did you mean "json"`},
		"no place":             {head + `fields: {id: [a..b]}`, `own.yaml:4:15: "a..b" names no place`},
		"path number":          {head + `fields: {id: [7]}`, `own.yaml:4:15: path must be text`},
		"no list":              {head + `fields: {id: x}`, `own.yaml:4:14: id must be a list`},
		"empty list":           {head + `fields: {id: []}`, `own.yaml:4:14: id must have 1 to 32 places`},
		"too far out":          {head + `fields: {id: ["^.x"]}`, `own.yaml:4:15: "^.x" goes further out`},
		"form of another kind": {head + `fields: {host: [{path: h, as: [hex]}]}`, `own.yaml:4:31: host cannot be read as "hex"`},
		"two units":            {head + `fields: {time: [{path: h, as: [epoch-s, epoch-ms]}]}`, "own.yaml:4:31: a number can be a time in one unit only"},
		"two naives":           {head + `fields: {time: [{path: h, as: [naive-utc, naive-local]}]}`, "naive-local and naive-utc cannot stand together"},
		"levels elsewhere":     {head + `fields: {host: [{path: h, levels: {LOW: 1}}]}`, "own.yaml:4:27: levels is for the field level"},
		"level range":          {head + `fields: {level: [{path: h, levels: {LOW: 9-5}}]}`, "own.yaml:4:42: LOW must be a number, a range like 5-9"},
		"level name":           {head + `fields: {level: [{path: h, levels: {Low: 1}}]}`, `unknown field "Low", did you mean "LOW"`},
		"hashes of nobody":     {head + `fields: {hashes: [x]}`, "own.yaml:4:19: hashes must say whose they are"},
		"into elsewhere":       {head + `fields: {host: [{path: x, into: file}]}`, "into is for hashes"},
		"into what":            {head + `fields: {hashes: [{path: x, into: disk}]}`, `unknown "disk": want process or file`},
		"path and join":        {head + `fields: {host: [{path: x, join: [a, b], with: /}]}`, "write path, or join"},
		"join without with":    {head + `fields: {host: [{join: [a, b]}]}`, "join and with stand together"},
		"join of one":          {head + `fields: {host: [{join: [a], with: /}]}`, "join takes two paths or more"},
		"condition without":    {head + `fields: {host: [{path: a, when: {b: []}}]}`, "own.yaml:4:37: b is an empty list"},
		"condition nested":     {head + `fields: {host: [{path: a, when: {b: {c: d}}}]}`, "b must be compared with text"},
		"strict and each":      {head + "strict: true\neach: [a]\nfields: {host: [a]}", "own.yaml:5:1: a strict preset reads one whole document and has no each"},
		"strict and as":        {head + "strict: true\nfields: {process.pid: [{path: a, as: [hex]}]}", "own.yaml:5:24: a strict preset takes plain places"},
		"strict twice":         {head + "strict: true\nfields: {host: [a], user: [a]}", "own.yaml:5:28: a is read twice"},
		"strict cef":           {"preset: own\nabout: x\nformat: cef\nstrict: true\nfields: {host: [a]}", "own.yaml:4:1: a strict preset reads json"},
		"each of cef":          {"preset: own\nabout: x\nformat: cef\neach: [a]\nfields: {host: [a]}", "own.yaml:3:1: unwrap and each are for json"},
		"taken name":           {"preset: kuma\nabout: x\nformat: json\nfields: {host: [a]}", `own.yaml:1:1: preset name "kuma" is taken by a preset of the bridge`},
		"bad name":             {"preset: a b\nabout: x\nformat: json\nfields: {host: [a]}", "own.yaml:1:9: preset \"a b\" must be 1 to 64"},
		"anchor":               {head + "fields: {host: &a [x]}", "anchors, aliases, merge keys and tags are not used"},
		"not yaml":             {"preset: [", "own.yaml:1:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := mapping.New(mapping.Config{Presets: []mapping.PresetFile{{Name: "own.yaml", Data: []byte(c.file)}}})
			if _, ok := errors.AsType[*mapping.LoadError](err); !ok {
				t.Fatalf("got %T: %v", err, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestTwoPresetsCannotHaveOneName(t *testing.T) {
	t.Parallel()
	file := []byte("preset: own\nabout: x\nformat: json\nfields: {host: [a]}")
	_, err := mapping.New(mapping.Config{Presets: []mapping.PresetFile{{Name: "a.yaml", Data: file}, {Name: "b.yaml", Data: file}}})
	if err == nil || !strings.Contains(err.Error(), `b.yaml:1:1: preset name "own" is taken by the preset in a.yaml`) {
		t.Errorf("got %v", err)
	}
}

func TestSourcesOfUnknownPresetsNameTheNearestOneAlsoOfTheUser(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"wazu": `"wazuh"`, "onw": `"own"`, "../generic": "unknown preset", "": "unknown preset"} {
		_, err := mapping.New(mapping.Config{
			Presets: []mapping.PresetFile{{Name: "own.yaml", Data: []byte("preset: own\nabout: x\nformat: json\nfields: {host: [a]}")}},
			Sources: map[string]mapping.Source{"bus": {Preset: name}},
		})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "sources.bus.preset: unknown preset") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestEveryBuiltInPresetCompilesAndDescribesItself(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, p := range mapping.Presets() {
		names[p.Name] = true
		if p.About == "" || len(p.Formats) == 0 || len(p.Fields) == 0 || p.File != "" {
			t.Errorf("%+v", p)
		}
		if !p.Strict && len(p.Notes) == 0 {
			t.Errorf("%s tells no traps", p.Name)
		}
		newMapping(t, p.Name, "ws1", everyAlert)
	}
	for _, want := range []string{"generic", "python-edr", "kuma", "kuma-alert", "wazuh", "cef"} {
		if !names[want] {
			t.Errorf("no preset %s: its file does not compile", want)
		}
	}
}

func TestPresetsDescribeCandidatesWithFormsAndConditions(t *testing.T) {
	t.Parallel()
	m := withPreset(t, `
preset: own
about: my product
notes: [a trap]
format: [json, text]
unwrap: [w]
each: [a, b]
only: {^.^.kind: [x, null]}
empty: ["-"]
fields:
  host: [h, {path: g, as: [host-port], unless: {t: ["1", null]}, note: n}]
  level: [{path: p, levels: {LOW: [0-4, low], HIGH: 5}}]
  hashes: [{path: ^.sum, into: file, when: {t: 1}}]
`, "rules: []")
	var got mapping.PresetInfo
	for _, p := range m.Presets() {
		if p.Name == "own" {
			got = p
		}
	}
	want := mapping.PresetInfo{
		Name: "own", About: "my product", File: "presets.d/own.yaml", Formats: []string{"json", "text"}, Unwrap: []string{"w"}, Each: []string{"a", "b"},
		Only: "^.^.kind is x or absent", Empty: []string{"-"}, Notes: []string{"a trap"},
		Fields: []mapping.FieldInfo{
			{Path: "h", Field: "host", Type: "text", As: []string{"text"}},
			{Path: "g", Field: "host", Type: "text", As: []string{"text", "host-port"}, When: "t is not 1 or absent", Note: "n"},
			{Path: "p", Field: "level", Type: "level", As: []string{"LOW 0-4, LOW low, HIGH 5"}},
			{Path: "^.sum", Field: "file.md5", Type: "md5", As: []string{"one of several digests"}, When: "t is 1"},
			{Path: "^.sum", Field: "file.sha256", Type: "sha256", As: []string{"one of several digests"}, When: "t is 1"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestPlacesAreFoundDottedNestedAndMixed(t *testing.T) {
	t.Parallel()
	m := withPreset(t, "preset: own\nabout: x\nformat: json\nempty: [\"-\"]\nfields: {host: [a.b.c], user: [u, {path: v, as: [first]}], process.pid: [{path: p, as: [number]}]}", "rules: []")
	for doc, want := range map[string]string{
		`{"a":{"b":{"c":"x"}}}`: "x", `{"a.b.c":"x"}`: "x", `{"a.b":{"c":"x"}}`: "x", `{"a":{"b.c":"x"}}`: "x",
		`{"a":{"b":{"c":"x"}},"a.b.c":"x"}`: "x", `{"a":{"b":{"c":"x"}},"a.b.c":"y"}`: "",
		`{"a":{"b":{"c":["x"]}}}`: "x", `{"a":{"b":{"c":["x","x"]}}}`: "x", `{"a":{"b":{"c":["x","y"]}}}`: "", `{"a":{"b":{"c":["x",{}]}}}`: "", `{"a":{"b":{"c":["x",[]]}}}`: "",
		`{"a":[{"b":{"c":"x"}}]}`: "x", `{"a":[{"b":{"c":"x"}},{"b":{"c":"y"}}]}`: "", `{"a":{"b":{"c":[]}}}`: "", `{"a":{"b":{"c":null}}}`: "",
		`{"a":{"b":{"c":7}}}`: "", `{"a":{"b":{"c":true}}}`: "", `{"a":{"b":{"c":"-"}}}`: "", `{"a":{"b":{"c":["","x"]}}}`: "x", `{"a":{"b":"x"}}`: "", `{"A":{"b":{"c":"x"}}}`: "",
		`{"\u0061":{"b":{"c":"\u0078"}}}`: "x", `{"a":{"b":{"c":"` + strings.Repeat("x", 65<<10) + `"}}}`: "",
	} {
		got := mapAll(t, m, doc)
		if len(got) != 1 || got[0].Alert.Host != want {
			t.Errorf("%.60s: host %q, want %q", doc, got[0].Alert.Host, want)
		}
	}
	for doc, want := range map[string]string{
		`{"u":["a","b"],"v":"c"}`: "", `{"u":null,"v":["c","d"]}`: "c", `{"u":"-","v":"c"}`: "c", `{"u":5,"v":"c"}`: "",
	} {
		if got := mapAll(t, m, doc)[0].Alert.User; got != want {
			t.Errorf("%s: user %q, want %q", doc, got, want)
		}
	}
}

func TestWrapperListAndParentsAreReached(t *testing.T) {
	t.Parallel()
	m := withPreset(t, `
preset: own
about: x
format: json
unwrap: [w.doc, _source]
each: [groups, items]
only: {"^.on": [true, null], ^.^.^.kind: [event, null]}
fields:
  id: [id]
  host: [h, ^.h, ^.^.h]
  case: [^.^.^.case]
  title: [{join: [^.dir, name], with: '\'}]
`, `rules: [{name: r, mode: enforce, match: {raw.^.name: g1, raw.name|exists: true}, do: [{task: isolateHost, params: {action: 1}}]}]`)
	inner := `{"h":"ws-0","groups":[{"h":"ws-1","name":"g1","dir":"C:\\x\\","items":[{"id":"1","name":"a"},{"id":"2","h":"ws-2","name":"b"}]},
		{"name":"g2","dir":"D:","items":[{"id":"3","name":"c"}]},{"on":false,"items":[{"id":"4"}]},{"items":{"id":"5"}},{"items":[]}]}`
	for name, c := range map[string]struct{ doc, kase string }{
		"plain":         {inner, ""},
		"wrapped":       {`{"case":"c-7","w":{"doc":` + inner + `}}`, "c-7"},
		"other wrapper": {`{"kind":"event","case":"c-8","_source":` + inner + `,"w":5}`, "c-8"},
	} {
		got := mapAll(t, m, c.doc)
		var facts []string
		for _, one := range got {
			facts = append(facts, fmt.Sprintf("%s %s %q %s %d", one.Alert.ID, one.Alert.Host, one.Alert.Title, one.Alert.Case, len(one.Orders)))
			if string(one.Alert.Raw) != c.doc {
				t.Errorf("%s: raw is %q", name, one.Alert.Raw)
			}
		}
		want := []string{`1 ws-1 "C:\\x\\a" ` + c.kase + " 1", `2 ws-2 "C:\\x\\b" ` + c.kase + " 1", `3 ws-0 "D:\\c" ` + c.kase + " 0", `5 ws-0 "" ` + c.kase + " 0"}
		if diff := cmp.Diff(want, facts); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	if got := mapAll(t, m, `{"kind":"other","_source":`+inner+`}`); len(got) != 0 {
		t.Errorf("%d alerts of a document that is none", len(got))
	}
}

func TestConditionsThatCannotBeDecidedDoNotHold(t *testing.T) {
	t.Parallel()
	m := withPreset(t, `
preset: own
about: x
format: [json, text]
only: {kind: [event, 3, true, null]}
fields:
  host: [{path: h, when: {on: ["yes", 1]}}]
  user: [{path: u, unless: {off: ["no", null]}}]
`, "rules: []")
	for doc, want := range map[string]string{
		`{"h":"a","u":"b","on":"yes","off":"x"}`: "a b", `{"h":"a","u":"b","on":"YES","off":"NO"}`: "a ", `{"h":"a","u":"b","on":1,"off":null}`: "a ",
		`{"h":"a","u":"b","on":["yes","no"],"off":["x","y"]}`: " ", `{"h":"a","u":"b","on":["yes"],"off":["no"]}`: "a ", `{"h":"a","u":"b"}`: " ",
		`{"h":"a","on":"y\u0065s"}`: "a ", `{"h":"a","on":{"x":"yes"}}`: " ", `{"kind":"other","h":"a"}`: "none", `{"kind":3,"h":"a","on":1}`: "a ",
		`{"kind":true,"h":"a","on":1}`: "a ", "h: a\non: 1\nkind: 3": "a ", "h: a\nkind: 4": "none", "h: " + strings.Repeat("a", 65<<10) + "\non: 1": " ",
	} {
		got, have := mapAll(t, m, doc), "none"
		if len(got) == 1 {
			have = got[0].Alert.Host + " " + got[0].Alert.User
		}
		if have != want {
			t.Errorf("%.80s: %q, want %q", doc, have, want)
		}
	}
	mustRefuse(t, m, `{"kind":["event","other"]}`, "kind: holds several values")
}
