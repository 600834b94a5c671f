package ksc

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestPxgErrorKeepsEveryFieldAndSurvivesMissingOnes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want Error
		says string
	}{
		"full": {
			`{"code":1181,"subcode":3,"module":"KLSTD","file":"x.cpp","line":12,"message":"Object not found","locdata":{"type":"params","value":{"format-id":7,"format":"Object '%1' not found in %2","locmodule":"klstd","args":["abc"]}}}`,
			Error{Method: "A.B", Code: 1181, Subcode: 3, Module: "KLSTD", File: "x.cpp", Line: 12, Message: "Object 'abc' not found in"},
			"server error 1181/3 (KLSTD): Object 'abc' not found in",
		},
		"bare locdata":    {`{"code":1,"locdata":{"format":"%2-%1 100%","args":["a",7]}}`, Error{Method: "A.B", Code: 1, Message: "7-a 100%"}, "server error 1: 7-a 100%"},
		"args, no format": {`{"code":1,"message":"m","locdata":{"type":"params","value":{"args":["a"]}}}`, Error{Method: "A.B", Code: 1, Message: "m"}, "server error 1: m"},
		"empty":           {`{}`, Error{Method: "A.B"}, "server error 0"},
		"other types":     {`{"code":"1182","line":"x","module":5,"message":{"a":1},"locdata":[]}`, Error{Method: "A.B", Code: 1182, Module: "5", Message: `{"a":1}`}, `server error 1182 (5): {"a":1}`},
		"hostile text":    {`{"code":1,"message":"a\u001b[31m\nb\u202ec"}`, Error{Method: "A.B", Code: 1, Message: "a [31m bc"}, "server error 1: a [31m bc"},
	} {
		got := newError("A.B", json.RawMessage(c.text))
		if diff := cmp.Diff(&c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got.Error() != c.says {
			t.Errorf("%s: says %q", name, got.Error())
		}
	}
}

func TestEveryStatusHasItsClass(t *testing.T) {
	t.Parallel()
	permanent, retry, unknown := bridge.Permanent, bridge.Retry, bridge.Unknown
	for status, want := range map[int][2]bridge.Class{ // with an effect, repeatable
		100: {unknown, retry}, 201: {unknown, retry}, 202: {unknown, retry}, 204: {unknown, retry},
		301: {unknown, permanent}, 302: {unknown, permanent}, 303: {unknown, permanent}, 304: {unknown, permanent},
		307: {permanent, permanent}, 308: {permanent, permanent},
		400: {permanent, permanent}, 401: {permanent, permanent}, 403: {permanent, permanent}, 404: {permanent, permanent},
		413: {permanent, permanent}, 429: {unknown, retry},
		500: {unknown, retry}, 502: {unknown, retry}, 503: {unknown, retry}, 504: {unknown, retry}, 599: {unknown, retry},
	} {
		if got := [2]bridge.Class{classOfStatus(status, false), classOfStatus(status, true)}; got != want {
			t.Errorf("%d: got %v, want %v", status, got, want)
		}
	}
}

// FuzzResponse reads any bytes as the answer to each kind of call.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		`{"PxgRetVal":17}`, `{}`, ``, `null`, `[]`, `{"PxgRetVal":17.0}`, `{"PxgRetVal":"17"}`, `{"PxgRetVal":null}`, `{"PxgRetVal":17`, `{"PxgRetVal":17}x`,
		`{"PxgError":{"code":1181,"subcode":0,"module":"KLSTD","file":"x.cpp","line":12,"message":"Object not found","locdata":{"type":"params","value":{"format-id":7,"format":"Object '%1' not found","locmodule":"klstd","args":["abc"]}}}}`,
		`{"PxgError":null,"PxgRetVal":17}`, `{"PxgError":[]}`, `{"PxgRetVal":1,"strAccessor":"ua1eizhXcYqZUuv64j8yB1"}`,
		`{"PxgRetVal":1,"pChunk":{"KLCSP_ITERATOR_ARRAY":[{"type":"params","value":{"KLINCDT_ID":17,"KLINCDT_ADDED":{"type":"datetime","value":"2026-11-20T17:06:56Z"},"KLINCDT_BODY":"{}","KLHST_WKS_HOSTNAME":"x","KLHST_WKS_IP_LONG":{"type":"long","value":1}}}]}}`,
		`{"PxgRetVal":"nsPbUpP1oAVZlM1lODEbg8A=="}`, `{"PxgRetVal":true}`, "\xef\xbb\xbf{}", `{"PxgRetVal":-1}`, `{"PxgRetVal":9223372036854775808}`,
	} {
		f.Add([]byte(s))
	}
	id := secret("nsPbUpP1oAVZlM1lODEbg8A==")
	f.Fuzz(func(t *testing.T, body []byte) {
		complete := checkAnswer(body, maxAnswer) == nil
		if complete != (json.Valid(body) && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))) {
			t.Fatalf("complete: %v", complete)
		}
		var added addIncidentOut
		var chunk chunkOut
		outs := []output{&added, &chunk, &result{}, &findOut{}, &countOut{}, &boolOut{}, &hostInfoOut{}, &startSessionOut{}}
		for _, out := range outs {
			for _, m := range []method{methodAddIncident, methodFindIncidents} {
				err := decode(m, body, out, []secret{id})
				if err == nil {
					continue
				}
				ce, ok := errors.AsType[*CallError](err)
				if !ok || ce.Class != bridge.Permanent && ce.Class != bridge.Unknown {
					t.Fatalf("%T: %v", out, err)
				}
				if vendor := isRefusal(err); !m.repeatable && (ce.Class == bridge.Permanent) != vendor {
					t.Fatalf("class %s with refusal %v: %v", ce.Class, vendor, err)
				}
				text := err.Error()
				if len(text) > 3*maxExcerpt || !utf8.ValidString(text) || strings.Contains(text, string(id)) || slices.ContainsFunc([]rune(text), unicode.IsControl) {
					t.Fatalf("text of the error: %q", text)
				}
			}
		}
		if complete && decode(methodAddIncident, body, &added, nil) == nil && *added.ID <= 0 {
			t.Fatalf("success without an id: %s", body)
		}
		for _, it := range chunk.Chunk.Items {
			var inc Incident
			var h Host
			if json.Unmarshal(it.Value, &inc) == nil {
				compare(bridge.Intent{Body: "{}"}, inc)
			}
			if json.Unmarshal(it.Value, &h) == nil {
				_, _ = h.Names(), h.label()
			}
		}
	})
}

func TestExcerptIsShortCleanAndWithoutSecrets(t *testing.T) {
	t.Parallel()
	hidden := secret("pa/ss+wo=rd")
	for name, c := range map[string]struct{ text, want string }{
		"plain":         {"not found", "not found"},
		"lines":         {" a\r\n\tb\x00c\u202e ", "a   b c"},
		"not UTF-8":     {"a\xffb", "a\uFFFDb"},
		"literal":       {"x pa/ss+wo=rd y", "x [redacted] y"},
		"escaped slash": {`x pa\/ss+wo=rd y`, "x [redacted] y"},
		"escaped":       {`x pa/ss\u002bwo\u003drd y`, "x [redacted] y"},
		"url":           {"x pa%2Fss%2Bwo%3Drd y", "x [redacted] y"},
		"header":        {"Authorization: KSCBasic user=\"x\", pass=\"y\"\nnext", "Authorization: [redacted] next"},
		"session":       {"id nsPbUpP1oAVZlM1lODEbg8A== end", "id [redacted] end"},
		"json password": {`{"password":"abc","x":1}`, `{"[redacted]","x":1}`},
	} {
		if got := excerpt([]byte(c.text), maxExcerpt, hidden); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	// A secret that lies across the place where a long text is cut must not survive in part.
	for shift := range 64 {
		text := strings.Repeat("x", maxExcerpt+maxSecret-shift) + "pa/ss+wo=rd" + strings.Repeat("y", 100)
		got := excerpt([]byte(text), maxExcerpt, hidden)
		if len(got) > maxExcerpt+len("…") || strings.Contains(got, "pa") {
			t.Fatalf("shift %d: %d bytes, ends in %q", shift, len(got), got[len(got)-30:])
		}
		many := strings.Repeat("pa/ss+wo=rd", 2000)[shift:]
		if got := excerpt([]byte(many), maxExcerpt, hidden); strings.Contains(got[20:], "pa/s") {
			t.Fatalf("shift %d: %q", shift, got)
		}
	}
}
