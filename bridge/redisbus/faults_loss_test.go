package redisbus

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestF8TrimmedUnreadEntriesAreReportedOnce(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	var mu sync.Mutex
	var stored string
	change := func(c *StreamConfig) {
		c.Position = func(context.Context) (string, error) { mu.Lock(); defer mu.Unlock(); return stored, nil }
		c.SetPosition = func(_ context.Context, p string) error { mu.Lock(); defer mu.Unlock(); stored = p; return nil }
	}
	first, _ := newTestStream(t, srv.addr, change)
	run(t, first)
	awaitReady(t, first)
	srv.add(t, "alerts", "a", "b", "c")
	for range 3 {
		settle(t, receive(t, first, 5*time.Second), nil)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		srv.add(t, "alerts", fmt.Sprintf("later %d", i))
	}
	srv.do(t, "XTRIM", "alerts", "MAXLEN", "8")

	second, led := newTestStream(t, srv.addr, change)
	run(t, second)
	for i := range 8 {
		d := receive(t, second, 5*time.Second)
		if want := fmt.Sprintf("later %d", i+7); string(d.Alert.Raw) != want {
			t.Fatalf("received %q, want %q", d.Alert.Raw, want)
		}
		settle(t, d, nil)
	}
	eventually(t, 5*time.Second, "7 unread entries are noted as lost", func() bool { return led.count(bridge.NoteLoss) == 7 })
	if !strings.Contains(led.text(), "lost_unread") {
		t.Errorf("note is %s", led.text())
	}
	sweeps(t, second, 3)
	if n := led.count(bridge.NoteLoss); n != 7 {
		t.Errorf("%d noted after some sweeps, want 7: %s", n, led.text())
	}
	if err := second.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	third, led := newTestStream(t, srv.addr, change)
	run(t, third)
	awaitReady(t, third)
	sweeps(t, third, 2)
	if n := led.count(bridge.NoteLoss); n != 0 {
		t.Errorf("the loss is reported again after a restart: %s", led.text())
	}
}

// sweeps waits for about n sweeps of a test stream.
func sweeps(t *testing.T, s *Stream, n int) {
	t.Helper()
	nothing(t, s, time.Duration(n)*350*time.Millisecond)
}

func TestF8TrimmedWhileRunningIsReported(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, led := newTestStream(t, srv.addr, func(c *StreamConfig) { c.MaxPending, c.Count = 2, 1 })
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1", "2", "3", "4", "5", "6", "7", "8")
	held := []bridge.Delivery{receive(t, s, 5*time.Second), receive(t, s, 5*time.Second)}
	srv.do(t, "XTRIM", "alerts", "MAXLEN", "2")
	for _, d := range held {
		settle(t, d, nil)
	}
	for _, want := range []string{"7", "8"} {
		d := receive(t, s, 5*time.Second)
		if string(d.Alert.Raw) != want {
			t.Errorf("received %q, want %q", d.Alert.Raw, want)
		}
		settle(t, d, nil)
	}
	eventually(t, 5*time.Second, "4 unread entries are noted as lost", func() bool { return led.count(bridge.NoteLoss) == 4 })
	if n := led.count(NoteForeignAck); n != 0 {
		t.Errorf("foreign acknowledgements noted: %s", led.text())
	}
}

func TestF8TrimmedPendingEntriesAreReportedAndNeverDelivered(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	srv.do(t, "XGROUP", "CREATE", "alerts", "edr-bridge", "0", "MKSTREAM")
	srv.add(t, "alerts", "own 1", "own 2", "other 1", "other 2", "other 3", "live")
	srv.do(t, "XREADGROUP", "GROUP", "edr-bridge", "one", "COUNT", "2", "STREAMS", "alerts", ">")
	srv.do(t, "XREADGROUP", "GROUP", "edr-bridge", "gone", "COUNT", "3", "STREAMS", "alerts", ">")
	srv.do(t, "XTRIM", "alerts", "MAXLEN", "1")
	s, led := newTestStream(t, srv.addr, func(c *StreamConfig) { c.ClaimAfter = time.Second })
	run(t, s)
	d := receive(t, s, 5*time.Second)
	if string(d.Alert.Raw) != "live" {
		t.Errorf("received %q, want live", d.Alert.Raw)
	}
	settle(t, d, nil)
	eventually(t, 8*time.Second, "5 deleted entries are noted as lost", func() bool { return led.count(bridge.NoteLoss) == 5 })
	eventually(t, 5*time.Second, "nothing is pending", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 0 })
	if n := led.count(NoteForeignAck); n != 0 {
		t.Errorf("foreign acknowledgements noted: %s", led.text())
	}
}
