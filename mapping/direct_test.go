package mapping_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

func newDirect(t testing.TB, src mapping.Source, change func(*mapping.Config)) *mapping.Mapping {
	t.Helper()
	src.Direct = true
	cfg := mapping.Config{
		Files:   []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(everyAlert)}},
		Sources: map[string]mapping.Source{"calls": src},
		Ceiling: bridge.ModeEnforce,
		Lease:   2 * time.Hour,
	}
	if change != nil {
		change(&cfg)
	}
	m, err := mapping.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mapCall(t testing.TB, m *mapping.Mapping, doc string) bridge.Mapped {
	t.Helper()
	got, err := m.Map(bridge.Alert{Source: "calls", ID: "transport-1", Received: received, Raw: []byte(doc)})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 {
		t.Fatalf("%d alerts", len(got))
	}
	return got[0]
}

const callEvent = `{"ID":"ev-1","Type":3,"Timestamp":1795194415123,"TenantID":"t-1","DeviceHostName":"ws-017","DestinationProcessName":"C:\\Windows\\cmd.exe",` +
	`"FilePath":"C:\\Users\\Public\\a.exe","FileHash":"44d88612fea8a8f36de82e1278abb02f"}`

func TestACallIsOneOrder(t *testing.T) {
	t.Parallel()
	got := mapCall(t, newDirect(t, mapping.Source{}, nil), `{"id":"c-1","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"2026-11-20T17:06:56Z"}`)
	at := time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC)
	if len(got.Orders) != 1 || len(got.Refused) != 0 || got.Alert.ID != "c-1" || got.Alert.Host != "ws-01" || !got.Alert.Time.Equal(at) {
		t.Fatalf("%+v", got)
	}
	o := got.Orders[0]
	id, err := bridge.NewOrderID("calls", "c-1", "calls", bridge.IsolateHost{Action: 1}, "ws-01")
	if err != nil {
		t.Fatal(err)
	}
	want := bridge.Order{
		ID: id, AlertID: "c-1", Source: "calls", Rule: "calls", At: "sources.calls", Host: "ws-01", Task: bridge.IsolateHost{Action: 1}, Mode: bridge.ModeEnforce,
		For: 2 * time.Hour, Window: 10 * time.Minute, Dedupe: o.Dedupe, AlertTime: at,
	}
	if diff := cmp.Diff(want, o); diff != "" || o.Dedupe == "" {
		t.Errorf("-want +got\n%s", diff)
	}
	release := mapCall(t, newDirect(t, mapping.Source{}, nil), `{"id":"c-2","task":"isolateHost","host":"ws-01","params":{"action":"off"},"at":"2026-11-20T17:06:56Z"}`)
	if len(release.Orders) != 1 || release.Orders[0].For != 0 || release.Orders[0].Dedupe == o.Dedupe {
		t.Errorf("release %+v", release)
	}
}

func TestACallTakesWhatItLeavesOutFromItsEvent(t *testing.T) {
	t.Parallel()
	m := newDirect(t, mapping.Source{}, nil)
	const md5 = "44d88612fea8a8f36de82e1278abb02f"
	for name, c := range map[string]struct {
		task, params string
		want         bridge.Task
	}{
		"isolate":              {"isolateHost", `{"action":1}`, bridge.IsolateHost{Action: 1}},
		"terminate":            {"terminateProcess", `{}`, bridge.TerminateProcess{Path: `C:\Windows\cmd.exe`}},
		"terminate empties":    {"terminateProcess", `{"path":"","md5hash":"","sha256hash":"","caseSensitive":true}`, bridge.TerminateProcess{Path: `C:\Windows\cmd.exe`, CaseSensitive: true}},
		"get":                  {"getFile", `{}`, bridge.GetFile{Path: `C:\Users\Public\a.exe`, MD5: md5}},
		"quarantine":           {"quarantineFile", ``, bridge.QuarantineFile{Path: `C:\Users\Public\a.exe`, MD5: md5}},
		"delete":               {"deleteFile", `{"searchInSubfolders":false}`, bridge.DeleteFile{Path: `C:\Users\Public\a.exe`, MD5: md5}},
		"same path other case": {"getFile", `{"path":"c:\\users\\public\\A.EXE"}`, bridge.GetFile{Path: `c:\users\public\A.EXE`, MD5: md5}},
		"same hash":            {"getFile", `{"md5hash":"44D88612FEA8A8F36DE82E1278ABB02F"}`, bridge.GetFile{Path: `C:\Users\Public\a.exe`, MD5: md5}},
		"another file":         {"getFile", `{"path":"C:\\b.exe"}`, bridge.GetFile{Path: `C:\b.exe`}},
		"prevent":              {"preventExecution", `{"caseSensitive":false}`, bridge.PreventExecution{Path: `C:\Users\Public\a.exe`, Hash: md5}},
		"scan":                 {"onDemandScan", `[{"enabled":true,"path":"","recursive":false,"type":14}]`, bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Type: 14}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.params != "" {
				c.params = `"params":` + c.params + ","
			}
			got := mapCall(t, m, fmt.Sprintf(`{"id":"c-1","task":%q,%s"at":"2026-11-20T17:06:56Z","event":%s}`, c.task, c.params, callEvent))
			if len(got.Orders) != 1 {
				t.Fatalf("%+v", got.Refused)
			}
			o := got.Orders[0]
			if diff := cmp.Diff(c.want, o.Task); diff != "" || o.Host != "ws-017" {
				t.Errorf("host %s, -want +got\n%s", o.Host, diff)
			}
			if a := got.Alert; a.ID != "c-1" || a.Tenant != "t-1" || a.Time.UnixMilli() != 1795194415123 || a.File.MD5 != md5 {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestTheProcessIsPreventedWhereTheEventHasNoDigestOfAFile(t *testing.T) {
	t.Parallel()
	const md5 = "44d88612fea8a8f36de82e1278abb02f"
	event := `{"agent":{"id":"7","name":"ws-1"},"syscheck":{"path":"/tmp/x"},"data":{"win":{"eventdata":{"image":"C:\\x.exe","hashes":"MD5=` + md5 + `"}}}}`
	got := mapCall(t, newDirect(t, mapping.Source{Preset: "wazuh"}, nil), `{"id":"c","task":"preventExecution","at":"2026-11-20T17:06:56Z","event":`+event+`}`)
	if len(got.Orders) != 1 {
		t.Fatalf("%+v", got.Refused)
	}
	if diff := cmp.Diff(bridge.Task(bridge.PreventExecution{Path: `C:\x.exe`, Hash: md5}), got.Orders[0].Task); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestACallThatLacksSomethingNamesTheFieldToPropagate(t *testing.T) {
	t.Parallel()
	event := `"event":{"ID":"1","Type":3,"DeviceHostName":"ws-1"}`
	for name, c := range map[string]struct {
		src    mapping.Source
		call   string
		reason bridge.Reason
		want   string
	}{
		"host":              {mapping.Source{}, `"task":"isolateHost","params":{"action":1},"event":{"ID":"1"}`, bridge.ReasonNoHost, "the event has no DeviceHostName or dvchost or DestinationHostName"},
		"host without":      {mapping.Source{}, `"task":"isolateHost","params":{"action":1}`, bridge.ReasonNoHost, "isolateHost: host: required"},
		"process":           {mapping.Source{}, `"task":"terminateProcess",` + event, bridge.ReasonInvalid, "the event has no DestinationProcessName or dproc or SourceProcessName"},
		"file":              {mapping.Source{}, `"task":"getFile","params":{},` + event, bridge.ReasonInvalid, "the event has no FilePath or filePath: add it to the fields the correlation rule propagates"},
		"hash":              {mapping.Source{}, `"task":"preventExecution",` + event, bridge.ReasonInvalid, "the event has no FileHash or fileHash"},
		"another file":      {mapping.Source{}, `"task":"getFile","params":{"md5hash":"` + strings.Repeat("a", 32) + `"},"event":` + callEvent, bridge.ReasonInvalid, "params.path"},
		"action":            {mapping.Source{}, `"task":"isolateHost","params":{},` + event, bridge.ReasonInvalid, "params.action: required"},
		"relative":          {mapping.Source{}, `"task":"getFile","params":{"path":"a.exe"},` + event, bridge.ReasonInvalid, "params.path: is not absolute"},
		"params list":       {mapping.Source{}, `"task":"getFile","params":[1],` + event, bridge.ReasonInvalid, "params: is"},
		"unknown param":     {mapping.Source{}, `"task":"isolateHost","params":{"action":1,"x":2},` + event, bridge.ReasonInvalid, "params.x: no such parameter"},
		"unknown task":      {mapping.Source{}, `"task":"isolateHosts","host":"ws-1"`, bridge.ReasonInvalid, `call: unknown task "isolateHosts"`},
		"task not allowed":  {mapping.Source{Tasks: []bridge.Kind{}}, `"task":"isolateHost","params":{"action":1},"host":"ws-1"`, bridge.ReasonSource, "sources.calls.tasks does not allow it"},
		"host not allowed":  {mapping.Source{Hosts: []string{"srv-*"}}, `"task":"isolateHost","params":{"action":1},"host":"ws-1"`, bridge.ReasonSource, "sources.calls.hosts does not allow ws-1"},
		"hostile host":      {mapping.Source{}, `"task":"isolateHost","params":{"action":1},"host":"ws*"`, bridge.ReasonInvalid, "holds '*'"},
		"host with profile": {mapping.Source{}, `"task":"isolateHost","params":{"action":1},"host":"ws@main"`, bridge.ReasonInvalid, "holds '@'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := mapCall(t, newDirect(t, c.src, nil), `{"id":"c-1","at":"2026-11-20T17:06:56Z",`+c.call+`}`)
			if len(got.Orders) != 0 || len(got.Refused) != 1 {
				t.Fatalf("%+v", got)
			}
			o := got.Refused[0]
			if o.Reason != c.reason || !strings.Contains(o.Detail, c.want) || o.State != bridge.StateRefused || o.ID == "" || o.AlertID != "c-1" {
				t.Errorf("%s: %s\nwant %s: %s", o.Reason, o.Detail, c.reason, c.want)
			}
		})
	}
}

func TestDocumentsThatAreNoCallsAreBadAlerts(t *testing.T) {
	t.Parallel()
	m := newDirect(t, mapping.Source{}, nil)
	for doc, want := range map[string]string{
		"": "is empty", "[]": "must be a JSON object", "null": "must be a JSON object", `{}`: "id: required", `{"id":"1","at":"x"}`: "task: required",
		`{"id":"1","task":"isolateHost"}`:                              "at: required",
		`{"id":"1","task":"isolateHost","at":"x","Host":"a"}`:          `"Host": is unknown, did you mean "host"?`,
		`{"id":"1","task":"isolateHost","at":"x","id":"2"}`:            "this key twice",
		`{"id":1,"task":"isolateHost","at":"x"}`:                       "id: must be text",
		`{"id":"a\u001b","task":"isolateHost","at":"x"}`:               "id: must not hold control",
		`{"id":"1","task":"isolateHost","at":"x","timestamp":"1"}`:     "timestamp: must be milliseconds",
		`{"id":"1","task":"isolateHost","at":"x","event":[]}`:          "event: must be an object",
		`{"id":"1","task":"isolateHost","at":"x","\u001b[2J\u202e":1}`: "is unknown",
	} {
		_, err := m.Map(bridge.Alert{Source: "calls", Received: received, Raw: []byte(doc)})
		if err == nil || !strings.Contains(err.Error(), "bad alert: call: ") || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\x1b\u202e") {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
}

func TestACallHasTheTimeOfTheEventElseItsOwn(t *testing.T) {
	t.Parallel()
	m := newDirect(t, mapping.Source{}, nil)
	for rest, want := range map[string]string{
		`"at":"2026-11-20T17:06:56Z"`:                                                   "2026-11-20T17:06:56Z",
		`"at":"2026-11-20T17:06:56Z","timestamp":1795194415123`:                         "2026-11-20T17:06:55.123Z",
		`"at":"2026-11-20T17:06:56Z","event":{"Timestamp":1795194414123}`:               "2026-11-20T17:06:54.123Z",
		`"at":"2026-11-20T17:06:56Z","timestamp":1795194415123,"event":{"Timestamp":1}`: "2026-11-20T17:06:55.123Z",
		`"at":"2026-11-20T17:06:56Z","timestamp":1,"event":{"Timestamp":1795194414123}`: "unknown",
		`"at":"2026-11-20T17:06:56Z","timestamp":1895194415123`:                         "unknown",
		`"at":"2026-11-20T17:06:56Z","timestamp":1`:                                     "unknown",
		`"at":"2026-11-20T17:06:56"`:                                                    "unknown",
		`"at":"2026-11-20T18:06:56Z"`:                                                   "unknown",
	} {
		got := mapCall(t, m, `{"id":"c-1","task":"isolateHost","host":"ws-1","params":{"action":1},`+rest+`}`)
		if have := stamp(got.Alert.Time); have != want || len(got.Orders) != 1 || !got.Orders[0].AlertTime.Equal(got.Alert.Time) {
			t.Errorf("%s: %s, want %s", rest, have, want)
		}
	}
}

func TestTheModeOfACallIsThatOfItsSourceUnderTheCeiling(t *testing.T) {
	t.Parallel()
	call := `{"id":"c-1","task":"isolateHost","host":"ws-1","params":{"action":1},"at":"2026-11-20T17:06:56Z"}`
	for _, c := range []struct{ own, ceiling, want bridge.Mode }{
		{"", bridge.ModeEnforce, bridge.ModeEnforce},
		{"", bridge.ModeApprove, bridge.ModeApprove},
		{"", "", bridge.ModeShadow},
		{bridge.ModeShadow, bridge.ModeEnforce, bridge.ModeShadow},
		{bridge.ModeOff, bridge.ModeEnforce, ""},
	} {
		got := mapCall(t, newDirect(t, mapping.Source{Mode: c.own}, func(cfg *mapping.Config) { cfg.Ceiling = c.ceiling }), call)
		have := bridge.Mode("")
		if len(got.Orders) == 1 {
			have = got.Orders[0].Mode
		}
		if have != c.want || len(got.Refused) != 0 {
			t.Errorf("%q under %q: %q", c.own, c.ceiling, have)
		}
	}
}

func TestTheSameCallTwiceIsOneOrderAndAnotherCallADuplicateInItsWindow(t *testing.T) {
	t.Parallel()
	m := newDirect(t, mapping.Source{}, nil)
	call := `{"id":"c-%d","task":"isolateHost","host":"ws-1","params":{"action":1},"at":"2026-11-20T17:06:56Z"}`
	first, again, other := mapCall(t, m, fmt.Sprintf(call, 1)), mapCall(t, m, fmt.Sprintf(call, 1)), mapCall(t, m, fmt.Sprintf(call, 2))
	if first.Orders[0].ID != again.Orders[0].ID || first.Orders[0].ID == other.Orders[0].ID || first.Orders[0].Dedupe != other.Orders[0].Dedupe {
		t.Errorf("%+v\n%+v\n%+v", first.Orders[0], again.Orders[0], other.Orders[0])
	}
}

func TestACallSaysHowLongItsEffectLasts(t *testing.T) {
	t.Parallel()
	m := newDirect(t, mapping.Source{}, nil)
	call := func(task, params, lasts string) string {
		return `{"id":"c-1","task":"` + task + `","host":"ws-01","params":` + params + `,"at":"2026-11-20T17:06:56Z","reason":"INC-1","for":` + lasts + `}`
	}
	for name, tc := range map[string]struct {
		doc  string
		want time.Duration
		why  string
	}{
		"span":           {call("isolateHost", `{"action":1}`, `"30m0s"`), 30 * time.Minute, ""},
		"none":           {call("isolateHost", `{"action":1}`, `null`), 2 * time.Hour, ""},
		"permanent":      {call("isolateHost", `{"action":1}`, `"permanent"`), -1, ""},
		"too long":       {call("isolateHost", `{"action":1}`, `"9000h"`), 0, "for: must be from 1s to"},
		"no span":        {call("isolateHost", `{"action":1}`, `"soon"`), 0, "for: must be from 1s to"},
		"release":        {call("isolateHost", `{"action":0}`, `"1h"`), 0, "for: belongs to an isolation"},
		"another task":   {call("getFile", `{"path":"C:\\a.exe","md5hash":"","sha256hash":""}`, `"1h"`), 0, "for: belongs to an isolation"},
		"permanent kill": {call("getFile", `{"path":"C:\\a.exe","md5hash":"","sha256hash":""}`, `"permanent"`), 0, "for: belongs to an isolation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := mapCall(t, m, tc.doc)
			if tc.why == "" {
				if len(got.Orders) != 1 || got.Orders[0].For != tc.want {
					t.Fatalf("%+v", got)
				}
				return
			}
			if len(got.Refused) != 1 || !strings.Contains(got.Refused[0].Detail, tc.why) {
				t.Fatalf("%+v, want refused: %s", got, tc.why)
			}
		})
	}
}

func TestACallWhoseEventCouldNotBeFetchedSaysSo(t *testing.T) {
	t.Parallel()
	got := mapCall(t, newDirect(t, mapping.Source{}, nil),
		`{"id":"c-1","task":"isolateHost","host":"","params":{"action":1},"at":"2026-11-20T17:06:56Z","event_id":"8a3f6d3e-57a8-4f6b-9a9c-3a5f0c2b7d11","event":null}`)
	if len(got.Refused) != 1 || !strings.Contains(got.Refused[0].Detail, "could not be fetched from KUMA") || got.Refused[0].Reason != bridge.ReasonNoHost {
		t.Fatalf("%+v", got)
	}
}
