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

func TestF19UnreadableAnswersLeaveTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]ksctest.Fault{
		"500 text":     {Kind: ksctest.FaultServerError},
		"502 html":     {Kind: ksctest.FaultHTML, Status: http.StatusBadGateway},
		"200 html":     {Kind: ksctest.FaultHTML},
		"200 empty":    {Kind: ksctest.FaultEmpty},
		"204":          {Kind: ksctest.FaultHTML, Status: http.StatusAccepted},
		"wrong types":  {Kind: ksctest.FaultWrongTypes},
		"gzip unasked": {Kind: ksctest.FaultGzip},
		"503":          {Kind: ksctest.FaultUnavailable},
	} {
		for _, stored := range []bool{true, false} {
			if f.Kind == ksctest.FaultWrongTypes && !stored || f.Kind == ksctest.FaultGzip && !stored {
				continue // these spoil an answer, so they carry the request out
			}
			t.Run(name+" stored="+strconv.FormatBool(stored), func(t *testing.T) {
				t.Parallel()
				s := startMock(t)
				e := newExecutor(t, newClient(t, s))
				f := f
				f.Method, f.Stored, f.Count = addIncident, stored, 1
				addFault(t, s, f)
				o := isolate(t, 0)
				_, err := e.Execute(t.Context(), o)
				wantClass(t, err, bridge.Unknown)
				if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\r\x1b") {
					t.Errorf("error is not fit for a log: %q", err)
				}
				if _, found, err := e.Reconcile(t.Context(), o); err != nil || found != stored {
					t.Fatalf("found %v, %v", found, err)
				}
			})
		}
	}
}

func TestF19ReadsSurviveBadAnswersThatPass(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]ksctest.Fault{
		"500":    {Kind: ksctest.FaultServerError},
		"html":   {Kind: ksctest.FaultHTML},
		"empty":  {Kind: ksctest.FaultEmpty},
		"cut":    {Kind: ksctest.FaultCut, At: 70},
		"reset":  {Kind: ksctest.FaultReset},
		"hangup": {Kind: ksctest.FaultHangUp},
		"503":    {Kind: ksctest.FaultUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			e := newExecutor(t, newClient(t, s))
			f.Method, f.Count = findHosts, 2
			addFault(t, s, f)
			m, err := e.Resolve(t.Context(), "ws-01")
			if err != nil || len(m) != 1 || m[0].ID != hostA {
				t.Fatalf("%v, %v", m, err)
			}
			f.Count = 0
			addFault(t, s, f)
			if _, err := e.Resolve(t.Context(), "ws-02"); err == nil && f.Kind != ksctest.FaultHangUp {
				t.Error("an answer that stays bad must end in an error")
			}
		})
	}
}

func TestF20RefusalByTheApplicationIsPermanentAndNotRepeated(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultApplication, Method: addIncident, Text: "licence expired\x1b[31m\nsecond line"})
	_, err := e.Execute(t.Context(), isolate(t, 0))
	wantClass(t, err, bridge.Permanent)
	vendor, ok := errors.AsType[*ksc.Error](err)
	if !ok || vendor.Method != addIncident || vendor.Code == 0 || vendor.Module == "" || !strings.Contains(vendor.Message, "licence expired") {
		t.Fatalf("got %#v", vendor)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("control characters in %q", err)
	}
	if n := s.Requests()[addIncident]; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestF21ExpiredSessionIsRenewedOnceAndTheCallReplayed(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]ksctest.FaultKind{"403": ksctest.FaultExpire, "401": ksctest.FaultUnauthorized} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			c := newClient(t, s)
			e := newExecutor(t, c)
			if err := c.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			addFault(t, s, ksctest.Fault{Kind: kind, Method: addIncident, Count: 1})
			if _, err := e.Execute(t.Context(), isolate(t, 0)); err != nil {
				t.Fatal(err)
			}
			if n, logins := s.AddedIncidents(), len(s.Logins()); n != 1 || logins != 2 {
				t.Errorf("%d incidents after %d logins, want 1 after 2", n, logins)
			}
		})
	}
}

func TestF21CallRefusedInAFreshSessionSaysWhatToCheck(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultUnauthorized, Method: addIncident})
	_, err := e.Execute(t.Context(), isolate(t, 0))
	ee := wantClass(t, err, bridge.Permanent)
	if ee.Reason != bridge.ReasonCredentials || !strings.Contains(err.Error(), "rights") {
		t.Errorf("got %v", err)
	}
	if n := s.Requests()[addIncident]; n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestF21TwoRefusedLoginsStopLogins(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	right := atomic.Bool{}
	c := newClient(t, s, func(cfg *ksc.Config) {
		cfg.Password = func(context.Context) ([]byte, error) {
			if right.Load() {
				return []byte(password), nil
			}
			return []byte("wrong"), nil
		}
	})
	e := newExecutor(t, c)
	for range 4 {
		_, err := e.Execute(t.Context(), isolate(t, 0))
		ee := wantClass(t, err, bridge.Permanent)
		if ee.Reason != bridge.ReasonCredentials || !errors.Is(err, ksc.ErrLoginsStopped) {
			t.Fatalf("got %v", err)
		}
		auth, ok := errors.AsType[*ksc.AuthError](err)
		if !ok || !strings.Contains(auth.Hint, "password") || !strings.Contains(auth.Hint, "internal") || !strings.Contains(auth.Hint, "allowed addresses") {
			t.Fatalf("hint is %v", auth)
		}
	}
	if n := s.Requests()["Session.StartSession"]; n != 2 {
		t.Fatalf("%d logins were tried, want 2", n)
	}
	right.Store(true)
	c.ResetLogin()
	if _, err := e.Execute(t.Context(), isolate(t, 0)); err != nil {
		t.Fatal(err)
	}
}

func TestF21FirstLoginOfAServerThatWarmsUpIsRepeated(t *testing.T) {
	t.Parallel()
	s := startMock(t, func(c *ksctest.Config) { c.FirstLogin401 = true })
	if err := newClient(t, s).Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestF22RetryAfterAnHourRespectsTheContext(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultUnavailable, RetryAfter: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := newExecutor(t, c).Resolve(ctx, "ws-01")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 3*time.Second {
		t.Errorf("got %v after %s", err, time.Since(begun))
	}
	begun = time.Now()
	_, err = newExecutor(t, c).Execute(t.Context(), isolate(t, 0))
	wantClass(t, err, bridge.Unknown)
	if time.Since(begun) > 3*time.Second {
		t.Errorf("AddIncident waited %s for a repetition it must not make", time.Since(begun))
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
	pin, ok := errors.AsType[*ksc.PinError](err)
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
	if _, ok := errors.AsType[*ksc.PinError](err); !ok || !strings.Contains(err.Error(), "expired") {
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
		if !strings.Contains(err.Error(), "tls handshake") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if n := accepted.Load(); n > 3 { // a reset that arrives before connect returns counts as no connection, which is retried
		t.Errorf("%d handshakes were tried", n)
	}
}

func TestF26SearchThatFailsNeverSaysNotFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault ksctest.Fault
		want  bridge.Class
	}{
		"refused":       {ksctest.Fault{Kind: ksctest.FaultApplication, Method: findIncidents}, bridge.Unknown},
		"500":           {ksctest.Fault{Kind: ksctest.FaultServerError, Method: findIncidents}, bridge.Retry},
		"html":          {ksctest.Fault{Kind: ksctest.FaultHTML, Method: findIncidents}, bridge.Retry},
		"wrong types":   {ksctest.Fault{Kind: ksctest.FaultWrongTypes, Method: findIncidents}, bridge.Retry},
		"count fails":   {ksctest.Fault{Kind: ksctest.FaultServerError, Method: "ChunkAccessor.GetItemsCount"}, bridge.Retry},
		"chunk fails":   {ksctest.Fault{Kind: ksctest.FaultWrongTypes, Method: "ChunkAccessor.GetItemsChunk"}, bridge.Retry},
		"chunk refused": {ksctest.Fault{Kind: ksctest.FaultApplication, Method: "ChunkAccessor.GetItemsChunk"}, bridge.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			e := newExecutor(t, newClient(t, s))
			o := isolate(t, 0)
			if _, err := e.Execute(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			addFault(t, s, c.fault)
			_, found, err := e.Reconcile(t.Context(), o)
			if found {
				t.Fatal("found by a search that failed")
			}
			wantClass(t, err, c.want)
			s.Faults().Clear()
			if n := s.OpenAccessors(); n != 0 && name != "wrong types" { // whose answer did not tell the accessor
				t.Errorf("%d result sets were left behind", n)
			}
		})
	}
	t.Run("down", func(t *testing.T) {
		t.Parallel()
		s := startMock(t)
		e := newExecutor(t, newClient(t, s))
		s.Down()
		_, _, err := e.Reconcile(t.Context(), isolate(t, 0))
		wantClass(t, err, bridge.Retry) // never Unreachable: that would let another executor act as well
	})
}

func TestF26SearchSettlesBeforeItSaysNotFound(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	late := newExecutor(t, c)
	e := newExecutor(t, c, func(cfg *ksc.ExecutorConfig) { cfg.SettleTime = 400 * time.Millisecond })
	o := isolate(t, 0)
	done := make(chan error, 1)
	go func() {
		for s.Requests()["ChunkAccessor.Release"] == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		_, err := late.Execute(t.Context(), o) // the first request arrives late
		done <- err
	}()
	r, found, err := e.Reconcile(t.Context(), o)
	if lerr := <-done; lerr != nil || err != nil || !found || r.Ref == "" {
		t.Fatalf("found %v %+v, %v, %v", found, r, err, lerr)
	}
	if n := s.Requests()[findIncidents]; n != 2 {
		t.Errorf("%d searches, want 2", n)
	}
}
