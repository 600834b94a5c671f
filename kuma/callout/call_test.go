package callout

import (
	"archive/zip"
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// argsArchive is the smallest IOC archive.
func argsArchive(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("a.ioc")
	if err == nil {
		_, err = f.Write([]byte("<OpenIOC/>"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTheDocumentOfACallIsTheOneTheMappingReads(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 20, 6, 56, 123456789, time.UTC)
	for _, c := range []struct {
		name string
		argv []string
		want string
	}{
		{
			"isolateHost",
			[]string{"--host", "ws-01", "--action", "1", "--for", "4h", "--reason", "a <b> & c", "--timestamp", "1732104000123"},
			`{"id":"k0000001","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"2026-11-20T20:06:56.123456789Z",` +
				`"timestamp":1732104000123,"event":null,"for":"4h0m0s","reason":"a <b> & c"}`,
		},
		{
			"isolateHost",
			[]string{"--host", "ws-01", "--action", "1", "--for", "permanent"},
			`{"id":"k0000001","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"2026-11-20T20:06:56.123456789Z","event":null,"for":"permanent"}`,
		},
		{
			"quarantineFile",
			[]string{"--event-id", "8A3F6D3E-57A8-4F6B-9A9C-3A5F0C2B7D11", "--timestamp", "1732104000123"},
			`{"id":"k0000001","task":"quarantineFile","host":"","params":{"md5hash":"","sha256hash":"","path":""},"at":"2026-11-20T20:06:56.123456789Z",` +
				`"timestamp":1732104000123,"event_id":"8a3f6d3e-57a8-4f6b-9a9c-3a5f0c2b7d11","event":null}`,
		},
		{
			"isolateHost",
			[]string{"--fields", "DeviceHostName,Name", "--values", "ws-01 | a\nb", "--action", "0"},
			`{"id":"k0000001","task":"isolateHost","host":"ws-01","params":{"action":0},"at":"2026-11-20T20:06:56.123456789Z",` +
				`"event":{"DeviceHostName":"ws-01","Name":"a\\nb"},"reason":"a\\nb"}`,
		},
	} {
		call, err := ParseCall(c.name, c.argv)
		if err != nil {
			t.Errorf("%q: %v", c.argv, err)
			continue
		}
		call.ID, call.At = "k0000001", at
		got, err := call.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, string(got)); diff != "" {
			t.Error(diff)
		}
		back, err := DecodeCall(got)
		if err != nil {
			t.Errorf("%s: %v", got, err)
			continue
		}
		again, err := back.MarshalJSON()
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("comes back as %s, want %s (%v)", again, got, err)
		}
	}
}

func TestACallThatWasNotMadeByParseCallIsRefused(t *testing.T) {
	t.Parallel()
	const good = `{"id":"k0000001","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"2026-11-20T20:06:56Z","event":null}`
	if _, err := DecodeCall([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for change, want := range map[[2]string]string{
		{`"k0000001"`, `"K0000001"`}:                               "id",
		{`"k0000001"`, `"../../etc"`}:                              "id",
		{`"k0000001"`, `"short"`}:                                  "id",
		{`"k0000001"`, `1`}:                                        "not the document",
		{`"isolateHost"`, `"isolatehost"`}:                         "unknown task",
		{`"isolateHost"`, `"deleteFile"`}:                          "params.action",
		{`"ws-01"`, `"*"`}:                                         "host",
		{`"ws-01"`, `""`}:                                          "host",
		{`{"action":1}`, `{"action":2}`}:                           "params.action",
		{`{"action":1}`, `{}`}:                                     "params.action",
		{`{"action":1}`, `null`}:                                   "params",
		{`"2026-11-20T20:06:56Z"`, `"yesterday"`}:                  "not the document",
		{`"at":"2026-11-20T20:06:56Z",`, ``}:                       "at",
		{`"event":null`, `"event":null,"for":"-4h"`}:               "for",
		{`"event":null`, `"event":null,"actor":"root"`}:            "not the document",
		{`"event":null`, `"event":null,"reason":"a\u202eb"`}:       "reason",
		{`"event":null`, `"event":null,"event_id":"1' OR '1'='1"`}: "event_id",
		{`"event":null`, `"event":null,"event_id":"8A3F6D3E-57A8-4F6B-9A9C-3A5F0C2B7D11"`}: "event_id",
		{`"event":null}`, `"event":null}{}`}:                                               "call",
		{`"event":null}`, `"event":null`}:                                                  "call",
		{`"event":null`, `"event":null,"Event":1`}:                                         "call",
		{good, ``}:     "call",
		{good, `null`}: "params",
		{good, `[]`}:   "not the document",
	} {
		doc := strings.Replace(good, change[0], change[1], 1)
		_, err := DecodeCall([]byte(doc))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", doc, err, want)
		}
	}
	if _, err := DecodeCall(bytes.Repeat([]byte(" "), MaxCallBytes+1)); err == nil {
		t.Error("a call over 16 MiB is taken")
	}
}

func TestCallIDsDiffer(t *testing.T) {
	t.Parallel()
	a, b := NewCallID(), NewCallID()
	if a == b || !callIsID(a) || !callIsID(b) {
		t.Errorf("got %q and %q", a, b)
	}
}

// FuzzParseCall reads words separated by U+001F.
func FuzzParseCall(f *testing.F) {
	const sep = "\x1f"
	for name, argv := range argsGood() {
		f.Add(name, strings.Join(argv, sep))
	}
	for _, hostile := range argsHostile() {
		if len(hostile) < 100 {
			f.Add("deleteFile", strings.Join([]string{"--host", "ws-01", "--path", hostile}, sep))
			f.Add("isolateHost.py", strings.Join([]string{"--host=" + hostile, "--action", hostile}, sep))
			f.Add("isolateHost.py", strings.Join([]string{"--fields", "DeviceHostName,Name", "--values", "ws-01|" + hostile, "--action=1"}, sep))
		}
	}
	f.Add("getFile", strings.Join([]string{"--event-id", "8a3f6d3e-57a8-4f6b-9a9c-3a5f0c2b7d11", "--timestamp", "1732104000123", "--hash", "MD5=a,SHA256=b"}, sep))
	f.Add("onDemandScan", strings.Join([]string{"--host", "a", "--path", `C:\a D:\b`, `E:\c`, "--type=22,14"}, sep))
	f.Fuzz(func(t *testing.T, name, line string) {
		argv := strings.Split(line, sep)
		if slices.ContainsFunc(argv, func(w string) bool { return strings.HasPrefix(w, "/") || strings.Contains(w, "=/") }) && strings.Contains(line, "ioc") {
			return // files of this machine
		}
		call, err := ParseCall(name, argv)
		if err != nil {
			wantArgumentErrors(t, err)
			return
		}
		params := call.Params
		if call.EventID != "" {
			params = callStandIns(params)
		}
		if err := params.Validate(); err != nil {
			t.Errorf("%q is taken: %v", argv, err)
		}
		asked := func(option string) bool {
			return slices.ContainsFunc(argv, func(w string) bool {
				return strings.HasPrefix(w, "-") && argsLoose(strings.TrimLeft(argsOptionPart(w), "-")) == argsLoose(option)
			})
		}
		switch task := call.Params.(type) {
		case bridge.DeleteFile:
			if task.SearchInSubfolders && !asked(optSubfolder) {
				t.Errorf("%q searches subfolders unasked", argv)
			}
		case bridge.IsolateHost:
			if !asked(optAction) {
				t.Errorf("%q has an action unasked", argv)
			}
		case bridge.OnDemandScan:
			for _, o := range task.Objects {
				if o.Recursive && !asked(optRecursive) || !o.Enabled && !asked(optEnabled) {
					t.Errorf("%q changes a scan unasked", argv)
				}
			}
		default:
		}
		if strings.HasPrefix(call.Host, "-") {
			t.Errorf("%q: the host is an option", argv)
		}
		call.ID, call.At = "k0000001", time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
		doc, err := call.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeCall(doc)
		if err != nil {
			t.Fatalf("%s does not come back: %v", doc, err)
		}
		if again, err := back.MarshalJSON(); err != nil || !bytes.Equal(doc, again) {
			t.Errorf("%s comes back as %s", doc, again)
		}
	})
}

func FuzzDecodeCall(f *testing.F) {
	f.Add([]byte(`{"id":"k0000001","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"2026-11-20T20:06:56Z","event":null}`))
	f.Add([]byte(`{"id":"k0000001","task":"onDemandScan","host":"ws-01","params":[],"at":"2026-11-20T20:06:56Z","event":{"a":1},"for":"1h"}`))
	f.Add([]byte(`{"id":"k0000001","task":"getFile","host":"","params":{},"at":"2026-11-20T20:06:56Z","event_id":"8a3f6d3e-57a8-4f6b-9a9c-3a5f0c2b7d11"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		call, err := DecodeCall(doc)
		if err != nil {
			return
		}
		again, err := call.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeCall(again)
		if err != nil {
			t.Fatalf("%s does not come back: %v", again, err)
		}
		if twice, err := back.MarshalJSON(); err != nil || !bytes.Equal(again, twice) {
			t.Errorf("%s comes back as %s", again, twice)
		}
	})
}
