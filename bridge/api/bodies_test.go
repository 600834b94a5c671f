package api

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
)

func TestSplitBodyFindsTheDocumentsOfEveryForm(t *testing.T) {
	t.Parallel()
	cef := `CEF:0|KUMA|correlator|4|R-1|Office starts a shell|8|dhost=ws-1 msg= a\=b {x [y fname=`
	for _, c := range []struct {
		name, body string
		want       []string
	}{
		{"one object", ` {"a":1} `, []string{`{"a":1}`}},
		{"one object over lines", "{\n \"a\": [\n  {\"b\": 1},\n  {\"c\": \"}\"}\n ]\n}\n", []string{"{\n \"a\": [\n  {\"b\": 1},\n  {\"c\": \"}\"}\n ]\n}"}},
		{"NDJSON", "{\"a\":1}\n{\"a\":2}\r\n\n{\"a\":3}", []string{`{"a":1}`, `{"a":2}`, `{"a":3}`}},
		{"concatenated", `{"a":1}{"a":"}{"}{"a":{"b":[]}}`, []string{`{"a":1}`, `{"a":"}{"}`, `{"a":{"b":[]}}`}},
		{"array", `[{"a":1}, {"a":[1,2]} ,{"a":3}]`, []string{`{"a":1}`, `{"a":[1,2]}`, `{"a":3}`}},
		{"array over lines", "[\n  {\"a\":1},\n  {\"a\":2}\n]\n", []string{`{"a":1}`, `{"a":2}`}},
		{"arrays a line each", "[{\"a\":1}]\n[{\"a\":2}]\n", []string{`{"a":1}`, `{"a":2}`}},
		{"array of scalars", `[1,null,"a,]",true,[2]]`, []string{`1`, `null`, `"a,]"`, `true`, `[2]`}},
		{"scalar", `null`, []string{`null`}},
		{"CEF", cef + "\r\n" + cef + "\n", []string{cef, cef}},
		{"syslog before CEF", "<134>Nov 20 10:00:00 c1 " + cef, []string{"<134>Nov 20 10:00:00 c1 " + cef}},
		{"CEF and JSON", cef + "\n{\"a\":1}\n" + cef, []string{cef, `{"a":1}`, cef}},
		{"no UTF-8", "{\"a\":\"\xff\"}\n\xc0\xc1", []string{"{\"a\":\"\xff\"}", "\xc0\xc1"}},
		{"escaped quotes", `{"a":"\\"}{"a":"\\\"{"}`, []string{`{"a":"\\"}`, `{"a":"\\\"{"}`}},

		{"a line cut off", "{\"a\":1}\n{\"a\":\n{\"a\":3}\n{\"a\":4}", []string{`{"a":1}`, `{"a":`, `{"a":3}`, `{"a":4}`}},
		{"a line without its bracket", "{\"a\":1\n{\"a\":2}\n", []string{`{"a":1`, `{"a":2}`}},
		{"a line that would balance with the next", "{\"a\":1\n{\"a\":2}}\n{\"a\":3}", []string{"{\"a\":1", `{"a":2}`, `}`, `{"a":3}`}},
		{"a string without its end", "{\"a\":\"x\n{\"a\":\"y\"}\n", []string{`{"a":"x`, `{"a":"y"}`}},
		{"after a broken line a line is a document", "{\"a\":\n{\"b\":[\n1]}\n", []string{`{"a":`, `{"b":[`, `1]}`}},
		{"a bad value", `{"a":}{"b":2}`, []string{`{"a":}`, `{"b":2}`}},
		{"text after an object", "{\"a\":1} tail\n{\"a\":2}", []string{`{"a":1}`, `tail`, `{"a":2}`}},
		{"a bad element", `[{"a":1},{"a":},{"a":3}]`, []string{`{"a":1}`, `{"a":}`, `{"a":3}`}},
		{"an array cut off", `[{"a":1},{"a":2`, []string{`{"a":1}`, `{"a":2`}},
		{"an array without its end", `[{"a":1}`, []string{`[{"a":1}`}},
		{"an array cut off at once", "[{\"a\":", []string{`[{"a":`}},
		{"an array with no comma", `[{"a":1} {"a":2}]`, []string{`[{"a":1} {"a":2}]`}},
		{"closing brackets", "]}]", []string{"]}]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			docs, err := splitBody([]byte(c.body), 100)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range docs {
				got = append(got, string(d))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestSplitBodyRefusesEmptyAndEndlessBatches(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", " \r\n\t", "[]", " [ ] [] "} {
		if _, err := splitBody([]byte(body), 100); !errors.Is(err, errNoDocument) {
			t.Errorf("%q: %v, want %v", body, err, errNoDocument)
		}
	}
	for _, body := range []string{"1\n2\n3\n4", "[1,2,3,4]", "{}{}{}{}", "{\n{\n{\n{\n"} {
		if _, err := splitBody([]byte(body), 3); !errors.Is(err, errManyDocuments) {
			t.Errorf("%q: %v, want %v", body, err, errManyDocuments)
		}
		if _, err := splitBody([]byte(body), 4); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestDocumentsOfABatchDoNotShareTheirCapacity(t *testing.T) {
	t.Parallel()
	docs, err := splitBody([]byte(`{"a":1}{"b":2}`), 10)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(docs[0], "xxx"...)
	if string(docs[1]) != `{"b":2}` {
		t.Errorf("the second document became %s", docs[1])
	}
}

func TestCheckDepthCountsOnlyBracketsThatNest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		deep       bool
	}{
		{"at the limit", strings.Repeat("[", 64) + strings.Repeat("]", 64), false},
		{"one more", strings.Repeat("[", 65) + strings.Repeat("]", 65), true},
		{"objects", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), true},
		{"in a string", `{"a":"` + strings.Repeat("[", 100) + `"}`, false},
		{"side by side", "[" + strings.Repeat("[],", 100) + "[]]", false},
		{"in the second of two", `{"a":1} ` + strings.Repeat("[", 65), true},
		{"text", "CEF:0|" + strings.Repeat("[", 100), false},
	} {
		if err := checkDepth([]byte(c.body), 64); errors.Is(err, errDeep) != c.deep {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func gzipped(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func framed(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := snappy.NewBufferedWriter(&b)
	_, _ = w.Write(text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodeBodyUndoesEachEncoding(t *testing.T) {
	t.Parallel()
	text := []byte(strings.Repeat(`{"Type":3,"Name":"x"}`+"\n", 40))
	declared := []string{"snappy", "gzip"}
	for _, c := range []struct {
		name, encoding string
		declared       []string
		body           []byte
		want           []byte
		err            error
	}{
		{"gzip", "gzip", declared, gzipped(t, text), text, nil},
		{"snappy block", "snappy", declared, snappy.Encode(nil, text), text, nil},
		{"snappy frames", "snappy", declared, framed(t, text), text, nil},
		{"unnamed block", "", declared, snappy.Encode(nil, text), text, nil},
		{"unnamed frames", "", declared, framed(t, text), text, nil},
		{"unnamed text", "", declared, text, text, nil},
		{"unnamed and not declared", "", nil, snappy.Encode(nil, text), snappy.Encode(nil, text), nil},
		{"identity", encodingIdentity, declared, snappy.Encode(nil, text), snappy.Encode(nil, text), nil},
		{"gzip cut off", "gzip", declared, gzipped(t, text)[:30], nil, errEncoded},
		{"gzip with a tail", "gzip", declared, append(gzipped(t, text), "xx"...), nil, errEncoded},
		{"no gzip", "gzip", declared, text, nil, errEncoded},
		{"no snappy", "snappy", declared, text, nil, errEncoded},
		{"snappy frames cut off", "snappy", declared, framed(t, text)[:30], nil, errEncoded},
		{"gzip bomb", "gzip", declared, gzipped(t, make([]byte, 1<<20)), nil, errBodyTooLarge},
		{"snappy bomb", "snappy", declared, snappy.Encode(nil, make([]byte, 1<<20)), nil, errBodyTooLarge},
		{"snappy frames bomb", "snappy", declared, framed(t, make([]byte, 1<<20)), nil, errBodyTooLarge},
		{"unnamed frames bomb", "", declared, framed(t, make([]byte, 1<<20)), nil, errBodyTooLarge},
		{"unnamed block bomb", "", declared, snappy.Encode(nil, make([]byte, 1<<20)), nil, errBodyTooLarge},
		{"a block that lies about its length", "snappy", declared, []byte("\xff\xff\x0f\x00a"), nil, errEncoded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeBody(c.body, c.encoding, c.declared, 1<<18)
			if !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if c.err == nil && !bytes.Equal(got, c.want) {
				t.Errorf("decoded to %.60q", got)
			}
		})
	}
}

func TestCheckHeadersKnowsDeclaredEncodingsOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		encoding []string
		declared []string
		want     string
		ok       bool
	}{
		{nil, nil, "", true},
		{[]string{"identity"}, nil, "identity", true},
		{[]string{" GZIP "}, []string{"gzip"}, "gzip", true},
		{[]string{"x-gzip"}, []string{"gzip"}, "gzip", true},
		{[]string{"gzip"}, nil, "", false},
		{[]string{"br"}, []string{"gzip", "snappy"}, "", false},
		{[]string{"gzip, gzip"}, []string{"gzip"}, "", false},
		{[]string{"gzip", "gzip"}, []string{"gzip"}, "", false},
	} {
		got, err := checkHeaders(http.Header{"Content-Encoding": c.encoding}, c.declared)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%q with %q declared: %q, %v", c.encoding, c.declared, got, err)
		}
	}
	for ct, ok := range map[string]bool{
		"": true, "text/plain": true, "nonsense;;": true, "application/json; charset=utf-8": true, `text/plain; charset="UTF-8"`: true,
		"text/plain; charset=windows-1251": false, "text/plain; charset=utf-16": false, "text/plain; charset": false,
	} {
		if _, err := checkHeaders(http.Header{"Content-Type": {ct}}, nil); (err == nil) != ok {
			t.Errorf("Content-Type %q: %v", ct, err)
		}
	}
}

// FuzzSplitBody checks that no byte is invented, reordered or swallowed but space, brackets and commas of arrays.
func FuzzSplitBody(f *testing.F) {
	for _, seed := range []string{
		`{"a":1}`, "{\"a\":1}\n{\"a\":2}\n", `{"a":1}{"b":"}"}`, `[{"a":1},{"b":[2]}]`, "CEF:0|a|b|1|2|3|4|x=\\=\nCEF:0|", "[[[[",
		"{\"a\":\n{\"b\":1}\n", `[1,"a\"",null`, "]}{[", "\"\\", "{\"a\":\"x\n\"}", "[]\n[]", "[{\"a\":1} {\"b\":2}]\n{\"c\":3}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		docs, err := splitBody(body, 1000)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			if len(docs) != 0 || !errors.Is(err, errNoDocument) && !errors.Is(err, errManyDocuments) {
				t.Fatalf("%d documents and %v", len(docs), err)
			}
			return
		}
		at := 0
		for _, d := range docs {
			if len(d) == 0 || len(trimSpace(d)) != len(d) {
				t.Fatalf("document %q is empty or has space around it", d)
			}
			n := bytes.Index(body[at:], d)
			if n < 0 {
				t.Fatalf("document %q is not in the rest of the body", d)
			}
			if lost := bytes.Trim(body[at:at+n], " \t\r\n[],"); len(lost) > 0 {
				t.Fatalf("%q before %q is in no document", lost, d)
			}
			at += n + len(d)
		}
		if lost := bytes.Trim(body[at:], " \t\r\n[],"); len(lost) > 0 {
			t.Fatalf("%q at the end is in no document", lost)
		}
		_ = checkText(body)
		_ = checkDepth(body, 64)
	})
}

// FuzzDecodeBody checks that decoders hold their limit and find what was encoded.
func FuzzDecodeBody(f *testing.F) {
	text := []byte(`{"Type":3,"Name":"a a a a a a a a"}`)
	for _, seed := range [][]byte{text, snappy.Encode(nil, text), framed(f, text), gzipped(f, text), []byte(framedSnappy), {0xff, 0xff, 0x0f}} {
		f.Add(seed)
	}
	declared := []string{"snappy", "gzip"}
	f.Fuzz(func(t *testing.T, body []byte) {
		const limit = 1 << 16
		if len(body) > limit {
			t.Skip()
		}
		for _, encoding := range []string{"", "gzip", "snappy"} {
			got, err := decodeBody(body, encoding, declared, limit)
			if err != nil && !errors.Is(err, errEncoded) && !errors.Is(err, errBodyTooLarge) {
				t.Fatalf("%s: %v", encoding, err)
			}
			if err == nil && len(got) > limit && encoding != "" {
				t.Fatalf("%s: %d bytes", encoding, len(got))
			}
		}
		for encoding, encoded := range map[string][]byte{"snappy": snappy.Encode(nil, body), "gzip": gzipped(t, body)} {
			got, err := decodeBody(encoded, encoding, declared, limit)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%s: %q came back as %q, %v", encoding, body, got, err)
			}
		}
	})
}
