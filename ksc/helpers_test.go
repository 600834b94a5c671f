package ksc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	hostA    = "8910f900-3807-4b97-8a97-d49e73ec5ab1"
	hostB    = "4328e16f-bf83-47c3-8d0b-0fdf79f9d673"
	user     = "svc-edr"
	password = "pa/ss+wo=rd-канарейка"
)

var start = time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC)

func mockConfig() ksctest.Config {
	return ksctest.Config{
		Accounts: []ksctest.Account{{User: user, Password: password}},
		Hosts: []ksctest.Host{
			{ID: hostA, DisplayName: "WS-01", NetBIOS: "WS-01", FQDN: "ws-01.corp.local", DNSName: "ws-01", DNSDomain: "corp.local", IP: "10.0.5.17"},
			{ID: hostB, DisplayName: "WS-02", NetBIOS: "WS-02", FQDN: "ws-02.corp.local", DNSName: "ws-02", DNSDomain: "corp.local", IP: "200.1.2.3"},
		},
	}
}

func startMock(t testing.TB, change ...func(*ksctest.Config)) *ksctest.Server {
	t.Helper()
	cfg := mockConfig()
	for _, f := range change {
		f(&cfg)
	}
	s, err := ksctest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func passwordIs(p string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return []byte(p), nil }
}

func clientConfig(address string) ksc.Config {
	return ksc.Config{Address: address, User: user, Password: passwordIs(password), Timeout: 10 * time.Second, InFlight: 8}
}

// newClient returns a client of the mock that pins its certificate; it is closed before the server is.
func newClient(t testing.TB, s *ksctest.Server, change ...func(*ksc.Config)) *ksc.Client {
	t.Helper()
	cfg := clientConfig(s.Addr())
	cfg.CA = s.CertPEM()
	return openClient(t, cfg, change...)
}

func openClient(t testing.TB, cfg ksc.Config, change ...func(*ksc.Config)) *ksc.Client {
	t.Helper()
	for _, f := range change {
		f(&cfg)
	}
	c, err := ksc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

func newExecutor(t testing.TB, c *ksc.Client, change ...func(*ksc.ExecutorConfig)) *ksc.Executor {
	t.Helper()
	cfg := ksc.ExecutorConfig{Client: c, Now: func() time.Time { return start.Add(123 * time.Millisecond) }}
	for _, f := range change {
		f(&cfg)
	}
	e, err := ksc.NewExecutor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// isolate is an order whose intent is fixed; second sets it apart from others.
func isolate(t testing.TB, second int) bridge.Order {
	t.Helper()
	return bridge.Order{
		ID: fmt.Sprintf("o%024d", second), Host: hostA, Task: bridge.IsolateHost{Action: bridge.IsolationOn},
		Intent: bridge.Intent{
			Target: hostA, Second: start.Add(time.Duration(second) * time.Second),
			Body: `{"targetHost":"` + hostA + `","task":"isolateHost","params":{"action":1},"responseEventIncident":true,"responseEventIncidentArea":"Kuma"}`,
		},
	}
}

func addFault(t testing.TB, s *ksctest.Server, f ksctest.Fault) {
	t.Helper()
	if _, err := s.Faults().Add(f); err != nil {
		t.Fatal(err)
	}
}

// wantClass fails unless err is the executor's error of that class.
func wantClass(t testing.TB, err error, want bridge.Class) *bridge.ExecError {
	t.Helper()
	ee, ok := errors.AsType[*bridge.ExecError](err)
	if !ok {
		t.Fatalf("got %v, want an ExecError of class %s", err, want)
	}
	if ee.Class != want {
		t.Fatalf("got class %s (%v), want %s", ee.Class, err, want)
	}
	return ee
}

// rawServer answers as the test says, over TLS, and counts what it is asked.
type rawServer struct {
	*httptest.Server
	mu       sync.Mutex
	calls    map[string]int
	requests []*http.Request
	bodies   []string
	sessions atomic.Int64
}

// startRaw serves StartSession, EndSession and Ping by itself and leaves the other methods to handle.
func startRaw(t testing.TB, handle func(w http.ResponseWriter, r *http.Request, method string)) *rawServer {
	t.Helper()
	s := &rawServer{calls: map[string]int{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		method := strings.TrimPrefix(r.URL.Path, "/api/v1.0/")
		s.mu.Lock()
		s.calls[method]++
		s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(body))
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch method {
		case "Session.StartSession":
			fmt.Fprintf(w, `{"PxgRetVal":"nsPbUpP1oAVZlM1lODEb%02dA=="}`, s.sessions.Add(1))
		case "Session.EndSession", "Session.Ping":
			fmt.Fprint(w, `{}`)
		default:
			handle(w, r, method)
		}
	}))
	s.Config.ErrorLog = nil
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *rawServer) address() string { return s.Listener.Addr().String() }

func (s *rawServer) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func rawClient(t testing.TB, s *rawServer, change ...func(*ksc.Config)) *ksc.Client {
	t.Helper()
	cfg := clientConfig(s.address())
	cfg.CA = s.Certificate().Raw
	return openClient(t, cfg, change...)
}
