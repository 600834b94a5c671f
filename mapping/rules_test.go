package mapping_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

const fullAlert = `{"id":"a1","time":"2026-11-20T17:06:00Z","level":"HIGH","title":"Office spawns Shell","description":"d","details":"x","host":"ws1","user":"CORP\\bob",
 "process":{"pid":4242,"start":77,"name":"PowerShell.exe","path":"C:\\Windows\\PowerShell.exe","md5":"44d88612fea8a8f36de82e1278abb02f",
  "sha256":"275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f","command_line":"powershell -enc AAAA","parent":{"name":"winword.exe","path":"C:\\Office\\winword.exe"}},
 "file":{"path":"/tmp/x","md5":"","sha256":""},"source_ip":"::ffff:203.0.113.7","destination_ip":"2001:db8::5","extra":{"n":5,"f":1.5,"s":"Text","list":["a","b",3],"empty":[],"none":null,"sub":{"k":1}}}`

func TestMatchKeys(t *testing.T) {
	t.Parallel()
	for match, want := range map[string]bool{
		`{}`:                                                   true,
		`{level: high}`:                                        true,
		`{level: [LOW, HIGH]}`:                                 true,
		`{level: LOW}`:                                         false,
		`{level|gte: HIGH}`:                                    true,
		`{level|gt: HIGH}`:                                     false,
		`{level|lt: CRITICAL, level|not: LOW}`:                 true,
		`{process.name: powershell.exe}`:                       true,
		`{process.name|cased: powershell.exe}`:                 false,
		`{process.name|cased: PowerShell.exe}`:                 true,
		`{process.name: power*.EXE}`:                           true,
		`{process.name: "power?hell.exe"}`:                     true,
		`{process.name: "power??hell.exe"}`:                    false,
		`{process.name: "*"}`:                                  true,
		`{process.name: shell}`:                                false,
		`{process.name|contains: shell}`:                       true,
		`{process.name|contains: "*"}`:                         false,
		`{process.name|startswith: [cmd, POWER]}`:              true,
		`{process.path|endswith: '\powershell.exe'}`:           true,
		`{process.path: 'c:\windows\*'}`:                       true,
		`{process.command_line|re: '-e(nc|c)\s'}`:              true,
		`{process.command_line|re|cased: '-ENC'}`:              false,
		`{process.command_line|re: '^shell'}`:                  false,
		`{process.name|not: [cmd.exe, sh]}`:                    true,
		`{process.name|not: [cmd.exe, powershell.exe]}`:        false,
		`{process.name|not|endswith: .dll}`:                    true,
		`{file.md5|not: 44d88612fea8a8f36de82e1278abb02f}`:     false, // absent
		`{file.md5|exists: false}`:                             true,
		`{file.md5|exists: true}`:                              false,
		`{file.path|exists: true}`:                             true,
		`{time|exists: true}`:                                  true,
		`{process.md5: 44D88612FEA8A8F36DE82E1278ABB02F}`:      true,
		`{process.pid: 4242}`:                                  true,
		`{process.pid: [1, 2]}`:                                false,
		`{process.pid|gt: 300, process.pid|lte: 4242}`:         true,
		`{process.start|lt: 77}`:                               false,
		`{process.pid|not: 4}`:                                 true,
		`{source_ip: 203.0.113.7}`:                             true,
		`{source_ip: "::ffff:203.0.113.7"}`:                    true,
		`{source_ip|cidr: [10.0.0.0/8, 203.0.113.0/24]}`:       true,
		`{source_ip|not|cidr: 203.0.113.0/24}`:                 false,
		`{destination_ip|cidr: "2001:db8::/32"}`:               true,
		`{destination_ip|not|cidr: 203.0.113.0/24}`:            true,
		`{id: a1, source: bus, preset: generic}`:               true,
		`{user: 'corp\*'}`:                                     true,
		`{raw.extra.n: 5}`:                                     true,
		`{raw.extra.n: "5"}`:                                   false,
		`{raw.extra.n: 5.0}`:                                   true,
		`{raw.extra.n|gte: 5}`:                                 true,
		`{raw.extra.f|gt: 1}`:                                  true,
		`{raw.extra.s: text}`:                                  true,
		`{raw.extra.s|gt: 1}`:                                  false,
		`{raw.extra.s|not|gt: 1}`:                              false, // not comparable
		`{raw.extra.list: [x, 3]}`:                             true,
		`{raw.extra.list|all: [a, b]}`:                         true,
		`{raw.extra.list|all: [a, c]}`:                         false,
		`{raw.extra.list|not: [x, 9]}`:                         true,
		`{raw.extra.list|not: x}`:                              false, // 3 is not comparable
		`{raw.extra.empty|exists: true}`:                       false,
		`{raw.extra.none|exists: false}`:                       true,
		`{raw.extra.sub|exists: true}`:                         true,
		`{raw.extra.sub|not: x}`:                               false,
		`{raw.extra.gone|not: x}`:                              false,
		`{raw.extra|exists: true, raw.extra.sub.k: 1}`:         true,
		`{raw.process.pid: 4242, raw.process|exists: true}`:    true,
		`{raw.level: HIGH, raw.source_ip|cidr: 203.0.0.0/8}`:   true,
		`{raw.Level: HIGH}`:                                    false,
		`{title|contains|all: [office, shell]}`:                true,
		`{title|contains|all: [office, bash]}`:                 false,
		`{title|contains|not: [office, bash]}`:                 false,
		`{level: HIGH, title: nope}`:                           false,
		`{process.parent.name: [WINWORD.EXE, excel.exe]}`:      true,
		`{process.parent.path|startswith: 'C:\Office'}`:        true,
		`{"description": "d", "details|re": "^x$"}`:            true,
		`{process.sha256|startswith: 275a, host|cased: ws1}`:   true,
		`{raw.extra.n|not: 6, raw.extra.f|not: [1, 2, 3.25]}`:  true,
		`{raw.extra.n|cidr: 10.0.0.0/8}`:                       false,
		`{raw.extra.s|not|cidr: 10.0.0.0/8}`:                   false,
		`{raw.extra.s|re: "^TEXT$", raw.extra.s|contains: ex}`: true,
	} {
		t.Run(match, func(t *testing.T) {
			t.Parallel()
			m := newMapping(t, "generic", "", "rules: [{name: r, mode: enforce, match: "+match+", do: [{task: isolateHost, params: {action: 1}}]}]")
			got, err := mapDoc(m, fullAlert)
			if err != nil {
				t.Fatal(err)
			}
			if (len(got.Orders) == 1) != want || len(got.Refused) != 0 {
				t.Errorf("%d orders, %d refused, want a match: %v", len(got.Orders), len(got.Refused), want)
			}
		})
	}
}

// TestAbsentFactsNeverMatch asks every fact every way of an alert that holds none of them.
func TestAbsentFactsNeverMatch(t *testing.T) {
	t.Parallel()
	pattern := map[string]string{
		"text": "x", "id": "x", "level": "HIGH", "pid": "5", "ticks": "5", "md5": strings.Repeat("a", 32), "sha256": strings.Repeat("a", 64), "address": "10.0.0.1",
	}
	asked := 0
	for _, p := range mapping.Presets() {
		for _, f := range p.Fields {
			if f.Field == "" || f.Field == "id" || f.Type == "time" {
				continue
			}
			for _, mod := range []string{"", "|not"} {
				asked++
				rules := fmt.Sprintf("rules: [{name: r, match: {%s%s: %q}, do: [{task: isolateHost, params: {action: 1}, host: ws1}]}]", f.Field, mod, pattern[f.Type])
				if f.Type == "pid" || f.Type == "ticks" {
					rules = strings.ReplaceAll(rules, `"`, "")
				}
				got, err := mapDoc(newMapping(t, "generic", "", rules), `{}`)
				if err != nil {
					t.Fatal(err)
				}
				if len(got.Orders)+len(got.Refused) != 0 {
					t.Errorf("%s%s matched an alert without it", f.Field, mod)
				}
			}
		}
	}
	if asked < 40 {
		t.Errorf("asked only %d", asked)
	}
}

func TestMapIsDeterministicAndLeavesItsInputAlone(t *testing.T) {
	t.Parallel()
	rules := `
rules:
  - {name: a, mode: enforce, match: {raw.extra.list: a}, do: [{task: terminateProcess, subject: process, params: {path: "${process.path}"}}, {task: isolateHost, params: {action: 1}}]}
  - {name: b, mode: approve, match: {level: HIGH}, do: [{task: getFile, params: {path: "${file.path}", md5hash: "${file.md5}"}}], dedupe: {by: [raw.extra.list, user]}}
`
	m := newMapping(t, "generic", "", rules)
	raw := bridge.Alert{Source: "bus", ID: "1-0", Preset: "other", Received: received, Raw: []byte(fullAlert)}
	first, err := m.Map(raw)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				again, err := m.Map(raw)
				if err != nil {
					t.Error(err)
					return
				}
				if diff := cmp.Diff(first, again, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
					t.Errorf("-first +again\n%s", diff)
				}
			}
		})
	}
	wg.Wait()
	if raw.ID != "1-0" || raw.Preset != "other" || raw.Level != "" || !bytes.Equal(raw.Raw, []byte(fullAlert)) {
		t.Errorf("input changed: %+v", raw)
	}
	if len(first[0].Orders) != 2 || len(first[0].Refused) != 1 {
		t.Errorf("got %d orders, %d refused", len(first[0].Orders), len(first[0].Refused))
	}
}

// TestTwoProcessesNeverShareAnOrderIDOrDedupeKey holds target against target: what differs in host, process,
// params or rule must differ in both keys.
func TestTwoProcessesNeverShareAnOrderIDOrDedupeKey(t *testing.T) {
	t.Parallel()
	rules := func(by string) string {
		return `
rules:
  - {name: a, mode: enforce, match: {}, do: [{task: terminateProcess, subject: process}, {task: getFile, params: {path: "${file.path}"}}], dedupe: {by: [` + by + `]}}
`
	}
	docs := []string{
		`{"id":"1","host":"ws1","process":{"pid":10,"start":5},"file":{"path":"/a/b"}}`,
		`{"id":"1","host":"ws1","process":{"pid":10,"start":6},"file":{"path":"/a/c"}}`,
		`{"id":"1","host":"ws1","process":{"pid":11,"start":5},"file":{"path":"/a/d"}}`,
		`{"id":"1","host":"ws2","process":{"pid":10,"start":5},"file":{"path":"/a/b"}}`,
		`{"id":"1","host":"ws1","process":{"pid":10},"file":{"path":"/a/e"}}`,
		`{"id":"2","host":"ws1","process":{"pid":10},"file":{"path":"/a/f"}}`,
	}
	for _, by := range []string{"", "host", "preset, raw.gone"} {
		ids, keys := map[string]string{}, map[string]string{}
		m := newMapping(t, "generic", "", rules(by))
		for _, doc := range docs {
			got, err := mapDoc(m, doc)
			if err != nil || len(got.Orders) != 2 {
				t.Fatalf("%s: %v, %+v", doc, err, got.Refused)
			}
			for _, o := range got.Orders {
				for seen, key := range map[*map[string]string]string{&ids: o.ID, &keys: o.Dedupe} {
					if other, taken := (*seen)[key]; taken {
						t.Errorf("by [%s]: %s and %s share %s", by, other, doc, key)
					}
					(*seen)[key] = doc
				}
			}
		}
	}
	m := newMapping(t, "generic", "", rules(""))
	a, errA := mapDoc(m, `{"id":"1","host":"ws1","process":{"pid":10,"start":5},"file":{"path":"/a/b"}}`)
	b, errB := mapDoc(m, `{"id":"2","host":"WS1","process":{"pid":10,"start":5},"file":{"path":"/a/b"}}`)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	for i := range a.Orders {
		if a.Orders[i].Dedupe != b.Orders[i].Dedupe || a.Orders[i].ID == b.Orders[i].ID {
			t.Errorf("two alerts about one target: keys %q %q, ids %q %q", a.Orders[i].Dedupe, b.Orders[i].Dedupe, a.Orders[i].ID, b.Orders[i].ID)
		}
	}
}

func TestByTellsOrdersOfOneTargetApart(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "generic", "ws1", "rules: [{name: r, match: {}, do: [{task: isolateHost, params: {action: 1}}], dedupe: {by: [user, raw.tags], for: 90s}}]")
	keys := map[string]bool{}
	for _, doc := range []string{`{}`, `{"user":"a"}`, `{"user":"b"}`, `{"tags":["a"]}`, `{"tags":["a","b"]}`, `{"user":"a","tags":["b"]}`} {
		got, err := mapDoc(m, doc)
		if err != nil {
			t.Fatal(err)
		}
		if got.Orders[0].Window != 90*time.Second {
			t.Errorf("window %s", got.Orders[0].Window)
		}
		keys[got.Orders[0].Dedupe] = true
	}
	if len(keys) != 6 {
		t.Errorf("%d keys, want 6", len(keys))
	}
}

func TestRulesDescribesWhatIsLoaded(t *testing.T) {
	t.Parallel()
	m, err := mapping.New(mapping.Config{
		Files: []mapping.RuleFile{
			{Name: "b.yaml", Data: []byte("# nothing\n")},
			{Name: "a.yaml", Data: []byte("rules:\n  - name: one\n    mode: enforce\n    match: {}\n    do: [{task: isolateHost, params: {action: 1}}, {task: getFile, params: {path: /a/b}}]\n")},
			{Name: "c.yaml", Data: []byte("rules:\n")},
			{Name: "d.yaml", Data: nil},
		},
		Ceiling: bridge.ModeApprove,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping.RuleInfo{{Name: "one", File: "a.yaml", Line: 2, Mode: bridge.ModeApprove, Tasks: []bridge.Kind{bridge.KindIsolateHost, bridge.KindGetFile}}}
	if diff := cmp.Diff(want, m.Rules()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestNewReportsAllMistakesOfAllFilesAndSources(t *testing.T) {
	t.Parallel()
	_, err := mapping.New(mapping.Config{
		Files: []mapping.RuleFile{
			{Name: "z.yaml", Data: []byte("rules: [{name: a, match: {}, do: [{task: nope}]}]")},
			{Name: "a.yaml", Data: []byte("rulez: []\n")},
			{Name: "b.yaml", Data: []byte("rules:\n  - {name: a, match: {}, do: [{task: isolateHost, params: {action: 1}}]}\n")},
		},
		Sources: map[string]mapping.Source{
			"x": {Preset: "python-eder"}, "y": {Preset: "generic", Host: "localhost"}, "z": {Preset: "generic", Tasks: []bridge.Kind{"isolatehost"}},
		},
		Ceiling: "maybe",
	})
	le, ok := errors.AsType[*mapping.LoadError](err)
	if !ok {
		t.Fatalf("got %T: %v", err, err)
	}
	var got []string
	for _, p := range le.Problems {
		got = append(got, p.String())
	}
	want := []string{
		`a.yaml:1:1: unknown field "rulez", did you mean "rules"?`,
		`b.yaml:2:12: rule name "a" is taken by the rule at z.yaml:1`,
		`z.yaml:1:42: unknown task "nope"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, part := range []string{
		`sources.x.preset: unknown preset "python-eder", did you mean "python-edr"?`, "sources.y.host: ", `sources.z.tasks: unknown task "isolatehost", did you mean "isolateHost"?`,
		`mode: unknown mode "maybe"`,
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q:\n%v", part, err)
		}
	}
}

func TestLoadErrorIsPlainUnlessColourIsAsked(t *testing.T) {
	t.Parallel()
	_, err := mapping.New(mapping.Config{Files: []mapping.RuleFile{{Name: "r.yaml", Data: []byte("rules:\n\t- x\x1b[31m")}}})
	le, ok := errors.AsType[*mapping.LoadError](err)
	if !ok {
		t.Fatalf("got %T: %v", err, err)
	}
	if strings.Contains(err.Error(), "\x1b") || strings.Contains(le.Text(false), "\x1b") {
		t.Errorf("escape in %q", err)
	}
	if !strings.Contains(le.Text(true), "\x1b[31m") {
		t.Errorf("no colour in %q", le.Text(true))
	}
}

func TestFilesBuiltToExhaustTheReaderAreRefusedSoon(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"brackets": "rules: " + strings.Repeat("[", 100000),
		"braces":   "rules: " + strings.Repeat("{a: ", 100000),
		"dashes":   "rules:\n  " + strings.Repeat("- ", 100000) + "x",
		"tags":     "rules: " + strings.Repeat("!!x ", 10000) + "x",
		"aliases":  "rules:\n  - &a [x, x]\n  - &b [*a, *a]\n  - [*b, *b]\n",
		"too long": strings.Repeat("# comment\n", 200000),
		"not text": "rules: \xff\xfe",
		"indents": func() string {
			var b strings.Builder
			for i := range 1000 {
				fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
			}
			return b.String()
		}(),
		"mistakes": "rules:\n" + strings.Repeat("  - {nam: x}\n", 5000),
		"two docs": "rules: []\n---\nrules: []\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := mapping.New(mapping.Config{Files: []mapping.RuleFile{{Name: "r.yaml", Data: []byte(data)}}})
			if _, ok := errors.AsType[*mapping.LoadError](err); !ok {
				t.Fatalf("got %T", err)
			}
			if len(err.Error()) > 100_000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}
