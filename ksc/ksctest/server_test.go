package ksctest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNewRefusesSettingsThatCannotWork(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"no account":             {func(c *Config) { c.Accounts = nil }, "accounts: at least one"},
		"account without a name": {func(c *Config) { c.Accounts = []Account{{}} }, "accounts[0].user"},
		"address":                {func(c *Config) { c.Address = "nowhere" }, "address:"},
		"host id":                {func(c *Config) { c.Hosts = []Host{{ID: `a"b`}} }, "hosts[0].id"},
		"host address":           {func(c *Config) { c.Hosts = []Host{{ID: "a", IP: "::1"}} }, "hosts[0].ip"},
		"host of no server":      {func(c *Config) { c.Hosts = []Host{{ID: "a", VirtualServer: "vs"}} }, "hosts[0].virtual_server"},
		"negative latency":       {func(c *Config) { c.Latency = -1 }, "latency"},
		"negative keep":          {func(c *Config) { c.KeepIncidents = -1 }, "keep_incidents"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig()
			test.edit(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to name %q", err, test.want)
			}
		})
	}
}

func TestCertificateIsSelfSignedAndNamesThisMachine(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	block, _ := pem.Decode(s.CertPEM())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if days := int(time.Until(cert.NotAfter).Hours()/24) + 1; days != certDays {
		t.Errorf("valid for %d days, want %d", days, certDays)
	}
	sum := sha256.Sum256(block.Bytes)
	if s.Fingerprint() != hex.EncodeToString(sum[:]) {
		t.Errorf("fingerprint %s", s.Fingerprint())
	}
	if r := newClient(t, s).post("Nothing", ""); r.err != nil {
		t.Errorf("a client that trusts the certificate: %v", r.err)
	}
	stranger := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}}}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(), http.NoBody)
	if res, err := stranger.Do(req); err == nil {
		_ = res.Body.Close()
		t.Error("a client that trusts nobody got through")
	}
}

func TestRotatedCertificateIsShownToNewConnections(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.CertNotAfter = time.Now().Add(24 * time.Hour)
	s := startServer(t, cfg)
	c, old := newClient(t, s), s.Fingerprint()
	if r := c.post("Nothing", ""); r.status != http.StatusNotFound {
		t.Fatalf("got %+v", r)
	}
	if err := s.RotateCertificate(); err != nil {
		t.Fatal(err)
	}
	if s.Fingerprint() == old {
		t.Error("fingerprint did not change")
	}
	if r := c.post("Nothing", ""); r.status != http.StatusNotFound {
		t.Errorf("the open connection must live on: %+v", r)
	}
	c.http.CloseIdleConnections()
	if r := c.post("Nothing", ""); r.err == nil || !strings.Contains(r.err.Error(), "certificate") {
		t.Errorf("the old pin must fail, got %+v", r)
	}
	if r := newClient(t, s).post("Nothing", ""); r.err != nil {
		t.Error(r.err)
	}
}

func TestOnlyPostOnCaseSensitiveRoutesOverHTTP11(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	for name, test := range map[string]struct {
		method, path string
		want         int
	}{
		"plain":           {http.MethodPost, "/api/v1.0/Session.Ping", 200},
		"instance":        {http.MethodPost, "/api/v1.0/Inst.Session.Ping", 200},
		"wrong case":      {http.MethodPost, "/api/v1.0/session.ping", 404},
		"unknown method":  {http.MethodPost, "/api/v1.0/Session.Pong", 404},
		"two instances":   {http.MethodPost, "/api/v1.0/A.B.Session.Ping", 404},
		"other version":   {http.MethodPost, "/api/v2.0/Session.Ping", 404},
		"get":             {http.MethodGet, "/api/v1.0/Session.Ping", 405},
		"outside the api": {http.MethodPost, "/", 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), test.method, s.URL()+test.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-KSC-Session", c.session)
			r := c.send(req)
			if r.status != test.want {
				t.Errorf("got %d %q, want %d", r.status, r.text, test.want)
			}
			if r.status != http.StatusOK && r.header.Get("Content-Type") != "text/plain" {
				t.Errorf("a refusal is plain text, got %q", r.header.Get("Content-Type"))
			}
		})
	}
	conn := dialVendor(t, s).conn
	if state := conn.ConnectionState(); state.Version != tls.VersionTLS12 {
		t.Errorf("TLS version %x", state.Version)
	}
}

func TestSecondRequestOnAConnectionWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Latency = 20 * time.Millisecond
	s := startServer(t, cfg)
	v := dialVendor(t, s)
	v.login("kscUser", "kscPassword")
	const header = "Content-Type: application/json\r\n"
	v.send("HostGroup.AddIncident", header, addBody(hostA, "2026-11-20T17:06:56Z", "{}"))
	v.send("HostGroup.FindIncidents", header, `{"strFilter":"","pFieldsToReturn":[]}`)
	if _, body := v.receive(); body != `{"PxgRetVal":1}` {
		t.Errorf("first answer %q", body)
	}
	if _, body := v.receive(); !strings.HasPrefix(body, `{"PxgRetVal":1,"strAccessor"`) {
		t.Errorf("second answer %q: it must see what the first stored", body)
	}
	if peak := s.PeakConcurrent(); peak != 1 {
		t.Errorf("%d requests of one connection at once", peak)
	}
}

func TestDownRefusesAndUpListensOnTheSamePort(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	id, addr := c.add(hostA, "2026-11-20T17:06:56Z", "{}"), s.Addr()
	s.Down()
	s.Down()
	if r := c.post("Session.Ping", "{}"); r.err == nil {
		t.Fatalf("answered while down: %+v", r)
	}
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Up(t.Context()); err == nil {
		t.Error("up twice")
	}
	if s.Addr() != addr {
		t.Errorf("port changed from %s to %s", addr, s.Addr())
	}
	c.call("Session.Ping", "{}")
	if got := c.find("KLINCDT_ID=" + strconv.Itoa(id)); len(got) != 1 {
		t.Errorf("incident is gone: %v", got)
	}
}

func TestRunEndsWithItsContextAndLeavesNothingBehind(t *testing.T) {
	cfg := testConfig()
	cfg.BackgroundConnection = true
	before := runtime.NumGoroutine()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	waitFor(t, "the listener", func() bool { return !strings.HasSuffix(s.Addr(), ":0") })
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the connection", func() bool { return s.Connections() == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(bufio.NewReader(conn)); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	_ = conn.Close()
	s.Close()
	if err := s.Up(t.Context()); err == nil {
		t.Error("up after close")
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	waitFor(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

func TestCloseInterruptsASlowCall(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Latency = time.Hour
	s := startServer(t, cfg)
	c := newClient(t, s)
	ended := make(chan reply)
	go func() { ended <- c.post("Session.StartSession", "{}") }()
	waitFor(t, "the call", func() bool { return s.PeakConcurrent() == 1 })
	s.Close()
	if r := <-ended; r.err == nil {
		t.Errorf("got an answer: %+v", r)
	}
}

func TestPackageImportsOnlyTheStandardLibrary(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range tree.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			first, _, _ := strings.Cut(path, "/")
			if strings.Contains(first, ".") && !strings.HasSuffix(path, "/ksc/ksctest") {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}
