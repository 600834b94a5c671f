package api

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestI1BodiesThatAreNoDocumentAreRefusedOrKept(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	b.settling(t, func(a bridge.Alert) error {
		if err := jsonMapper(a); err != nil {
			return err
		}
		if trimSpace(a.Raw)[0] != '{' {
			return fmt.Errorf("%w: must be one JSON object", bridge.ErrBadAlert)
		}
		return nil
	})
	utf16 := "\xff\xfe{\x00}\x00"
	for _, c := range []struct {
		name, body string
		hook       int
		letters    string // X-Dead-Letters of kuma-http, "" = refused with 400, "0" = none
	}{
		{"valid", `{"a":1}`, 200, "0"},
		{"empty", "", 400, ""},
		{"space", " \r\n ", 400, ""},
		{"byte order mark", "\xef\xbb\xbf{}", 400, ""},
		{"UTF-16", utf16, 400, ""},
		{"UTF-16 big endian", "\xfe\xff\x00{\x00}", 400, ""},
		{"UTF-16 without mark", "{\x00}\x00", 400, ""},
		{"null", "null", 422, "1"},
		{"array", "[1]", 422, "1"},
		{"empty array", "[]", 422, ""},
		{"scalar", `"x"`, 422, "1"},
		{"number", "42", 422, "1"},
		{"cut off", `{"a":`, 422, "1"},
		{"trailing data", `{"a":1} x`, 422, "1"},
		{"two documents", `{"a":1}{"a":2}`, 422, "0"},
		{"NUL", "\x00", 422, "1"},
		{"no JSON", "level=HIGH", 422, "1"},
	} {
		hook := b.post(t, "/webhook/hook", c.body)
		if hook.status != c.hook || problemOf(t, hook.body).Title == "" && c.hook != 200 {
			t.Errorf("%s: webhook answers %d, want %d: %s", c.name, hook.status, c.hook, hook.body)
		}
		kuma := b.post(t, "/kuma", c.body)
		letters := kuma.header.Get("X-Dead-Letters")
		if kuma.status == http.StatusOK && letters == "" {
			letters = "0"
		}
		if letters != c.letters || letters == "" && kuma.status != http.StatusBadRequest {
			t.Errorf("%s: kuma-http answers %d with %q dead letters, want %q", c.name, kuma.status, letters, c.letters)
		}
	}
}

func TestI4HostileTextIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	b.settling(t, jsonMapper)
	for _, c := range []struct {
		name, body string
		hook       int
	}{
		{"invalid UTF-8", "{\"a\":\"\xff\"}", 422},
		{"lone surrogate", `{"a":"\ud800"}`, 422},
		{"NUL", `{"a":"\u0000"}`, 422},
		{"control", "{\"a\":\"\x01\"}", 422},
		{"number", `{"a":1e400}`, 422},
		{"10,001 levels", strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), 400},
		{"10,001 levels of objects", strings.Repeat(`{"a":`, 10_001) + "1" + strings.Repeat("}", 10_001), 400},
		{"10,001 levels open", strings.Repeat("[", 10_001), 400},
	} {
		if a := b.post(t, "/webhook/hook", c.body); a.status != c.hook {
			t.Errorf("%s: webhook answers %d, want %d", c.name, a.status, c.hook)
		}
		if a := b.post(t, "/kuma", c.body); a.status != http.StatusOK || a.header.Get("X-Dead-Letters") != "1" {
			t.Errorf("%s: kuma-http answers %d with %q dead letters", c.name, a.status, a.header.Get("X-Dead-Letters"))
		}
	}
	if a := b.post(t, "/webhook/hook", `{"a":"`+strings.Repeat("x", 1<<20)+"\u202e\"}"); a.status != http.StatusOK {
		t.Errorf("a long string and a bidi mark are for the preset: %d", a.status)
	}
}

func TestA3EncodedBodyIsRefused(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Limits.Body = 1 << 16 })
	b.settling(t, acceptAll)
	bomb := bytes.Repeat([]byte(" "), 1<<22)
	for _, c := range []struct {
		name, path, encoding string
		body                 []byte
		status               int
	}{
		{"gzip where it is not declared", "/webhook/hook", "gzip", gzipped(t, []byte("{}")), 415},
		{"gzip", "/kuma", "gzip", gzipped(t, []byte("{}")), 200},
		{"snappy", "/kuma", "snappy", snappy.Encode(nil, []byte("{}")), 200},
		{"gzip bomb", "/kuma", "gzip", gzipped(t, bomb), 413},
		{"bomb in a bomb", "/kuma", "gzip", gzipped(t, gzipped(t, bomb)), 200}, // one dead letter: nothing unpacks twice
		{"snappy bomb", "/kuma", "snappy", framed(t, bomb)[:1<<15], 413},
		{"no gzip", "/kuma", "gzip", []byte("{}"), 400},
		{"two encodings", "/kuma", "gzip, snappy", []byte("{}"), 415},
		{"large body", "/webhook/hook", "identity", bomb, 413},
	} {
		a := b.post(t, c.path, string(c.body), "Content-Encoding", c.encoding)
		if a.status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, a.status, c.status, a.body)
		}
	}
	if held := b.memory.Load(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

func TestA3BodiesThatBreakTheirFramingAreRefused(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.Limits.Body = 1 << 16
		cfg.Limits.BodyTimeout = 200 * time.Millisecond
	})
	b.settling(t, acceptAll)
	const head = "POST /webhook/hook HTTP/1.1\r\nHost: localhost\r\n"
	for _, c := range []struct {
		name, text string
		closed     bool
		status     int
	}{
		{"shorter than its length", head + "Content-Length: 100\r\n\r\n{}", true, 400},
		{"shorter than its length, and waits", head + "Content-Length: 100\r\n\r\n{}", false, 408},
		{"two lengths", head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", false, 400},
		{"a negative length", head + "Content-Length: -1\r\n\r\n", false, 400},
		{"a chunk without its end", head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}", true, 400},
		{"no chunk", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", false, 400},
		{"an unknown transfer encoding", head + "Transfer-Encoding: gzip\r\n\r\n", false, 501},
		{"chunks", head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", false, 200},
	} {
		conn := b.raw(t, c.text)
		if c.closed {
			closeWrite(t, conn)
		}
		if status, body := answerOn(t, conn); status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, status, c.status, body)
		}
	}
	endless := b.request(t, http.MethodPost, "/webhook/hook", "")
	endless.Body, endless.ContentLength = io.NopCloser(neverEnding{}), -1
	a, err := b.send(endless)
	if err == nil && a.status != http.StatusRequestEntityTooLarge { // the client may see its own broken write first
		t.Errorf("endless chunks: %d", a.status)
	}
	awaitTrue(t, "endless chunks are refused for their size", func() bool { return b.meter.of(RefusedSize) == 1 })
	if b.meter.of(RefusedTruncated) == 0 || b.meter.of(RefusedSlow) != 1 {
		t.Errorf("counted: %v", b.meter.refused)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
