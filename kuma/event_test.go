package kuma

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// sampleEvent is built from the documented names of fields: started process under an office application.
const sampleEvent = `{"ID":"8d1c2a34-57a8-4f6b-9a9c-3a5f0c2b7d11","Type":3,"Timestamp":1763650000123,"TenantID":"a0996458-8b25-42e9-a673-d800d6169703",
 "Name":"Office starts shell","CorrelationRuleID":"b3d6f37c-fb3d-4f22-995a-2e8d559ea496","CorrelationRuleName":"Office \"starts\" shell",
 "Priority":4,"BaseEventCount":2,"BaseEventIDs":["f2f9a835-6fdf-4dea-91b3-1ccc1a270582"],"GroupedBy":["DeviceHostName"],"ServiceName":"[MAIN] Correlator",
 "DeviceVendor":"Microsoft","DeviceProduct":"Sysmon","DeviceEventClassID":"1","DeviceHostName":"ws-017.corp.example","DeviceAddress":"10.20.1.44",
 "SourceProcessName":"C:\\Office\\WINWORD.EXE","SourceProcessID":4120,"DestinationProcessName":"C:\\Windows\\System32\\cmd.exe","DestinationProcessID":7312,
 "DestinationUserName":"CORP\\nina","FileHash":"44D88612FEA8A8F36DE82E1278ABB02F","FilePath":"C:\\Users\\Public\\a b.exe","FileSize":68,
 "Tactic":"Execution","Technique":"T1059.001","DeviceCustomString1":"x","DeviceCustomString1Label":"why","DeviceCustomString2":"y","Unknown":{"a":[1]},
 "S":{"url":"https://a.example/"},"N.score":7,"F.ratio":0.5,"SA.tags":["a","b"],"NA.ports":[1,2],"FA.x":[0.1],"s.lower":1}`

func TestEventIsReadFieldByField(t *testing.T) {
	t.Parallel()
	e, err := DecodeEvent([]byte(sampleEvent))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]any{
		"id":        {e.ID, "8d1c2a34-57a8-4f6b-9a9c-3a5f0c2b7d11"},
		"type":      {e.Type, EventCorrelation},
		"time":      {e.Timestamp, time.Date(2025, 11, 20, 14, 46, 40, 123e6, time.UTC)},
		"level":     {e.Priority.Level(), "CRITICAL"},
		"rule":      {e.CorrelationRuleName, `Office "starts" shell`},
		"base":      {len(e.BaseEventIDs), 1},
		"grouped":   {e.GroupedBy[0], "DeviceHostName"},
		"host":      {e.HostName(), "ws-017.corp.example"},
		"address":   {e.Device.Address.String(), "10.20.1.44"},
		"process":   {e.ProcessPath(), `C:\Windows\System32\cmd.exe`},
		"pid":       {e.Destination.ProcessID, int64(7312)},
		"parent":    {e.Source.ProcessID, int64(4120)},
		"user":      {e.Destination.UserName, `CORP\nina`},
		"file":      {e.FilePath(), `C:\Users\Public\a b.exe`},
		"md5":       {e.MD5(), "44d88612fea8a8f36de82e1278abb02f"},
		"sha256":    {e.SHA256(), ""},
		"custom":    {fmt.Sprint(e.Custom), "map[2:y why:x]"},
		"S":         {e.Extended.S["url"], "https://a.example/"},
		"N":         {e.Extended.N["score"], int64(7)},
		"F":         {e.Extended.F["ratio"], 0.5},
		"lists":     {fmt.Sprint(e.Extended.SA, e.Extended.NA, e.Extended.FA), "map[tags:[a b]] map[ports:[1 2]] map[x:[0.1]]"},
		"technique": {e.Technique, "T1059.001"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s is %v, want %v", name, c[0], c[1])
		}
	}
}

func TestEventTakesBothSpellingsOfProcessIDButNotTogether(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"DestinationProcessID", "DestinationProcessId"} {
		e, err := DecodeEvent(fmt.Appendf(nil, `{"ID":"a",%q:7}`, key))
		if err != nil || e.Destination.ProcessID != 7 {
			t.Errorf("%s: %d (%v)", key, e.Destination.ProcessID, err)
		}
	}
	if _, err := DecodeEvent([]byte(`{"ID":"a","DestinationProcessID":7,"DestinationProcessId":8}`)); err == nil {
		t.Error("two process ids are accepted")
	}
}

func TestI2EventWithAWrongTypeIsRefusedWithItsField(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		`{"ID":"a","DestinationProcessID":7.5}`:     "DestinationProcessID",
		`{"ID":"a","DestinationProcessID":"7312"}`:  "DestinationProcessID",
		`{"ID":"a","SourceProcessId":true}`:         "SourceProcessID",
		`{"ID":"a","DestinationProcessID":-1}`:      "DestinationProcessID",
		`{"ID":"a","Priority":9}`:                   "Priority",
		`{"ID":"a","Priority":"4"}`:                 "Priority",
		`{"ID":"a","DeviceHostName":["a","b"]}`:     "DeviceHostName",
		`{"ID":"a","FilePath":{"x":1}}`:             "FilePath",
		`{"ID":7}`:                                  "ID",
		`{"ID":""}`:                                 "ID: required",
		`{}`:                                        "ID: required",
		`{"ID":"a","N.score":"7"}`:                  "N.score",
		`{"ID":"a","S":"x"}`:                        "S:",
		`{"ID":"a","id":"b"}`:                       "twice",
		`{"ID":"a","DeviceHostName":"a\u0000b"}`:    "NUL",
		`[{"ID":"a"}]`:                              "object",
		`null`:                                      "object",
		`{"ID":"a"}{"ID":"b"}`:                      "more than one",
		"\xef\xbb\xbf{\"ID\":\"a\"}":                "byte order mark",
		strings.Repeat(" ", MaxEvent) + `{"ID":""}`: "larger",
	} {
		if _, err := DecodeEvent([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %s in it", doc, err, want)
		}
	}
}

func TestI11EventWithoutAUsableTimestampCountsAsReceivedAndOfUnknownAge(t *testing.T) {
	t.Parallel()
	received := testStart()
	for _, c := range []struct {
		name, field string
		want        time.Time
		known       bool
	}{
		{"milliseconds", `1795204790000`, received.Add(-10 * time.Second), true},
		{"text of milliseconds", `"1795204790000"`, received.Add(-10 * time.Second), true},
		{"RFC 3339", `"2026-11-20T22:59:50+03:00"`, received.Add(-10 * time.Second), true},
		{"a little ahead", `1795204860000`, received.Add(time.Minute), true},
		{"null", `null`, received, false},
		{"zero", `0`, received, false},
		{"1970", `86400000`, received, false},
		{"seconds", `1795204790`, received, false},
		{"negative", `-1795204790000`, received, false},
		{"far ahead", `1795291200000`, received, false},
		{"naive", `"2026-11-20T19:59:50"`, received, false},
		{"not ISO", `"20 Nov 2026"`, received, false},
		{"float", `1.7952e12`, received, false},
		{"huge", `99999999999999999999`, received, false},
		{"object", `{"ms":1}`, received, false},
		{"bool", `true`, received, false},
	} {
		e, err := DecodeEvent([]byte(`{"ID":"a","Timestamp":` + c.field + `}`))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		at, known := e.When(received)
		if !at.Equal(c.want) || known != c.known || at.Location() != time.UTC {
			t.Errorf("%s: %s, known %v; want %s, %v", c.name, at, known, c.want, c.known)
		}
	}
	if _, known := (Event{}).When(received); known {
		t.Error("a missing timestamp is known")
	}
}

func TestEventNamesHostProcessAndFileInTheDocumentedOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ doc, host, process, file string }{
		{`{"ID":"a","SourceHostName":"s","DestinationHostName":"d","DeviceHostName":"v"}`, "v", "", ""},
		{`{"ID":"a","SourceHostName":"s","DestinationHostName":"d","DeviceHostName":"-"}`, "d", "", ""},
		{`{"ID":"a","SourceHostName":"s","DeviceAddress":"10.0.0.1"}`, "s", "", ""},
		{`{"ID":"a","SourceAddress":"10.0.0.2","DeviceAddress":"none"}`, "10.0.0.2", "", ""},
		{`{"ID":"a","SourceProcessName":"/bin/a","FilePath":"/tmp/f"}`, "", "/bin/a", "/tmp/f"},
		{`{"ID":"a","FilePath":"/tmp/f","FileName":"f"}`, "", "/tmp/f", "/tmp/f"},
		{`{"ID":"a","FileName":"C:\\x\\f.exe"}`, "", "", `C:\x\f.exe`},
		{`{"ID":"a","FileName":"f.exe"}`, "", "", ""},
	} {
		e, err := DecodeEvent([]byte(c.doc))
		if err != nil || e.HostName() != c.host || e.ProcessPath() != c.process || e.FilePath() != c.file {
			t.Errorf("%s: %q %q %q (%v)", c.doc, e.HostName(), e.ProcessPath(), e.FilePath(), err)
		}
	}
}

func TestEventHashIsToldByLabelOrLength(t *testing.T) {
	t.Parallel()
	md5, sha := strings.Repeat("a1", 16), strings.Repeat("b2", 32)
	for text, want := range map[string][2]string{
		md5:                              {md5, ""},
		strings.ToUpper(sha):             {"", sha},
		"MD5=" + md5 + ",SHA256=" + sha:  {md5, sha},
		"sha256:" + sha:                  {"", sha},
		"SHA-256=" + sha:                 {"", sha},
		"SHA1=" + md5:                    {"", ""},
		"MD5=" + md5[1:]:                 {"", ""},
		"MD5=" + sha:                     {"", ""},
		md5[1:] + "g":                    {"", ""},
		"-":                              {"", ""},
		"IMPHASH=" + md5 + ",MD5=" + md5: {md5, ""},
		strings.Repeat("=", 1000) + ",," + ";;" + sha: {"", sha},
	} {
		e := Event{File: EventFile{Hash: text}}
		if e.MD5() != want[0] || e.SHA256() != want[1] {
			t.Errorf("%.60q: %q %q, want %q", text, e.MD5(), e.SHA256(), want)
		}
	}
}

func TestPriorityScalesAreKeptApart(t *testing.T) {
	t.Parallel()
	if EventPriority(4).Level() != "CRITICAL" || AlertPriority(4).Level() != "LOW" {
		t.Errorf("4 is %s in an event and %s in an alert", EventPriority(4).Level(), AlertPriority(4).Level())
	}
	want := []string{"", "LOW", "LOW", "LOW", "LOW", "MEDIUM", "MEDIUM", "MEDIUM", "MEDIUM", "HIGH", "HIGH", "HIGH", "HIGH", "CRITICAL", "CRITICAL", "CRITICAL", "CRITICAL", ""}
	for n, level := range want {
		if got := AlertPriority(n).Level(); got != level {
			t.Errorf("alert priority %d is %q, want %q", n, got, level)
		}
	}
	for n, ok := range map[int]bool{-1: false, 0: true, 4: true, 5: false} {
		if _, err := ParseEventPriority(n); (err == nil) != ok {
			t.Errorf("event priority %d: %v", n, err)
		}
	}
}

func TestCEFEventReadsKUMAsNamesAndThoseOfTheStandard(t *testing.T) {
	t.Parallel()
	standard := `CEF:0|Microsoft|Sysmon|15|1|Office starts shell|High|externalId=8d1c rt=1763650000123 dvchost=ws-017 dvc=10.20.1.44 ` +
		`sproc=C:\\Office\\WINWORD.EXE spid=4120 dproc=C:\\Windows\\cmd.exe dpid=7312 filePath=C:\\Users\\Public\\a b.exe fileHash=44d88612fea8a8f36de82e1278abb02f cs1Label=why cs1=x`
	own := `CEF:0|Kaspersky|KUMA|3.4|x|Office starts shell|4|ID=8d1c Timestamp=1763650000123 DeviceHostName=ws-017 Type=3 Priority=3 TenantID=t1 ` +
		`DestinationProcessName=C:\\Windows\\cmd.exe DestinationProcessID=7312 GroupedBy=DeviceHostName,FilePath S.url=https://a.example/?a\=b N.score=7 dvchost=other externalId=zz`
	a, err := DecodeCEFEvent([]byte(standard))
	if err != nil || a.ID != "8d1c" || a.HostName() != "ws-017" || a.ProcessPath() != `C:\Windows\cmd.exe` || a.Destination.ProcessID != 7312 ||
		a.FilePath() != `C:\Users\Public\a b.exe` || a.Priority.Level() != "HIGH" || a.Custom["why"] != "x" || a.Timestamp.UnixMilli() != 1763650000123 {
		t.Errorf("standard: %+v (%v)", a, err)
	}
	b, err := DecodeCEFEvent([]byte(own))
	if err != nil || b.ID != "8d1c" || b.HostName() != "ws-017" || b.Type != EventCorrelation || b.Priority.Level() != "HIGH" || b.TenantID != "t1" ||
		len(b.GroupedBy) != 2 || b.Extended.S["url"] != "https://a.example/?a=b" || b.Extended.N["score"] != 7 {
		t.Errorf("own names: %+v (%v)", b, err)
	}
	for line, want := range map[string]string{
		`CEF:0|a|b|c|d|e|5|externalId=1 dpid=0x29c`:  "DestinationProcessID",
		`CEF:0|a|b|c|d|e|5|externalId=1 Priority=10`: "Priority",
		`CEF:0|a|b|c|d|e|5|dvchost=ws`:               "ID: required",
		`<13>CEF:0|a|b`:                              "",
	} {
		if _, err := DecodeCEFEvent([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	if e, err := DecodeCEFEvent([]byte(`CEF:0|a|b|c|d|e|4|externalId=1`)); err != nil || e.Priority != 0 {
		t.Errorf("severity 4 becomes priority %d (%v): the scale is not known", e.Priority, err)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(sampleEvent))
	f.Add([]byte(`{"ID":"a","Timestamp":"2026-11-20T20:00:00Z","S":{"a":"\u00e9\\\""},"Raw":"{\"a\":[1,2]}"}`))
	f.Add([]byte(` { "ID" : "a" , "GroupedBy" : [ "x" ] } `))
	f.Add([]byte(`{"ID":"a","N.":1,"FA":{"x":[1e308]},"DeviceCustomString7":"x"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		e, err := DecodeEvent(doc)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		// The walk must see what encoding/json sees.
		var fields map[string]json.RawMessage
		if json.Unmarshal(doc, &fields) != nil {
			t.Fatalf("%q is accepted and is no object", doc)
		}
		n := 0
		if err := eventWalk(string(doc), func(key, value string) error {
			n++
			if string(fields[key]) != value {
				t.Errorf("field %q is %q, want %q", key, value, fields[key])
			}
			return nil
		}); err != nil || n != len(fields) {
			t.Errorf("walk sees %d of %d fields (%v)", n, len(fields), err)
		}
		_, _ = e.When(testStart())
		_ = e.HostName() + e.ProcessPath() + e.FilePath() + e.MD5() + e.SHA256()
	})
}

func FuzzDecodeCEFEvent(f *testing.F) {
	f.Add([]byte(`CEF:0|a|b|c|d|e|High|externalId=1 rt=1763650000123 dvchost=ws-017 dpid=7 cs1Label=l cs1=v`))
	f.Add([]byte(`CEF:0|a|b|c|d|e|4|ID=1 S.url=x N.n=1 NA.p=1,2 GroupedBy=a,b Type=3 msg=\"a\\ b`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := DecodeCEFEvent(line)
		if err == nil && e.ID == "" {
			t.Error("an event without id")
		}
	})
}

func BenchmarkDecodeEvent(b *testing.B) {
	doc := []byte(sampleEvent)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEvent(doc); err != nil {
			b.Fatal(err)
		}
	}
}
