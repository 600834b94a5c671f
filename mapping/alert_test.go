package mapping_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// everyAlert asks for one order of each alert, and refers to facts an attacker may write.
const everyAlert = `
rules:
  - name: every
    mode: enforce
    match: {}
    do:
      - {task: isolateHost, params: {action: 1}}
`

func newMapping(t testing.TB, preset, host, rules string) *mapping.Mapping {
	t.Helper()
	m, err := mapping.New(mapping.Config{
		Files:    []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(rules)}},
		Sources:  map[string]mapping.Source{"bus": {Preset: preset, Host: host}},
		Ceiling:  bridge.ModeEnforce,
		Location: zone,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mapDoc(m *mapping.Mapping, doc string) (bridge.Mapped, error) {
	mapped, err := m.Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)})
	if err != nil {
		return bridge.Mapped{}, err
	}
	if len(mapped) != 1 {
		return bridge.Mapped{}, fmt.Errorf("%d alerts of one document", len(mapped))
	}
	return mapped[0], nil
}

// mustRefuse checks that a document is a bad alert, in short time, with a message naming what is wrong.
func mustRefuse(t *testing.T, m *mapping.Mapping, doc, want string) {
	t.Helper()
	begin := time.Now()
	_, err := mapDoc(m, doc)
	if took := time.Since(begin); took > 5*time.Second { // what grows with the square of a document takes longer
		t.Errorf("took %s", took)
	}
	if !errors.Is(err, bridge.ErrBadAlert) {
		t.Fatalf("got %v, want a bad alert", err)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b\u202e") {
		t.Errorf("error carries raw text of the document: %q", err)
	}
}

func TestI1DocumentsThatAreNotOneObjectAreBadAlerts(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"empty": "", "space": " \n", "null": "null", "array": `[{"level":"HIGH"}]`, "scalar": `"HIGH"`, "number": "7",
		"cut":      `{"level":"HIGH"`,
		"trailing": `{"level":"HIGH"} x`, "two": `{"level":"HIGH"}{"level":"HIGH"}`,
		"bom": "\ufeff" + `{"level":"HIGH"}`, "utf-16": "\xff\xfe{\x00}\x00", "text": "HIGH alert",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, preset := range []string{"python-edr", "generic"} {
				mustRefuse(t, newMapping(t, preset, "ws1", everyAlert), doc, preset)
			}
		})
	}
}

func TestI2FieldsOfWrongShapeAreRefusedWithTheirPath(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ preset, doc, want string }{
		"duplicate key":      {"python-edr", `{"actionable_pid":1,"actionable_pid":2}`, "actionable_pid: "},
		"nested duplicate":   {"generic", `{"process":{"pid":1},"process.pid":2}`, "process.pid: is given twice"},
		"two names":          {"generic", `{"level":"HIGH","severity":"LOW"}`, "severity: level is given already"},
		"case variant":       {"python-edr", `{"ACTIONABLE_PID":7}`, "actionable_pid: must be written in exactly this case"},
		"case variant fold":  {"python-edr", `{"ſource_ip":"203.0.113.7"}`, "source_ip: must be written in exactly this case"},
		"nested case":        {"generic", `{"process":{"Pid":7}}`, "process.pid: must be written"},
		"dotted case":        {"generic", `{"Process.pid":7}`, "process: must be written"},
		"both cases":         {"python-edr", `{"level":"LOW","Level":"HIGH"}`, "evel"},
		"pid float":          {"python-edr", `{"actionable_pid":7.0}`, "actionable_pid: must be a whole number"},
		"pid exponent":       {"python-edr", `{"actionable_pid":1e3}`, "actionable_pid: must be a whole number"},
		"pid text":           {"python-edr", `{"actionable_pid":"7"}`, "actionable_pid: must be a whole number"},
		"pid bool":           {"python-edr", `{"actionable_pid":true}`, "actionable_pid: must be a whole number"},
		"pid zero":           {"python-edr", `{"actionable_pid":0}`, "actionable_pid: must be a whole number"},
		"pid negative":       {"python-edr", `{"actionable_pid":-1}`, "actionable_pid: must be a whole number"},
		"pid too large":      {"python-edr", `{"actionable_pid":4194305}`, "actionable_pid: must be a whole number"},
		"pid 2^63":           {"generic", `{"process":{"pid":9223372036854775808}}`, "process.pid: must be a whole number"},
		"pid list":           {"python-edr", `{"actionable_pid":[7]}`, "actionable_pid: must not be a list"},
		"pid object":         {"python-edr", `{"actionable_pid":{}}`, "actionable_pid: must not be an object"},
		"start negative":     {"generic", `{"process":{"start":-5}}`, "process.start: must be a count"},
		"title number":       {"python-edr", `{"title":5}`, `title: must be text, not "5"`},
		"timestamp number":   {"python-edr", `{"timestamp":1700000000}`, "timestamp: must be text"},
		"process text":       {"generic", `{"process":"cmd.exe"}`, "process: must be an object"},
		"process list":       {"generic", `{"process":[{"pid":7}]}`, "process: must not be a list"},
		"level unknown":      {"python-edr", `{"level":"SEVERE"}`, "level: must be LOW, MEDIUM, HIGH or CRITICAL"},
		"address":            {"python-edr", `{"source_ip":"203.0.113.7; rm"}`, "source_ip: must be an IP address"},
		"address with port":  {"python-edr", `{"source_ip":"203.0.113.7:80"}`, "source_ip: must be an IP address"},
		"md5 short":          {"generic", `{"file":{"md5":"44d88612"}}`, "file.md5: must be 32 hex digits"},
		"sha256 in md5":      {"generic", `{"process":{"md5":"275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"}}`, "process.md5: must be 32"},
		"sha256 not hex":     {"python-edr", `{"sha256":"` + strings.Repeat("z", 64) + `"}`, "sha256: must be 64 hex digits"},
		"id too long":        {"generic", `{"id":"` + strings.Repeat("a", 257) + `"}`, "id: must not be longer"},
		"id with control":    {"generic", `{"id":"a\u001b[2J"}`, "id: must not hold control"},
		"ppid text":          {"python-edr", `{"ppid":"1"}`, "ppid: must be a whole number"},
		"escaped key, twice": {"python-edr", `{"level":"LOW","\u006cevel":"HIGH"}`, "evel"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, newMapping(t, c.preset, "ws1", everyAlert), c.doc, c.want)
		})
	}
}

func TestNullAndEmptyTextAreAbsentAndUnknownFieldsAllowed(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "python-edr", "ws1", everyAlert)
	got, err := mapDoc(m, `{"source_ip":null,"actionable_pid":null,"sha256":"","level":"","timestamp":null,"ppid":0,
		"labels":{"Host":"x","level":[1,{"a":"}"}]},"Ünknown":1}`)
	if err != nil {
		t.Fatal(err)
	}
	want := bridge.Alert{Source: "bus", Preset: "python-edr", Received: received, Host: "ws1"}
	if diff := cmp.Diff(want, got.Alert, cmpopts.IgnoreFields(bridge.Alert{}, "ID", "Raw"), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestI4HostileTextIsRefusedOrNeverBecomesATarget(t *testing.T) {
	t.Parallel()
	bad := map[string]string{
		"invalid utf-8":   "{\"title\":\"a\xffb\"}",
		"lone surrogate":  `{"title":"\ud800"}`,
		"low surrogate":   `{"title":"\udc00x"}`,
		"nul":             `{"title":"a\u0000b"}`,
		"raw control":     "{\"title\":\"a\x01b\"}",
		"1 MiB string":    `{"title":"` + strings.Repeat("a", 1<<20) + `"}`,
		"10001 levels":    `{"x":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + `}`,
		"number too big":  `{"x":1e400}`,
		"nul in unread":   `{"unread":"a\u0000b"}`,
		"surrogate in id": `{"\ud800":1}`,
	}
	for name, doc := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, newMapping(t, "generic", "ws1", everyAlert), doc, "")
		})
	}
	targets := `
rules:
  - name: r
    mode: enforce
    match: {}
    do:
      - {task: getFile, params: {path: "${process.path}"}}
      - {task: isolateHost, params: {action: 1}, host: "${raw.target}"}
`
	for name, text := range map[string]string{"bidi": "C:\\a\u202egpj.exe", "escape": "C:\\a\x1b[2J.exe", "newline": "C:\\a\nb.exe"} {
		t.Run("target with "+name, func(t *testing.T) {
			t.Parallel()
			doc := fmt.Sprintf(`{"host":"ws1","process":{"path":%s},"target":%s,"description":%s}`, quoted(text), quoted("a"+text[4:]), quoted(text))
			got, err := mapDoc(newMapping(t, "generic", "", targets), doc)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Orders) != 0 || len(got.Refused) != 2 {
				t.Fatalf("orders %+v, refused %d", got.Orders, len(got.Refused))
			}
			for _, o := range got.Refused {
				if o.Reason != bridge.ReasonInvalid || strings.ContainsAny(o.Detail, "\n\x1b\u202e") {
					t.Errorf("refused with %q %q", o.Reason, o.Detail)
				}
			}
			if got.Alert.Description != text {
				t.Errorf("description became %q", got.Alert.Description)
			}
		})
	}
}

func TestI11TimesThatDoNotTellAreUnknown(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zone database: %v", err)
	}
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, c := range map[string]struct {
		preset, field, text string
		received, want      time.Time
	}{
		"local":            {"python-edr", "timestamp", "2026-11-20T18:06:56.123456", received, at("2026-11-20T17:06:56.123456Z")},
		"no fraction":      {"python-edr", "timestamp", "2026-11-20T18:06:56", received, at("2026-11-20T17:06:56Z")},
		"with zone":        {"python-edr", "timestamp", "2026-11-20T17:06:56+00:00", received, at("2026-11-20T17:06:56Z")},
		"other zone":       {"generic", "time", "2026-11-20T19:36:56.5-0330", received.Add(24 * time.Hour), at("2026-11-20T23:06:56.5Z")},
		"skew":             {"generic", "time", "2026-11-20T17:11:00Z", received, at("2026-11-20T17:11:00Z")},
		"missing":          {"python-edr", "timestamp", "", received, time.Time{}},
		"future":           {"python-edr", "timestamp", "2026-11-20T18:13:00", received, time.Time{}},
		"far future":       {"generic", "time", "9999-12-31T23:59:59Z", received, time.Time{}},
		"1970":             {"python-edr", "timestamp", "1970-01-01T00:00:00", received, time.Time{}},
		"not iso":          {"python-edr", "timestamp", "20/11/2026 18:06", received, time.Time{}},
		"epoch text":       {"generic", "time", "1700000000", received, time.Time{}},
		"no such day":      {"generic", "time", "2026-02-30T10:00:00Z", received, time.Time{}},
		"hour 24":          {"generic", "time", "2026-02-20T24:00:00Z", received, time.Time{}},
		"naive in generic": {"generic", "time", "2026-11-20T18:06:56", received, time.Time{}},
		"empty fraction":   {"generic", "time", "2026-11-20T17:06:56.Z", received, time.Time{}},
		"bad zone":         {"generic", "time", "2026-11-20T17:06:56+1", received, time.Time{}},
		"hour given twice": {"python-edr", "timestamp", "2026-10-25T02:30:00", received, time.Time{}},
		"hour left out":    {"python-edr", "timestamp", "2026-03-29T02:30:00", received, time.Time{}},
		"before change":    {"python-edr", "timestamp", "2026-10-25T01:59:59", received, at("2026-10-24T23:59:59Z")},
		"after change":     {"python-edr", "timestamp", "2026-10-25T03:00:00", received, at("2026-10-25T02:00:00Z")},
		"not received":     {"generic", "time", "2026-11-20T17:06:56Z", time.Time{}, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := mapping.New(mapping.Config{
				Files:    []mapping.RuleFile{{Name: "r", Data: []byte(everyAlert)}},
				Sources:  map[string]mapping.Source{"bus": {Preset: c.preset, Host: "ws1"}},
				Location: berlin,
			})
			if err != nil {
				t.Fatal(err)
			}
			mapped, err := m.Map(bridge.Alert{Source: "bus", Received: c.received, Raw: fmt.Appendf(nil, `{%q:%q}`, c.field, c.text)})
			if err != nil {
				t.Fatal(err)
			}
			got := mapped[0]
			if !got.Alert.Time.Equal(c.want) || got.Alert.Time.IsZero() != c.want.IsZero() {
				t.Errorf("time %s, want %s", got.Alert.Time, c.want)
			}
			if len(got.Orders) != 1 || !got.Orders[0].AlertTime.Equal(got.Alert.Time) {
				t.Errorf("orders %+v", got.Orders)
			}
		})
	}
}

func TestI13TheSeedsAlertHasATargetOnlyWhenItsSourceHas(t *testing.T) {
	t.Parallel()
	rules := "rules: [{name: k, mode: enforce, match: {}, do: [{task: terminateProcess, subject: process}]}]"
	doc := `{"level":"HIGH","title":"x","description":"x","details":"x","timestamp":"2026-11-20T20:06:56.123456","actionable_pid":7312}`
	without, err := mapDoc(newMapping(t, "python-edr", "", rules), doc)
	if err != nil {
		t.Fatal(err)
	}
	if len(without.Orders) != 0 || len(without.Refused) != 1 || without.Refused[0].Reason != bridge.ReasonNoHost {
		t.Errorf("without host: %+v", without)
	}
	if !strings.Contains(without.Refused[0].Detail, "sources.bus.host") {
		t.Errorf("detail %q gives no advice", without.Refused[0].Detail)
	}
	with, err := mapDoc(newMapping(t, "python-edr", "lab01", rules), doc)
	if err != nil {
		t.Fatal(err)
	}
	if len(with.Orders) != 1 || with.Orders[0].Host != "lab01" || with.Orders[0].Subject.PID != 7312 {
		t.Errorf("with host: %+v", with)
	}
}

func TestA6HostileValuesArriveAsOneParameterOrAreRefused(t *testing.T) {
	t.Parallel()
	rules := `
rules:
  - name: r
    mode: enforce
    match: {}
    do:
      - {task: deleteFile, params: {path: "${file.path}"}}
      - {task: terminateProcess, params: {path: "${raw.evil}"}}
      - {task: preventExecution, params: {hash: "${raw.evil}"}}
      - {task: blockAddress, params: {address: "${raw.evil}"}}
      - {task: isolateHost, params: {action: "${raw.evil}"}}
      - {task: isolateHost, params: {action: 1}, host: "${raw.evil}"}
`
	m := newMapping(t, "generic", "ws1", rules)
	for _, evil := range []string{
		`"`, `","searchInSubfolders":true,"x":"`, `\`, `$(reboot)`, "`reboot`", `a & calc`, `a%0ab`, `'; drop table`, `{{.}}`, `${host}`, `$${host}`, `--force`, `|x`, `<b>`, `1`, `ws1*`, `ws1" or "`,
	} {
		path := "/tmp/" + evil + "/x"
		got, err := mapDoc(m, fmt.Sprintf(`{"file":{"path":%s},"evil":%s}`, quoted(path), quoted(evil)))
		if err != nil {
			t.Fatalf("%q: %v", evil, err)
		}
		for _, o := range got.Orders {
			switch task := o.Task.(type) {
			case bridge.DeleteFile:
				if diff := cmp.Diff(bridge.DeleteFile{Path: path}, task); diff != "" {
					t.Errorf("%q: -want +got\n%s", evil, diff)
				}
			case bridge.IsolateHost:
				if o.Host != evil || task.Action != 1 {
					t.Errorf("%q isolated %q", evil, o.Host)
				}
				if strings.Trim(evil, "abcdefghijklmnopqrstuvwxyz-") != "" {
					t.Errorf("host %q was let through", evil)
				}
			default:
				t.Errorf("%q led to %T", evil, task)
			}
		}
		if len(got.Orders)+len(got.Refused) != 6 || len(got.Refused) < 4 {
			t.Errorf("%q: %d orders, %d refused", evil, len(got.Orders), len(got.Refused))
		}
	}
}

func TestI7HostsThatNameNoOtherMachineAreRefused(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "generic", "", everyAlert)
	for host, ok := range map[string]bool{
		"ws1": true, "WS1.corp.local": true, "ws1.corp.local.": true, "10.0.5.7": true, "fd00::7": true, "рабочая-1": true,
		"e38c2d9b-5d2c-4f5c-8a43-6c1c1f0f7d11": true, "7zip-host": true, strings.Repeat("a", 253): true,
		"*": false, "dc?": false, "[a]": false, `ws1"`: false, "ws 1": false, "ws1\t": false, "ws1\u200b": false, "ws1:445": false,
		"localhost": false, "LOCALHOST.": false, "a.localhost": false, "localhost.localdomain": false, "127.0.0.1": false, "127.9.9.9": false,
		"::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": false, "::": false, "127.1": false, "2130706433": false, "0x7f000001": false,
		"0x7f.1": false, "fe80::1%eth0": false, "224.0.0.1": false, ".": false, "a..b": false, strings.Repeat("a", 254): false, `corp\ws1`: false, "a/b": false,
		"(ws1)": false, "-ws1": false, "\uff11\uff12": false, "ws1;": false, "$(x)": false, "300.1.2.3": false,
	} {
		got, err := mapDoc(m, fmt.Sprintf(`{"host":%s}`, quoted(host)))
		if err != nil {
			t.Errorf("%q: %v", host, err)
			continue
		}
		if (len(got.Orders) == 1) != ok || len(got.Orders)+len(got.Refused) != 1 {
			t.Errorf("host %q: %d orders, refused %+v", host, len(got.Orders), got.Refused)
		}
	}
}

func TestAlertIDIsTheProductsOwnOrTheDigestOfTheDocument(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "generic", "ws1", everyAlert)
	ids := map[string]bool{}
	for _, doc := range []string{`{"id":"own-1"}`, `{"title":"a"}`, `{"title":"b"}`} {
		var seen []string
		for _, transport := range []string{"", "1-0", "2-0"} {
			mapped, err := m.Map(bridge.Alert{Source: "bus", ID: transport, Received: received, Raw: []byte(doc)})
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, mapped[0].Alert.ID+" "+mapped[0].Orders[0].ID)
		}
		if seen[0] != seen[1] || seen[1] != seen[2] {
			t.Errorf("%s: a redelivery has another id: %v", doc, seen)
		}
		ids[seen[0]] = true
	}
	if len(ids) != 3 || !ids["own-1 "+firstID(t, m, `{"id":"own-1"}`)] {
		t.Errorf("ids %v", ids)
	}
}

func firstID(t *testing.T, m *mapping.Mapping, doc string) string {
	t.Helper()
	got, err := mapDoc(m, doc)
	if err != nil {
		t.Fatal(err)
	}
	return got.Orders[0].ID
}

func TestUnknownSourceIsNotTheDocumentsFault(t *testing.T) {
	t.Parallel()
	_, err := newMapping(t, "generic", "", everyAlert).Map(bridge.Alert{Source: "other", Raw: []byte(`{}`)})
	if err == nil || errors.Is(err, bridge.ErrBadAlert) {
		t.Errorf("got %v", err)
	}
}
