package sensor

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"
)

// listening is a sensor that looks for one network.
func listening(t *testing.T, cfg Config) *Sensor {
	t.Helper()
	cfg.Name, cfg.Indicators = "s", []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func to(address string, inode uint64) connection {
	return connection{local: netip.MustParseAddrPort("192.0.2.1:40000"), remote: netip.MustParseAddrPort(address), protocol: "tcp", inode: inode}
}

func (s *Sensor) waiting(t *testing.T) []document {
	t.Helper()
	var list []document
	for _, doc := range s.outboxes[0].drain(t) {
		list = append(list, readDocument(t, []byte(doc)))
	}
	return list
}

func TestOwnConnectionsMakeNoAlert(t *testing.T) {
	t.Parallel()
	s := listening(t, Config{Self: 10})
	if !s.connected(context.Background(), to("203.0.113.7:443", 5), 10, time.Now()) || len(s.waiting(t)) != 0 {
		t.Error("an own connection waits or is told")
	}
	if !s.connected(context.Background(), to("203.0.113.7:443", 5), 1<<30, time.Now()) || len(s.waiting(t)) != 1 {
		t.Error("that of another process is not told")
	}
}

func TestProcessThatHasNotTheSocketIsNotNamed(t *testing.T) {
	t.Parallel()
	s := listening(t, Config{Self: -1})
	const none = 1 << 40 // inodes of sockets have 32 bits here
	s.connected(t.Context(), to("203.0.113.7:443", none), os.Getpid(), time.Now())
	list := s.waiting(t)
	if len(list) != 1 || list[0].PID != 0 || list[0].ActionablePID != 0 || list[0].SHA256 != "" || list[0].Exe != "" || list[0].SourceIP != "203.0.113.7" {
		t.Errorf("alerts %+v", list)
	}
}

func TestConnectionsBeyondTheRateWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	s := listening(t, Config{Self: -1, RuleRate: Rate{PerSecond: 1, Burst: 1}, Now: func() time.Time { return now }})
	found := []connection{to("203.0.113.7:443", 0), to("203.0.113.8:443", 0)}
	told := map[connection]bool{}
	for look, want := range []string{"203.0.113.7", "203.0.113.8", ""} {
		told = s.tellConnections(t.Context(), found, told, true)
		list := s.waiting(t)
		if len(list) != min(len(want), 1) || want != "" && list[0].SourceIP != want {
			t.Errorf("look %d: alerts %+v, want one of %q", look, list, want)
		}
		now = now.Add(time.Second)
	}
}

func TestListThatEndsEarlyForgetsNothing(t *testing.T) {
	t.Parallel()
	s := listening(t, Config{Self: -1, Dedupe: -1})
	all := []connection{to("203.0.113.7:443", 0), to("203.0.113.8:443", 0)}
	told := s.tellConnections(t.Context(), all, nil, true)
	told = s.tellConnections(t.Context(), all[:1], told, false)
	s.tellConnections(t.Context(), all, told, true)
	if n := len(s.waiting(t)); n != 2 {
		t.Errorf("%d alerts of 2 connections", n)
	}
}
