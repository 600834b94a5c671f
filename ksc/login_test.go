package ksc_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

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
