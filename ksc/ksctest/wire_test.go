package ksctest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParamsTravelInTheVendorsTypes(t *testing.T) {
	t.Parallel()
	p := params{
		{"s", "a\"\\\n\x01\u2028é\xff"},
		{"i", -7},
		{"b", true},
		{"l", long(1) << 40},
		{"t", time.Date(2026, 11, 20, 18, 6, 56, 999, time.FixedZone("", 3600))},
		{"zero", time.Time{}},
		{"null", nil},
		{"p", params{{"x", 1}}},
		{"a", []any{"s", nil, params{{"y", false}}, []any{}}},
	}
	got := string(p.appendBare(nil))
	want := `{"s":"a\"\\\u000a\u0001` + "\u2028é\ufffd" + `","i":-7,"b":true,"l":{"type":"long","value":1099511627776},` +
		`"t":{"type":"datetime","value":"2026-11-20T17:06:56Z"},"zero":{"type":"datetime","value":""},` +
		`"p":{"type":"params","value":{"x":1}},"a":["s",null,{"type":"params","value":{"y":false}},[]]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !json.Valid([]byte(got)) {
		t.Error("no JSON")
	}
	wrapped := string(appendValue(nil, params{{"x", 1}}))
	if wrapped != `{"type":"params","value":{"x":1}}` {
		t.Errorf("got %s", wrapped)
	}
}

func TestBodiesAreReadLeniently(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	c.add(hostA, noon, "{}")
	find := `{"strFilter":null,"pFieldsToReturn":["KLINCDT_ID"],"pFieldsToOrder":null,"unknown":{"a":[1,"}"]},"lMaxLifeTime":100}`
	for name, test := range map[string]struct {
		body        string
		contentType string
		status      int
	}{
		"null, missing and unknown": {find, "application/json", 200},
		"charset":                   {find, "application/json; charset=UTF-8", 200},
		"no content type":           {find, "", 200},
		"white space":               {" \n" + strings.ReplaceAll(find, ",", " ,\t"), "application/json", 200},
		"other content type":        {find, "text/plain", 415},
		"form":                      {find, "application/x-www-form-urlencoded", 415},
		"no JSON":                   {"{", "application/json", 400},
		"an array":                  {"[]", "application/json", 400},
		"two values":                {find + find, "application/json", 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := c.post("HostGroup.FindIncidents", test.body, "Content-Type", test.contentType); r.status != test.status {
				t.Errorf("got %d %q, want %d", r.status, r.text, test.status)
			}
		})
	}
	t.Run("chunked", func(t *testing.T) {
		t.Parallel()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/api/v1.0/HostGroup.FindIncidents", io.MultiReader(strings.NewReader(find[:20]), strings.NewReader(find[20:])))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-KSC-Session", c.session)
		if r := c.send(req); r.status != 200 || r.num(t, "PxgRetVal") != 1 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("too large", func(t *testing.T) {
		t.Parallel()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/api/v1.0/Session.Ping", io.LimitReader(bytes.NewReader(make([]byte, maxBody+10)), maxBody+1))
		if err != nil {
			t.Fatal(err)
		}
		if r := c.send(req); r.err == nil && r.status != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d %q", r.status, r.text)
		}
	})
}

func TestMissingIntegerIsZero(t *testing.T) {
	t.Parallel()
	c := newSession(t, startServer(t, testConfig()))
	c.add(hostA, noon, "{}")
	accessor := c.call("HostGroup.FindIncidents", `{"strFilter":"","pFieldsToReturn":["KLINCDT_ID"]}`).str(t, "strAccessor")
	if r := c.call("ChunkAccessor.GetItemsChunk", `{"strAccessor":"`+accessor+`","nCount":5}`); r.num(t, "PxgRetVal") != 1 {
		t.Errorf("nStart left out: %s", r.text)
	}
	if r := c.call("ChunkAccessor.GetItemsChunk", `{"strAccessor":"`+accessor+`"}`); r.num(t, "PxgRetVal") != 0 {
		t.Errorf("nCount left out: %s", r.text)
	}
}

func TestAnswersAreCompressedOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	for i := range 20 {
		c.add(hostA, fmt.Sprintf("2026-11-20T17:06:%02dZ", i), isolateA)
	}
	accessor := c.call("HostGroup.FindIncidents", `{"strFilter":"","pFieldsToReturn":["KLINCDT_BODY"]}`).str(t, "strAccessor")
	args := `{"strAccessor":"` + accessor + `","nStart":0,"nCount":100}`
	plain := c.post("ChunkAccessor.GetItemsChunk", args)
	for encoding, want := range map[string]string{"gzip, deflate": "gzip", "gzip;q=0": "", "deflate": ""} {
		r := c.post("ChunkAccessor.GetItemsChunk", args, "Accept-Encoding", encoding)
		if got := r.header.Get("Content-Encoding"); got != want {
			t.Errorf("%s: got %q", encoding, got)
		}
		if want == "" {
			continue
		}
		z, err := gzip.NewReader(strings.NewReader(r.text))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); err != nil || string(b) != plain.text {
			t.Errorf("unpacked %q, %v", b, err)
		}
	}
	if got := plain.header.Get("Content-Encoding"); got != "" {
		t.Errorf("nobody asked: %q", got)
	}
}

func TestApplicationErrorsHaveAllFields(t *testing.T) {
	t.Parallel()
	c := newSession(t, startServer(t, testConfig()))
	r := c.post("Tasks.GetTask", `{"strTask":"nope"}`)
	want := `{"PxgError":{"code":1181,"subcode":0,"module":"KLSTD","file":"ksctest.cpp","line":101,"message":"Task not found",` +
		`"locdata":{"type":"params","value":{"format-id":1181,"format":"Task '%1' not found","locmodule":"klstd","args":["nope"]}}}}`
	if r.status != 200 || r.text != want {
		t.Errorf("got %d\n%s\nwant\n%s", r.status, r.text, want)
	}
	for _, e := range []*pxgError{notFound("a", "b"), badParameter("a", "b"), tooMany("a"), unavailable("a"), noAccess("a")} {
		var v struct {
			PxgError struct {
				Locdata *struct {
					Value map[string]json.RawMessage `json:"value"`
				} `json:"locdata"`
			} `json:"PxgError"`
		}
		if err := json.Unmarshal(e.appendTo(nil), &v); err != nil {
			t.Fatal(err)
		}
		if loc := v.PxgError.Locdata; loc != nil && len(loc.Value) != 4 {
			t.Errorf("%v: locdata has %d of its 4 keys", e, len(loc.Value))
		}
	}
}

func TestHandlesAre22LettersAndDigits(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9A-Za-z]{22}$`)
	seen := make(map[string]bool)
	for range 100 {
		handle := newHandle()
		if !form.MatchString(handle) || seen[handle] {
			t.Fatalf("handle %q", handle)
		}
		seen[handle] = true
	}
}

func FuzzArguments(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"b":"x\"}","c":[1,{"d":null}],"a":2}`, ` { "a" : "\u0041" , "\u0062":{"type":"params","value":{}} } `, `[]`, `{"a":-1e5}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) || !utf8.Valid(data) {
			return // encoding/json replaces bytes that are no UTF-8, the mock leaves them as they are
		}
		var want map[string]json.RawMessage
		isObject := json.Unmarshal(data, &want) == nil && want != nil
		got, ok := parseArgs(nil, data)
		if ok != isObject {
			t.Fatalf("%q: object %v, want %v", data, ok, isObject)
		}
		for name, raw := range want {
			value := got.get(name)
			if value == nil {
				value = []byte("null")
			}
			if string(value) != string(raw) {
				t.Errorf("%q: %q is %s, want %s", data, name, value, raw)
			}
			var s string
			if json.Unmarshal(raw, &s) == nil && raw[0] == '"' {
				if mine, ok := unquote(raw); !ok || mine != s {
					t.Errorf("%s: got %q, want %q", raw, mine, s)
				}
			}
			var items []json.RawMessage
			if json.Unmarshal(raw, &items) == nil && raw[0] == '[' {
				mine, ok := parseList(raw)
				if !ok || len(mine) != len(items) {
					t.Errorf("%s: %d items, want %d", raw, len(mine), len(items))
				}
			}
		}
	})
}
