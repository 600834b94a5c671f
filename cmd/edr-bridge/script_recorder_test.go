package main

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// recorder stands between the program and the mock KSC and keeps the last request to AddIncident as it came over the wire.
type recorder struct {
	*httptest.Server

	mu     sync.Mutex // guards posted
	posted []byte
}

func (s *stage) record(ts *testscript.TestScript) error {
	target, err := url.Parse(s.ksc.URL())
	if err != nil {
		return err
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	r := &recorder{}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/HostGroup.AddIncident") {
			r.keep(req)
		}
		proxy.ServeHTTP(w, req)
	}))
	s.recorder = r
	ts.Setenv("KSC", r.Listener.Addr().String())
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
	return os.WriteFile(filepath.Join(s.work, "klserver.cer"), cert, 0o600)
}

// keep copies the body and puts it back.
func (r *recorder) keep(req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return // the server behind will not answer either
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posted = body
}

func (s *stage) writePosted(path string) error {
	if s.recorder == nil {
		return errors.New("nothing is recorded: mockksc record comes first")
	}
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	if s.recorder.posted == nil {
		return errors.New("nothing was posted to AddIncident")
	}
	return os.WriteFile(path, s.recorder.posted, 0o600)
}
