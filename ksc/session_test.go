package ksc_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

func TestManyCallersShareOneLoginAndKeptConnections(t *testing.T) {
	t.Parallel()
	s := startMock(t, func(c *ksctest.Config) { c.Latency = time.Millisecond })
	c := newClient(t, s)
	e := newExecutor(t, c)
	const orders = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for s.AddedIncidents() < orders/4 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		s.ExpireSessions()
	})
	for i := range orders {
		wg.Go(func() {
			if _, err := e.Execute(t.Context(), isolate(t, 5*i)); err != nil {
				t.Errorf("order %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := s.AddedIncidents(); n != orders {
		t.Errorf("%d incidents, want %d", n, orders)
	}
	if n := len(s.Logins()); n < 2 || n > 3 {
		t.Errorf("%d logins, want one and one after the expiry", n)
	}
	if n := s.Handshakes(); n > 8 {
		t.Errorf("%d handshakes for 8 connections", n)
	}
	if n := s.PeakConcurrent(); n > 8 {
		t.Errorf("%d requests at once, want at most 8", n)
	}
}

func TestCloseEndsTheSessionAndLaterCallsFail(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.OpenSessions(); n != 0 {
		t.Errorf("%d sessions are open", n)
	}
	_, err := newExecutor(t, c).Execute(t.Context(), isolate(t, 0))
	if wantClass(t, err, bridge.Retry); !errors.Is(err, ksc.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if n := s.AddedIncidents(); n != 0 {
		t.Errorf("%d incidents", n)
	}
}

func TestEndSessionOfAnExpiredSessionIsNoError(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	if err := c.EndSession(t.Context()); err != nil || len(s.Requests()) != 0 {
		t.Fatalf("without a session: %v, %v", err, s.Requests())
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.ExpireSessions()
	if err := c.EndSession(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSecondFactorStopsAtOnceAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := startMock(t, func(c *ksctest.Config) { c.Accounts[0].TOTP = "276069" })
	c := newClient(t, s)
	for range 2 {
		err := c.Ping(t.Context())
		auth, ok := errors.AsType[*ksc.AuthError](err)
		if !ok || !auth.SecondFactor || !strings.Contains(err.Error(), "two-factor") || !errors.Is(err, ksc.ErrLoginsStopped) {
			t.Fatalf("got %v", err)
		}
	}
	if n := s.Requests()["Session.StartSession"]; n != 1 {
		t.Errorf("%d logins", n)
	}
	if n := s.Requests()["Session.EndSession"]; n != 1 {
		t.Errorf("the half-open session was ended %d times", n)
	}
}

func TestInternalFlagAndVirtualServerAreSent(t *testing.T) {
	t.Parallel()
	s := startMock(t, func(c *ksctest.Config) {
		c.EnforceInternal, c.VirtualServers = true, []string{"Филиал"}
		c.Accounts[0].Internal = true
	})
	if err := newClient(t, s).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "ksc.internal: yes") {
		t.Errorf("got %v", err)
	}
	c := newClient(t, s, func(cfg *ksc.Config) { cfg.Internal, cfg.VirtualServer = true, "Филиал" })
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l := s.Logins(); len(l) != 1 || l[0].VirtualServer != "Филиал" {
		t.Errorf("got %+v", l)
	}
}

func TestLoginThatIsGivenUpByItsCallerIsTakenOverByAnother(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultSlow, Method: "Session.StartSession", Delay: 400 * time.Millisecond, Count: 1})
	c := newClient(t, s)
	short, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		err := c.Ping(short)
		if ce, ok := errors.AsType[*ksc.CallError](err); !ok || ce.Class != bridge.Retry || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("leader: %v", err)
		}
	})
	wg.Go(func() {
		for s.Requests()["Session.StartSession"] == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if err := c.Ping(t.Context()); err != nil {
			t.Errorf("follower: %v", err)
		}
	})
	wg.Wait()
}

func TestPasswordThatCannotBeReadIsNoRefusal(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	locked := errors.New("keyring is locked")
	c := newClient(t, s, func(cfg *ksc.Config) {
		cfg.Password = func(context.Context) ([]byte, error) { return nil, locked }
	})
	_, err := newExecutor(t, c).Execute(t.Context(), isolate(t, 0))
	if wantClass(t, err, bridge.Retry); !errors.Is(err, locked) {
		t.Errorf("got %v", err)
	}
	if len(s.Requests()) != 0 {
		t.Error("something was sent")
	}
}

func TestNewNamesEveryWrongSetting(t *testing.T) {
	t.Parallel()
	good := clientConfig("ksc01:13299")
	good.SystemRoots = true
	if _, err := ksc.New(good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*ksc.Config)
		want   string
	}{
		"no port":         {func(c *ksc.Config) { c.Address = "ksc01" }, "ksc.address"},
		"port zero":       {func(c *ksc.Config) { c.Address = "ksc01:0" }, "ksc.address"},
		"url":             {func(c *ksc.Config) { c.Address = "https://ksc01:13299" }, "ksc.address"},
		"path":            {func(c *ksc.Config) { c.Address = "ksc01/x:13299" }, "ksc.address"},
		"no user":         {func(c *ksc.Config) { c.User = "" }, "ksc.user"},
		"no password":     {func(c *ksc.Config) { c.Password = nil }, "ksc.password"},
		"quote in domain": {func(c *ksc.Config) { c.Domain = `a", internal="1` }, "ksc.domain"},
		"line in domain":  {func(c *ksc.Config) { c.Domain = "a\r\nX: y" }, "ksc.domain"},
		"no trust":        {func(c *ksc.Config) { c.SystemRoots = false }, "ksc.ca"},
		"bad ca":          {func(c *ksc.Config) { c.CA = []byte("klserver") }, "ksc.ca"},
		"bad fingerprint": {func(c *ksc.Config) { c.Fingerprints = []string{"AA:BB"} }, "ksc.fingerprints"},
		"negative time":   {func(c *ksc.Config) { c.Timeout = -1 }, "ksc.timeout"},
		"many in flight":  {func(c *ksc.Config) { c.InFlight = 5000 }, "ksc.in_flight"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			c.change(&cfg)
			if _, err := ksc.New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestCallsWaitForAFreeConnectionAndSendNothingWhenTheirTimeEndsThere(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := startRaw(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		<-release
		fmt.Fprint(w, `{"PxgRetVal":17}`)
	})
	c := rawClient(t, s, func(cfg *ksc.Config) { cfg.InFlight = 1 })
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := newExecutor(t, c)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := e.Execute(t.Context(), isolate(t, 0)); err != nil {
			t.Error(err)
		}
	})
	for s.count(addIncident) == 0 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := e.Execute(ctx, isolate(t, 5))
	wantClass(t, err, bridge.Retry)
	close(release)
	wg.Wait()
	if n := s.count(addIncident); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func ExampleExecutor() {
	mock, err := ksctest.New(ksctest.Config{
		Accounts: []ksctest.Account{{User: "svc-edr", Password: "secret"}},
		Hosts:    []ksctest.Host{{ID: hostA, NetBIOS: "WS-01", FQDN: "ws-01.corp.local"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := mock.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer mock.Close()
	client, err := ksc.New(ksc.Config{Address: mock.Addr(), CA: mock.CertPEM(), User: "svc-edr", Password: passwordIs("secret")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close(ctx)
	executor, err := ksc.NewExecutor(ksc.ExecutorConfig{Client: client})
	if err != nil {
		fmt.Println(err)
		return
	}
	order := bridge.Order{ID: "o1", Host: "ws-01", Task: bridge.IsolateHost{Action: bridge.IsolationOn}}
	order.Intent, _, err = executor.Intend(ctx, order, true) // to be stored before the next line
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := executor.Execute(ctx, order)
	fmt.Println(order.Intent.Target, receipt.State, receipt.Ref, err)
	// Output: 8910f900-3807-4b97-8a97-d49e73ec5ab1 accepted 1 <nil>
}
