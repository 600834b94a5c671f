package ksc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
	"github.com/edr-bridge/edr-bridge/servercert"
)

const addIncident, findIncidents, findHosts = "HostGroup.AddIncident", "HostGroup.FindIncidents", "HostGroup.FindHosts"

func TestF16ServerThatIsNotThereIsUnreachableAndNothingIsSent(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	s.Down()
	_, err := e.Execute(t.Context(), isolate(t, 0))
	ee := wantClass(t, err, bridge.Unreachable)
	if ee.Reason != bridge.ReasonUnreachable {
		t.Errorf("reason %q", ee.Reason)
	}
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := e.Execute(t.Context(), isolate(t, 0))
	if err != nil || r.State != bridge.StateAccepted {
		t.Fatalf("after the server came back: %+v, %v", r, err)
	}
	if n := s.AddedIncidents(); n != 1 {
		t.Errorf("%d incidents, want 1", n)
	}
}

func TestF16UnknownHostNameIsUnreachable(t *testing.T) {
	t.Parallel()
	c := openClient(t, clientConfig("no-such-host.invalid:13299"), func(cfg *ksc.Config) {
		cfg.SystemRoots, cfg.Timeout, cfg.Retries = true, 4*time.Second, -1
	})
	_, err := newExecutor(t, c).Execute(t.Context(), isolate(t, 0))
	wantClass(t, err, bridge.Unreachable)
}

func TestF16LostConnectionBetweenCallsIsReplacedWithoutDoubling(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	for i := range 20 {
		if i%2 == 1 {
			s.Down()
			if err := s.Up(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		o := isolate(t, i)
		_, err := e.Execute(t.Context(), o)
		if err == nil {
			continue
		}
		// The server may have closed while the request was on its way; then only a search can tell.
		if bridge.ClassOf(err) == bridge.Unknown {
			_, found, err := e.Reconcile(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if found {
				continue
			}
		}
		if _, err := e.Execute(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.AddedIncidents(); n != 20 {
		t.Errorf("%d incidents, want 20", n)
	}
}

func TestF17SlowServerLeavesTheOutcomeOpenAndTheSearchFindsIt(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		t.Run("stored="+strconv.FormatBool(stored), func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			c := newClient(t, s, func(cfg *ksc.Config) { cfg.Timeout = 300 * time.Millisecond })
			e := newExecutor(t, c)
			if err := c.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			delay := ksctest.Fault{Kind: ksctest.FaultSlow, Method: addIncident, Stored: stored, Delay: 5 * time.Second, Count: 1}
			if !stored {
				delay.Kind = ksctest.FaultReset
			}
			addFault(t, s, delay)
			o := isolate(t, 0)
			_, err := e.Execute(t.Context(), o)
			wantClass(t, err, bridge.Unknown)
			if n := s.Requests()[addIncident]; n != 1 {
				t.Fatalf("%d requests, want 1: a request that left is never repeated", n)
			}
			r, found, err := e.Reconcile(t.Context(), o)
			if err != nil || found != stored {
				t.Fatalf("found %v, %v; want %v", found, err, stored)
			}
			if stored && r.Ref != strconv.Itoa(s.Incidents()[0].ID) {
				t.Errorf("adopted %q", r.Ref)
			}
		})
	}
}

func TestF18AnswerCutAtEveryByteIsNeverTakenForSuccess(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	for at := 0; ; at++ {
		addFault(t, s, ksctest.Fault{Kind: ksctest.FaultCut, Method: addIncident, At: at, Count: 1})
		o := isolate(t, 10*at)
		r, err := e.Execute(t.Context(), o)
		if err != nil {
			wantClass(t, err, bridge.Unknown)
			var found bool
			if r, found, err = e.Reconcile(t.Context(), o); err != nil || !found {
				t.Fatalf("cut at %d: found %v, %v", at, found, err)
			}
		} else if at < 60 {
			t.Fatalf("cut at %d was taken for success", at)
		}
		if n := s.AddedIncidents(); n != int64(at+1) {
			t.Fatalf("cut at %d: %d incidents, want %d", at, n, at+1)
		}
		id, perr := strconv.Atoi(r.Ref)
		inc, ok := s.Incident(id)
		if perr != nil || !ok || !inc.Added.Equal(o.Intent.Second) {
			t.Fatalf("cut at %d: receipt %+v is not for incident %+v", at, r, inc)
		}
		if err == nil && s.Requests()[findIncidents] == int64(at) {
			return // the answer was complete: every offset below was a cut
		}
		if at > 2000 {
			t.Fatal("the answer never became complete")
		}
	}
}

func TestF18RequestResetBeforeAndAfterTheServerStoredIt(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]ksctest.Fault{
		"reset before":  {Kind: ksctest.FaultReset},
		"reset after":   {Kind: ksctest.FaultReset, Stored: true},
		"closed before": {Kind: ksctest.FaultClose},
		"closed after":  {Kind: ksctest.FaultClose, Stored: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			e := newExecutor(t, newClient(t, s))
			f.Method, f.Count = addIncident, 1
			addFault(t, s, f)
			o := isolate(t, 0)
			_, err := e.Execute(t.Context(), o)
			wantClass(t, err, bridge.Unknown)
			if _, found, err := e.Reconcile(t.Context(), o); err != nil || found != f.Stored {
				t.Fatalf("found %v, %v", found, err)
			}
			if n := s.Requests()[addIncident]; n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestF23RedirectsAreRefusedAndCredentialsStayHome(t *testing.T) {
	t.Parallel()
	var strayed atomic.Int64
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for status, want := range map[int]bridge.Class{307: bridge.Permanent, 308: bridge.Permanent, 302: bridge.Unknown, 303: bridge.Unknown} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			c := newClient(t, s)
			if err := c.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			fault := ksctest.Fault{Kind: ksctest.FaultRedirect, Status: status, Location: elsewhere.URL + "/x"}
			addFault(t, s, fault)
			_, err := newExecutor(t, c).Execute(t.Context(), isolate(t, 0))
			wantClass(t, err, want)
			if _, err := newExecutor(t, c).Resolve(t.Context(), "ws-01"); err == nil {
				t.Error("a read was redirected")
			}
			if err := newClient(t, s).Ping(t.Context()); err == nil {
				t.Error("a login was redirected")
			}
			if n := strayed.Load(); n != 0 {
				t.Fatalf("%d requests went elsewhere", n)
			}
		})
	}
}

func TestF24ChangedCertificateIsRefusedWithItsFingerprint(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.RotateCertificate(); err != nil {
		t.Fatal(err)
	}
	s.Down() // kept connections would go on
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := s.Connections()
	_ = c.Ping(t.Context()) // so that no kept connection is left on which the end of the old server shows
	_, err := newExecutor(t, c).Execute(t.Context(), isolate(t, 0))
	wantClass(t, err, bridge.Unreachable)
	pin, ok := errors.AsType[*servercert.PinError](err)
	if !ok || !strings.Contains(err.Error(), "rotated") {
		t.Fatalf("got %v", err)
	}
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, ":", "")) }
	if plain(pin.Certificate.Fingerprint) != plain(s.Fingerprint()) || !strings.Contains(err.Error(), pin.Certificate.Fingerprint) {
		t.Errorf("fingerprint %q, server's is %q", pin.Certificate.Fingerprint, s.Fingerprint())
	}
	if n := s.Connections() - before; n > 4 {
		t.Errorf("%d connections were made to be refused", n)
	}
	fixed := newClient(t, s, func(cfg *ksc.Config) { cfg.CA, cfg.Fingerprints = nil, []string{pin.Certificate.Fingerprint} })
	if err := fixed.Ping(t.Context()); err != nil {
		t.Errorf("the printed fingerprint is not accepted: %v", err)
	}
}

func TestF24ExpiredCertificateIsRefused(t *testing.T) {
	t.Parallel()
	s := startMock(t, func(c *ksctest.Config) { c.CertNotAfter = time.Now().Add(-time.Hour) })
	err := newClient(t, s).Ping(t.Context())
	if _, ok := errors.AsType[*servercert.PinError](err); !ok || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
}

func TestF25OldProtocolAndResetInTheHandshakeAreCleanErrors(t *testing.T) {
	t.Parallel()
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	old.StartTLS()
	t.Cleanup(old.Close)
	reset, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reset.Close() })
	var accepted atomic.Int64
	go func() {
		for {
			conn, err := reset.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}()
	for name, address := range map[string]string{"tls 1.0": old.Listener.Addr().String(), "reset": reset.Addr().String()} {
		c := openClient(t, clientConfig(address), func(cfg *ksc.Config) { cfg.Insecure = true })
		_, err := newExecutor(t, c).Execute(t.Context(), isolate(t, 0))
		wantClass(t, err, bridge.Unreachable)
		if !strings.Contains(err.Error(), "tls handshake") && !strings.Contains(err.Error(), "reset by peer") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if n := accepted.Load(); n > 3 { // a reset that arrives before connect returns counts as no connection, which is retried
		t.Errorf("%d handshakes were tried", n)
	}
}
