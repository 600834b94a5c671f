package redisbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestF1StartsDegradedWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	srv.stop()
	s, _ := newTestStream(t, srv.addr, nil)
	p, _ := newTestPubSub(t, srv.addr, nil)
	run(t, s)
	run(t, p)
	eventually(t, 5*time.Second, "both know why they are down", func() bool { return s.Err() != nil && p.Err() != nil })
	for _, src := range []source{s, p} {
		if src.Connected() {
			t.Errorf("%T is connected to a server that is down", src)
		}
		if err := src.Err(); !errors.Is(err, bridge.ErrNotConnected) {
			t.Errorf("%T says %v, want ErrNotConnected", src, err)
		}
		select {
		case <-src.Ready():
			t.Errorf("%T is ready without a server", src)
		default:
		}
	}
	srv.start(t)
	awaitReady(t, s)
	awaitReady(t, p)
	srv.add(t, "alerts", "first")
	if d := receive(t, s, 5*time.Second); string(d.Alert.Raw) != "first" {
		t.Errorf("received %q", d.Alert.Raw)
	}
}

func TestF1BackoffGrowsFromATenthToFiveSecondsWithJitter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		random float64
		want   []time.Duration
	}{
		{0, []time.Duration{50, 100, 200, 400, 800, 1600, 2500, 2500}},
		{0.5, []time.Duration{75, 150, 300, 600, 1200, 2400, 3750, 3750}},
	} {
		b := newBackoff(func() float64 { return c.random })
		for i, want := range c.want {
			if got := b.next(); got != want*time.Millisecond {
				t.Errorf("random %v: pause %d is %s, want %s", c.random, i, got, want*time.Millisecond)
			}
		}
		for range 100 {
			if got := b.next(); got > lastPause || got <= 0 {
				t.Fatalf("pause is %s after many tries", got)
			}
		}
		b.reset()
		if got := b.next(); got != c.want[0]*time.Millisecond {
			t.Errorf("first pause after a reset is %s", got)
		}
	}
}

// TestF2 cuts all connections again and again in the middle of the reading: nothing may be missing.
func TestF2ConnectionResetLosesNothing(t *testing.T) {
	t.Parallel()
	const total = 2000
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	s, led := newTestStream(t, px.addr(), func(c *StreamConfig) { c.Count = 16 })
	run(t, s)
	awaitReady(t, s)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range total {
			srv.add(t, "alerts", fmt.Sprint(i))
		}
	})
	seen := make(map[string]int)
	for i := 0; len(seen) < total; i++ {
		d := receive(t, s, 20*time.Second)
		seen[string(d.Alert.Raw)]++
		settle(t, d, nil)
		if i%150 == 149 && i < 1500 {
			px.cut()
		}
	}
	eventually(t, 10*time.Second, "everything is acknowledged", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 0 })
	twice := 0
	for _, n := range seen {
		if n > 1 {
			twice++
		}
	}
	t.Logf("10 cuts, %d entries, %d delivered twice; %s", total, twice, led.text())
	if led.count(bridge.NoteLoss) != 0 {
		t.Errorf("losses noted: %s", led.text())
	}
}

func TestF6ReadOnlyReplicaIsRetriedUntilItIsMaster(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, srv.addr, nil)
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "before")
	before := receive(t, s, 5*time.Second)
	srv.do(t, "REPLICAOF", "127.0.0.1", "1")
	settle(t, before, nil) // its acknowledgement meets READONLY and has to wait
	eventually(t, 10*time.Second, "the source says READONLY", func() bool {
		err := s.Err()
		return err != nil && strings.Contains(err.Error(), "READONLY") && !s.Connected()
	})
	srv.do(t, "REPLICAOF", "NO", "ONE")
	srv.add(t, "alerts", "after")
	if d := receive(t, s, 15*time.Second); string(d.Alert.Raw) != "after" {
		t.Errorf("received %q, want after", d.Alert.Raw)
	} else {
		settle(t, d, nil)
	}
	eventually(t, 10*time.Second, "both are acknowledged", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 0 })
}

func TestF6LoadingServerIsRetried(t *testing.T) {
	t.Parallel()
	for _, refusal := range []string{
		"LOADING Redis is loading the dataset in memory", "MASTERDOWN Link with MASTER is down", "CLUSTERDOWN The cluster is down",
		"TRYAGAIN Multiple keys request during rehashing of slot", "ERR max number of clients reached",
	} {
		t.Run(strings.Fields(refusal)[0], func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			s, _ := newTestStream(t, m.Addr(), nil)
			run(t, s)
			awaitReady(t, s)
			m.SetError(refusal)
			eventually(t, 5*time.Second, "the source notices", func() bool { return !s.Connected() })
			m.SetError("")
			if _, err := m.XAdd("alerts", "*", []string{"alert", "after"}); err != nil {
				t.Fatal(err)
			}
			settle(t, receive(t, s, 15*time.Second), nil)
		})
	}
}

func TestF7LostGroupIsMadeAnewWhereItStood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		lose func(t *testing.T, srv *server)
	}{
		{"group destroyed", func(t *testing.T, srv *server) { srv.do(t, "XGROUP", "DESTROY", "alerts", "edr-bridge") }},
		{"stream deleted", func(t *testing.T, srv *server) { srv.do(t, "DEL", "alerts") }},
		{"everything flushed", func(t *testing.T, srv *server) { srv.do(t, "FLUSHALL") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := startRedis(t)
			var mu sync.Mutex
			var stored string
			s, led := newTestStream(t, srv.addr, func(c *StreamConfig) {
				c.Position = func(context.Context) (string, error) { mu.Lock(); defer mu.Unlock(); return stored, nil }
				c.SetPosition = func(_ context.Context, p string) error { mu.Lock(); defer mu.Unlock(); stored = p; return nil }
			})
			run(t, s)
			awaitReady(t, s)
			ids := srv.add(t, "alerts", "one", "two")
			for range 2 {
				settle(t, receive(t, s, 5*time.Second), nil)
			}
			eventually(t, 5*time.Second, "the position is stored", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return stored == ids[1]+"/0"
			})
			c.lose(t, srv)
			eventually(t, 5*time.Second, "the group is there again", func() bool { return led.count(bridge.NoteGap) > 0 })
			srv.add(t, "alerts", "three")
			if d := receive(t, s, 5*time.Second); string(d.Alert.Raw) != "three" {
				t.Errorf("received %q, want three: what was acknowledged must not come again", d.Alert.Raw)
			} else {
				settle(t, d, nil)
			}
			if n := led.count(bridge.NoteGap); n != 1 {
				t.Errorf("%d gaps noted, want 1: %s", n, led.text())
			}
			if n := led.count(NoteForeignAck); n != 0 {
				t.Errorf("foreign acknowledgements noted: %s", led.text())
			}
		})
	}
}

func TestF7GroupLostWhileTheBridgeWasDownIsMadeAnewAtTheStoredPosition(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	ids := srv.add(t, "alerts", "one", "two", "three")
	s, led := newTestStream(t, srv.addr, func(c *StreamConfig) {
		c.Position = func(context.Context) (string, error) { return ids[1] + "/0", nil }
	})
	run(t, s)
	if d := receive(t, s, 5*time.Second); string(d.Alert.Raw) != "three" {
		t.Errorf("received %q, want three", d.Alert.Raw)
	}
	eventually(t, 3*time.Second, "the gap is noted", func() bool { return led.count(bridge.NoteGap) == 1 })
}

func TestF7IDsThatBeganAnewAreNotSkipped(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	srv.do(t, "XADD", "alerts", "5-1", "alert", "after the clock went back")
	s, _ := newTestStream(t, srv.addr, func(c *StreamConfig) {
		c.Position = func(context.Context) (string, error) { return "99999999-3/0", nil }
	})
	run(t, s)
	if d := receive(t, s, 5*time.Second); d.Alert.ID != "5-1" {
		t.Errorf("received %s", d.Alert.ID)
	}
}
