package ksctest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// minGzip is the smallest body worth compressing: below it a client that asks gets plain JSON.
const minGzip = 1024 // bytes

// answer is what a request got, before a fault has its way with it.
type answer struct {
	status      int
	contentType string
	header      http.Header
	body        []byte
}

func text(status int, body string) answer {
	return answer{status: status, contentType: typeText, body: []byte(body)}
}

// wantsGzip reports whether the client takes a compressed answer.
func wantsGzip(r *http.Request) bool {
	for _, header := range r.Header["Accept-Encoding"] {
		for coding := range strings.SplitSeq(header, ",") {
			name, q, _ := strings.Cut(coding, ";")
			if strings.TrimSpace(name) == "gzip" && strings.ReplaceAll(q, " ", "") != "q=0" {
				return true
			}
		}
	}
	return false
}

// write sends the answer as it is, compressed when it is large and the client asked for it.
func (s *Server) write(w http.ResponseWriter, a *answer, gzipped bool) {
	if gzipped && len(a.body) >= minGzip {
		s.compress(a)
	}
	h := w.Header()
	h["Content-Type"] = []string{a.contentType}
	maps.Copy(h, a.header)
	if len(a.body) > 1024 {
		h["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a client that left is its own affair
}

// compress replaces the body by its gzip form.
func (s *Server) compress(a *answer) {
	var b bytes.Buffer
	z, ok := s.gzips.Get().(*gzip.Writer)
	if !ok {
		z = gzip.NewWriter(nil)
	}
	defer s.gzips.Put(z)
	z.Reset(&b)
	_, _ = z.Write(a.body) // a bytes.Buffer takes everything
	_ = z.Close()
	a.body = b.Bytes()
	a.set("Content-Encoding", "gzip")
}

func (a *answer) set(name, value string) {
	h := make(http.Header, len(a.header)+1)
	maps.Copy(h, a.header)
	h[name] = []string{value}
	a.header = h
}

// raw renders the answer as the bytes that travel inside TLS.
func (a *answer) raw() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n",
		a.status, http.StatusText(a.status), a.contentType, len(a.body))
	_ = a.header.Write(&b) // a bytes.Buffer takes everything
	b.WriteString("\r\n")
	b.Write(a.body)
	return b.Bytes()
}
