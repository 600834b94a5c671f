package ksc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

func TestIntendFixesTargetNamesAndSecond(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	for _, host := range []string{"ws-01.corp.local", "WS-01", "ws-01", hostA, strings.ToUpper(hostA), "10.0.5.17"} {
		in, ok, err := e.Intend(t.Context(), bridge.Order{ID: "o1", Host: host, Task: bridge.IsolateHost{Action: 1}}, true)
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", host, ok, err)
		}
		want := isolate(t, 0).Intent
		want.Names = []string{"ws-01.corp.local", "WS-01", "ws-01", "10.0.5.17"}
		if diff := cmp.Diff(want, in); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
	}
	in, _, err := e.Intend(t.Context(), bridge.Order{ID: "o1", Host: "200.1.2.3", Task: bridge.IsolateHost{Action: 1}}, true)
	if err != nil || in.Target != hostB {
		t.Errorf("address above 127.255.255.255: %v, %v", in.Target, err)
	}
}

func TestIntendRefuses(t *testing.T) {
	t.Parallel()
	s := startMock(t, func(c *ksctest.Config) {
		for i := range 12 {
			c.Hosts = append(c.Hosts, ksctest.Host{ID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i), DisplayName: fmt.Sprintf("TWIN~%d", i), NetBIOS: "TWIN", FQDN: fmt.Sprintf("twin%d.corp.local", i)})
		}
		c.Hosts = append(c.Hosts,
			ksctest.Host{ID: "11111111-0000-0000-0000-000000000001", NetBIOS: "CROSS"},
			ksctest.Host{ID: "11111111-0000-0000-0000-000000000002", DisplayName: "cross", NetBIOS: "OTHER"},
			ksctest.Host{ID: "11111111-0000-0000-0000-000000000003", DisplayName: "host.corp.local", NetBIOS: "X3"},
			ksctest.Host{ID: "11111111-0000-0000-0000-000000000004", FQDN: "host.corp.local", NetBIOS: "X4"})
	})
	e := newExecutor(t, newClient(t, s))
	on := bridge.IsolateHost{Action: 1}
	for name, c := range map[string]struct {
		host string
		task bridge.Task
		want bridge.Reason
		text string
	}{
		"unknown name":              {"nobody", on, bridge.ReasonHostNotFound, "nobody"},
		"unknown id":                {"99999999-3807-4b97-8a97-d49e73ec5ab1", on, bridge.ReasonHostNotFound, "99999999"},
		"unknown address":           {"10.9.9.9", on, bridge.ReasonHostNotFound, "10.9.9.9"},
		"IPv6 address":              {"2001:db8::1", on, bridge.ReasonHostNotFound, "IPv6"},
		"loopback":                  {"127.0.0.1", on, bridge.ReasonInvalid, "127.0.0.1"},
		"no host":                   {"", on, bridge.ReasonNoHost, "host"},
		"wildcard":                  {"WS-*", on, bridge.ReasonInvalid, "filters"},
		"injection":                 {`x")(KLHST_WKS_DN="`, on, bridge.ReasonInvalid, "filters"},
		"control character":         {"ws\n01", on, bridge.ReasonInvalid, "control"},
		"long name":                 {strings.Repeat("a", 300), on, bridge.ReasonInvalid, "longer"},
		"twelve twins":              {"TWIN", on, bridge.ReasonHostAmbiguous, "12 hosts"},
		"name of one, shown as two": {"cross", on, bridge.ReasonHostAmbiguous, "11111111-0000-0000-0000-000000000002"},
		"blockAddress":              {"ws-01", bridge.BlockAddress{Address: "203.0.113.7"}, bridge.ReasonUnsupported, "local"},
		"SHA-256 to prevent":        {"ws-01", bridge.PreventExecution{Hash: sha256Hash}, bridge.ReasonUnsupported, "MD5"},
		"process without criteria":  {"ws-01", bridge.TerminateProcess{}, bridge.ReasonInvalid, "pid"},
		"no task":                   {"ws-01", nil, bridge.ReasonInvalid, "task"},
	} {
		t.Run(name, func(t *testing.T) {
			o := bridge.Order{ID: "o1", Host: c.host, Task: c.task, Subject: bridge.Process{PID: 4242}}
			_, ok, err := e.Intend(t.Context(), o, true)
			if ok {
				t.Fatal("not refused")
			}
			ee := wantClass(t, err, bridge.Permanent)
			if ee.Reason != c.want || ee.OrderID != "o1" || ee.Executor != bridge.ExecutorKSC || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got reason %q: %v", ee.Reason, err)
			}
			if n := strings.Count(err.Error(), "00000000-0000-0000-0000-"); n > 10 {
				t.Errorf("%d candidates are listed", n)
			}
		})
	}
	in, _, err := e.Intend(t.Context(), bridge.Order{Host: "host.corp.local", Task: on}, true)
	if err != nil || in.Target != "11111111-0000-0000-0000-000000000004" {
		t.Errorf("an FQDN is exact whatever others are shown as: %v, %v", in.Target, err)
	}
	if n := s.OpenAccessors(); n != 0 {
		t.Errorf("%d result sets were left behind", n)
	}
}

func TestIntendWithoutWaitingAnswersFromMemoryOnly(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	now := start
	e := newExecutor(t, newClient(t, s), func(cfg *ksc.ExecutorConfig) {
		cfg.Now, cfg.HostCacheTTL = func() time.Time { return now }, time.Minute
	})
	o := bridge.Order{ID: "o1", Host: "WS-01", Task: bridge.IsolateHost{Action: 1}}
	if _, ok, err := e.Intend(t.Context(), o, false); ok || err != nil {
		t.Fatalf("unknown host: %v, %v", ok, err)
	}
	if n := len(s.Requests()); n != 0 {
		t.Fatalf("the network was touched: %v", s.Requests())
	}
	if _, ok, err := e.Intend(t.Context(), o, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.Down()
	o.Host = "ws-01"
	in, ok, err := e.Intend(t.Context(), o, false)
	if !ok || err != nil || in.Target != hostA {
		t.Fatal(in, ok, err)
	}
	now = now.Add(time.Minute)
	if _, ok, err := e.Intend(t.Context(), o, false); ok || err != nil {
		t.Fatalf("after its time: %v, %v", ok, err)
	}
	o.Task = bridge.BlockAddress{}
	if _, _, err := e.Intend(t.Context(), o, false); err == nil {
		t.Error("a refusal needs no network")
	}
}
