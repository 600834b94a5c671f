package mapping_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const manyPreset = "preset: own\nabout: x\nformat: json\nfields: {id: [id], host: [host]}"

// idsOf renders a delivery as its alert ids, refused ones in brackets.
func idsOf(mapped []bridge.Mapped) string {
	var ids []string
	for _, one := range mapped {
		id := one.Alert.ID
		if len(one.Refused) > 0 && strings.Contains(one.Refused[0].Detail, "cannot be read") {
			id = "[" + string(one.Alert.Raw) + "]"
		}
		ids = append(ids, id)
	}
	return strings.Join(ids, " ")
}

func TestDeliveriesAreTakenApartWithoutLosingTheGoodAlerts(t *testing.T) {
	t.Parallel()
	m := withPreset(t, manyPreset, everyAlert)
	for doc, want := range map[string]string{
		`{"id":"a"}`:                                    "a",
		" \r\n{\"id\":\"a\"}\n\n":                       "a",
		`[]`:                                            "",
		` [ {"id":"a"} , {"id":"b"} ] `:                 "a b",
		`{"id":"a"}{"id":"b"} {"id":"c"}`:               "a b c",
		"{\"id\":\"a\"}\r\n{\"id\":\"b\"}\n":            "a b",
		`[{"id":"a"}][{"id":"b"}]{"id":"c"}`:            "a b c",
		`[{"id":"a"},null,[{"id":"c"}],"x",{"id":"b"}]`: `a [null] [[{"id":"c"}]] ["x"] b`,
		`[{"id":"a"},{"id":1e999},{"id":"b"}]`:          `a [{"id":1e999}] b`,
		"{\"id\":\"a\"}\nrubbish\n{\"id\":\"b\"}":       "a [rubbish\n] b",
		"{\"id\":\"a\"}\n{\"id\":{\n{\"id\":\"b\"}":     "a [{\"id\":{\n] b",
		"{\"id\":\"a\"} trailing":                       "a [trailing]",
		"{\n\"id\":\"a\"\n}\n{\n\"id\":\"b\"\n}":        "a b",
		`{"id":"a","x":1}{"id":"a","x":2}{"id":"a#2"}`:  "a a#2 a#2#2",
		`{"id":"a#2"}{"id":"a","x":1}{"id":"a","x":2}`:  "a#2 a a#3",
		`{"id":"a"}{"id":"a"}`:                          "a",
		`{"id":"a"}{"id":"a\u001b"}`:                    "a dd91ebd63ee6ae4c04dd8aaee5f9fda0d",
	} {
		got := idsOf(mapAll(t, m, doc))
		if strings.Contains(want, " d") {
			got, want = got[:3], want[:3]
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", doc, got, want)
		}
	}
}

func TestDeliveriesOfWhichNothingCanBeReadAreBadAlerts(t *testing.T) {
	t.Parallel()
	m := withPreset(t, manyPreset, everyAlert)
	for doc, want := range map[string]string{
		"": "must be json", "null": "must be json", "7": "must be json", "text": "must be json", "\ufeff{}": "must be json", "CEF:0|": "must be json",
		`{"id":`: "is cut off", `[{"id":"a"}`: "is cut off", `[{"id":"a"} {"id":"b"}]`: "want a comma", `[1,2]`: "must be a JSON object", `{"a":1,"a":2}`: "this key twice",
		"{\"a\":\"\xff\"}":                "UTF-8",
		strings.Repeat(" ", 4<<20) + "{}": "larger than 4194304 bytes",
		strings.Repeat("{}", 10001):       "more than 10000 alerts", "[" + strings.Repeat("{},", 10000) + "{}]": "more than 10000 alerts",
	} {
		mustRefuse(t, m, doc, want)
	}
}

func TestAListInsideADocumentIsBoundedToo(t *testing.T) {
	t.Parallel()
	m := withPreset(t, "preset: own\nabout: x\nformat: json\neach: [a]\nfields: {id: [id]}", "rules: []")
	mustRefuse(t, m, `{"a":[`+strings.Repeat("{},", 10000)+`{"x":1}]}`, "more than 10000 alerts")
	mustRefuse(t, m, `{"b":1}`, "a: must be a list of objects")
	if got := mapAll(t, m, `{"a":[]}`); len(got) != 0 {
		t.Errorf("an empty list gave %d alerts", len(got))
	}
	if got := idsOf(mapAll(t, m, `{"a":[{"id":"1"},7,{"id":"2"},{"id":"1"},{"id":"1","x":0}]}`)); got != "1 [7] 2 1#2" {
		t.Errorf("got %q", got)
	}
}

func TestRefusedElementsAreOrdersTheStoreTakes(t *testing.T) {
	t.Parallel()
	m := withPreset(t, manyPreset, everyAlert)
	doc := "{\"id\":\"a\",\"host\":\"ws-1\"}\n{\"id\":\"b\",\"\x1b[2J\u202e\":1e999}\n{\"id\":\"c\",\"host\":\"ws-2\"}"
	first, again := mapAll(t, m, doc), mapAll(t, m, doc)
	if diff := cmp.Diff(idsOf(first), idsOf(again)); diff != "" || len(first) != 3 {
		t.Fatalf("%d alerts, -first +again\n%s", len(first), diff)
	}
	bad := first[1]
	if len(bad.Orders) != 0 || len(bad.Refused) != 1 {
		t.Fatalf("%+v", bad)
	}
	o := bad.Refused[0]
	if o.ID == "" || o.AlertID != bad.Alert.ID || o.Source != "bus" || o.State != bridge.StateRefused || o.Reason != bridge.ReasonInvalid || o.Task != nil || o.Rule != "" {
		t.Errorf("%+v", o)
	}
	if strings.ContainsAny(o.Detail, "\n\x1b\u202e") || !strings.Contains(o.Detail, "cannot be read") {
		t.Errorf("detail %q", o.Detail)
	}
	if o.ID != again[1].Refused[0].ID {
		t.Error("a redelivery refuses with another id")
	}
	for _, i := range []int{0, 2} {
		if len(first[i].Orders) != 1 || first[i].Orders[0].AlertID != first[i].Alert.ID {
			t.Errorf("%+v", first[i])
		}
	}
}

func TestRawIsTheSmallestDocumentThatReadsTheSameAgain(t *testing.T) {
	t.Parallel()
	m := withPreset(t, manyPreset, everyAlert)
	for _, one := range mapAll(t, m, "[{\"id\":\"a\",\"host\":\"h1\"},\n{\"host\":\"h2\"}]") {
		again := mapAll(t, m, string(one.Alert.Raw))
		if len(again) != 1 || again[0].Alert.ID != one.Alert.ID || again[0].Orders[0].ID != one.Orders[0].ID {
			t.Errorf("%q reads as %+v", one.Alert.Raw, again)
		}
	}
}

func TestABatchOfBrokenLinesTakesLinearTime(t *testing.T) {
	t.Parallel()
	m := withPreset(t, manyPreset, "rules: []")
	begin := time.Now()
	got := mapAll(t, m, `{"id":"a"}`+strings.Repeat("\n{\"id\":{", 400_000))
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if len(got) < 2 || got[0].Alert.ID != "a" {
		t.Errorf("%d alerts", len(got))
	}
}

func TestI1DocumentsOfPresetsInDataThatAreNoAlertAreRefused(t *testing.T) {
	t.Parallel()
	for _, preset := range []string{"kuma", "wazuh", "kuma-alert", "cef"} {
		for name, doc := range map[string]string{
			"empty": "", "space": " \n", "null": "null", "scalar": `"HIGH"`, "number": "7", "cut": `{"ID":"x"`, "utf-16": "\xff\xfe{\x00}\x00",
			"bom": "\ufeff{}", "text": "HIGH alert", "cef cut": "CEF:0|a|b", "elements of nothing": "[1,2,null]", "syslog cut": "<999>x",
		} {
			t.Run(preset+" "+name, func(t *testing.T) {
				t.Parallel()
				mustRefuse(t, newMapping(t, preset, "ws1", everyAlert), doc, preset)
			})
		}
	}
}

func TestI2FieldsOfWrongTypeAreAbsentAndDuplicatesRefused(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "kuma", "", everyAlert)
	for _, doc := range []string{
		`{"DestinationProcessID":7.0}`, `{"DestinationProcessID":1e3}`, `{"DestinationProcessID":true}`, `{"DestinationProcessID":{}}`, `{"DestinationProcessID":[7,8]}`,
		`{"DestinationProcessID":-1}`, `{"DestinationProcessID":0}`, `{"DestinationProcessID":4194305}`, `{"DestinationProcessID":"0x1c"}`, `{"DestinationProcessID":" 7"}`,
		`{"destinationprocessid":7}`,
	} {
		if got := mapAll(t, m, doc); len(got) != 1 || got[0].Alert.Process.PID != 0 {
			t.Errorf("%s: pid %d", doc, got[0].Alert.Process.PID)
		}
	}
	mustRefuse(t, m, `{"DestinationProcessID":7,"DestinationProcessID":8}`, "DestinationProcessID: the object has this key twice")
	mustRefuse(t, m, `{"DestinationProcessID":7,"DestinationProcessId":8}`, "twice")
	for doc, want := range map[string]int{`{"DestinationProcessID":7}`: 7, `{"DestinationProcessID":"7"}`: 7, `{"DestinationProcessId":["7"]}`: 7} {
		if got := mapAll(t, m, doc)[0].Alert.Process.PID; got != want {
			t.Errorf("%s: pid %d, want %d", doc, got, want)
		}
	}
}

func TestI4HostileTextInPresetsInDataIsRefusedQuickly(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "kuma", "", everyAlert)
	for name, doc := range map[string]string{
		"invalid utf-8": "{\"Name\":\"a\xffb\"}", "lone surrogate": `{"Name":"\ud800"}`, "nul": `{"Name":"a\u0000b"}`, "raw control": "{\"Name\":\"a\x01b\"}",
		"10001 levels": `{"x":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + `}`, "number too big": `{"x":1e400}`, "nul in unread": `{"unread":"a\u0000b"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, m, doc, "")
		})
	}
	for name, host := range map[string]string{
		"bidi": "ws\u202e1", "escape": "ws\x1b[2J", "newline": "ws\n1", "1 MiB": strings.Repeat("a", 1<<20), "option": "--action", "wildcard": "ws*", "template": "{{.X}}",
	} {
		got := mapAll(t, m, fmt.Sprintf(`{"ID":"1","DeviceHostName":%s}`, quoted(host)))
		if len(got) != 1 || len(got[0].Orders) != 0 || len(got[0].Refused) != 1 || strings.ContainsAny(got[0].Refused[0].Detail, "\n\x1b\u202e") {
			t.Errorf("%s: %+v", name, got[0].Refused)
		}
	}
}

func TestI7HostsOfPresetsInDataThatNameNoOtherMachineAreRefused(t *testing.T) {
	t.Parallel()
	m := newMapping(t, "kuma", "", everyAlert)
	for host, ok := range map[string]bool{
		"ws1": true, "WS1.corp.local": true, "10.0.5.7": true, "e38c2d9b-5d2c-4f5c-8a43-6c1c1f0f7d11": true, "": false, "*": false, "localhost": false, "127.0.0.1": false,
		"::1": false, "ws1@main": false, "ws 1": false, strings.Repeat("a", 300): false, "(ws1)": false, "\uff11\uff12": false, `corp\ws1`: false,
	} {
		got := mapAll(t, m, fmt.Sprintf(`{"ID":"1","DeviceHostName":%s}`, quoted(host)))
		if len(got) != 1 || (len(got[0].Orders) == 1) != ok || len(got[0].Orders)+len(got[0].Refused) != 1 {
			t.Errorf("host %q: %+v", host, got)
		}
	}
}

func TestI11TimesOfPresetsInDataThatDoNotTellAreUnknown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`1795194416123`: "2026-11-20T17:06:56.123Z", `"1795194416123"`: "2026-11-20T17:06:56.123Z", `1795194416123.5`: "2026-11-20T17:06:56.1235Z",
		`"2026-11-20T17:06:56Z"`: "2026-11-20T17:06:56Z", `"2026-11-20 20:06:56.5+03:00"`: "2026-11-20T17:06:56.5Z",
		`0`: "unknown", `1795194416`: "unknown", `1.795e12`: "unknown", `-5`: "unknown", `""`: "unknown", `null`: "unknown", `true`: "unknown", `{}`: "unknown",
		`"2026-11-20T17:06:56"`: "unknown", `"2026-11-20T17:06:56+0000"`: "unknown", `"20/11/2026"`: "unknown", `1795999999123`: "unknown", `99999999999999999999`: "unknown",
		`[1795194416123,1795194416124]`: "unknown", `1795194416123.`: "unknown",
	} {
		got, err := newMapping(t, "kuma", "ws1", everyAlert).Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(`{"ID":"1","Timestamp":` + text + `}`)})
		if err != nil {
			if !errors.Is(err, bridge.ErrBadAlert) || text != `1795194416123.` {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if have := stamp(got[0].Alert.Time); have != want || !got[0].Orders[0].AlertTime.Equal(got[0].Alert.Time) {
			t.Errorf("%s: %s, want %s", text, have, want)
		}
	}
}
