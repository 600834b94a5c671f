package mapping_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

const fuzzRules = `
rules:
  - {name: a, mode: enforce, match: {raw.a.b|not: x, level|gte: LOW}, do: [{task: getFile, params: {path: "${raw.a.b}"}}]}
  - name: b
    mode: enforce
    match: {}
    do:
      - {task: terminateProcess, subject: process, params: {sha256hash: '${process.sha256 ?: ""}'}}
      - {task: isolateHost, params: {action: "${raw.action ?: 1}"}, host: "${raw.a.list}"}
    dedupe: {by: [raw.a, user]}
  - name: c
    mode: enforce
    match: {}
    do: [{task: isolateHost, params: {action: 1}}, {task: blockAddress, params: {address: "${source_ip}"}}]
    after: {count: 3, within: 10m, by: [host, raw.a.list]}
`

// golden returns the parts of all golden files with that position.
func golden(f *testing.F, part int) []string {
	f.Helper()
	files, err := filepath.Glob("testdata/golden/*.golden")
	if err != nil || len(files) == 0 {
		f.Fatalf("golden files: %v, %v", files, err)
	}
	var list []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		list = append(list, strings.Split(string(data), separator)[part])
	}
	return list
}

// FuzzAlert holds the reader against encoding/json: what it accepts, the other reads the same way.
func FuzzAlert(f *testing.F) {
	for _, doc := range append(golden(f, 1), fullAlert, `{"actionable_pid":1e3}`, `{"process.pid":7,"process":{"path":"\ud83d\ude00"}}`,
		`{"a":{"b":[1,{"c":2},[3],"x"],"list":"ws1"},"action":0}`, `{"a.b":true,"a":{"b":null}}`) {
		f.Add([]byte(doc))
	}
	mappings := map[string]*mapping.Mapping{}
	presets := mapping.Presets()
	presets = slices.DeleteFunc(presets, func(p mapping.PresetInfo) bool { return !p.Strict })
	for _, p := range presets {
		mappings[p.Name] = newMapping(f, p.Name, "ws1", fuzzRules)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		before := bytes.Clone(doc)
		for _, p := range presets {
			raw := bridge.Alert{Source: "bus", Received: received, Raw: doc}
			got, err := mappings[p.Name].Map(raw)
			if !bytes.Equal(before, doc) {
				t.Fatal("the document was changed")
			}
			if err != nil {
				if !errors.Is(err, bridge.ErrBadAlert) || got != nil {
					t.Fatalf("got %v with %v", got, err)
				}
				continue
			}
			again, err := mappings[p.Name].Map(raw)
			if err != nil {
				t.Fatalf("second time: %v", err)
			}
			if diff := cmp.Diff(got, again, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Fatalf("-first +again\n%s", diff)
			}
			sameAsStandard(t, p, doc, got[0].Alert)
			checkOrders(t, got[0])
		}
	})
}

// sameAsStandard reads the document with encoding/json and compares every field of the preset.
func sameAsStandard(t *testing.T, p mapping.PresetInfo, doc []byte, a bridge.Alert) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		t.Fatalf("accepted, but %v", err)
	}
	flat := map[string]any{}
	flatten(flat, "", object)
	got := map[string]string{
		"title": a.Title, "description": a.Description, "details": a.Details, "user": a.User,
		"process.command_line": a.Process.CommandLine, "process.path": a.Process.Path, "process.parent.path": a.Process.ParentPath, "file.path": a.File.Path,
	}
	for _, f := range p.Fields {
		switch v := flat[f.Path].(type) {
		case nil:
		case string:
			if have, ok := got[f.Field]; ok && have != v {
				t.Fatalf("%s: %q, encoding/json has %q", f.Path, have, v)
			}
		case json.Number:
			if n, err := v.Int64(); f.Field == "process.pid" && (err != nil || n != int64(a.Process.PID)) {
				t.Fatalf("%s: %d, encoding/json has %s", f.Path, a.Process.PID, v)
			}
		default:
			t.Fatalf("%s: accepted a %T", f.Path, v)
		}
	}
}

func flatten(to map[string]any, at string, object map[string]any) {
	for key, v := range object {
		if sub, ok := v.(map[string]any); ok {
			flatten(to, at+key+".", sub)
			continue
		}
		if v != nil {
			to[at+key] = v
		}
	}
}

// checkOrders holds what every order promises.
func checkOrders(t *testing.T, m bridge.Mapped) {
	t.Helper()
	for _, o := range m.Orders {
		if o.ID == "" || o.Host == "" || o.Task == nil || o.State != "" {
			t.Fatalf("incomplete order %+v", o)
		}
		if counted := o.Strike != ""; counted != (o.StrikeCount >= 2 && o.StrikeCount <= 10000) ||
			counted != (o.StrikeWithin >= time.Second && o.StrikeWithin <= 24*time.Hour) {
			t.Fatalf("half a threshold in %+v", o)
		}
		if o.Subject.PID == 0 {
			if err := o.Task.Validate(); err != nil {
				t.Fatalf("invalid order: %v", err)
			}
		}
	}
	for _, o := range m.Refused {
		if o.ID == "" || o.State != bridge.StateRefused || o.Reason == "" || o.Detail == "" || strings.ContainsAny(o.Detail, "\n\x1b") || o.Strike != "" {
			t.Fatalf("incomplete refusal %+v", o)
		}
	}
}

// FuzzRules feeds the loader: no panic, every problem has a place in the file, what loads can be used.
func FuzzRules(f *testing.F) {
	for _, rules := range append(golden(f, 0), fuzzRules, "rules: {a: b}",
		"rules: [{name: r, match: {}, do: [{task: isolateHost, params: {action: 1}}], after: {count: 0x7fff, within: -1s, by: [time, ~]}}]",
		"rules: [{name: r, match: {}, do: [{task: isolateHost, params: {action: 1}}], after: {count: -3, within: 24h, by: [alert.user, raw.extra.list]}}]",
		"rules:\n- after:\n    count: 99999999999999999999\n    within: 1e9h\n    by: host", "? - a\n: b", "rules: [~]", "- \"", "a: |\n  x\n b", "%YAML 1.2\n---\nrules: !!seq []") {
		f.Add([]byte(rules))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8<<10 {
			return
		}
		m, err := mapping.New(mapping.Config{
			Files:   []mapping.RuleFile{{Name: "rules.yaml", Data: data}},
			Sources: map[string]mapping.Source{"bus": {Preset: "generic"}},
			Ceiling: bridge.ModeEnforce,
		})
		if err != nil {
			le, ok := errors.AsType[*mapping.LoadError](err)
			if !ok || len(le.Problems) == 0 {
				t.Fatalf("got %T: %v", err, err)
			}
			for _, p := range le.Problems {
				if p.Line < 1 || p.Column < 1 || p.Message == "" || strings.Contains(le.Text(false), "\x1b") {
					t.Fatalf("bad problem %+v", p)
				}
			}
			return
		}
		for _, doc := range []string{`{}`, fullAlert} {
			got, err := m.Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)})
			if err != nil && !errors.Is(err, bridge.ErrBadAlert) {
				t.Fatal(err)
			}
			for _, one := range got {
				checkOrders(t, one)
			}
		}
	})
}
