package redisbus

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const channel = "high_severity_alerts"

func (s *server) publish(t testing.TB, doc string) int64 {
	t.Helper()
	n, err := s.c.Publish(t.Context(), channel, doc).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestF2PubSubConnectionResetIsNotedAsAGap(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	p, led := newTestPubSub(t, px.addr(), nil)
	run(t, p)
	awaitReady(t, p)
	for cut := range 5 {
		px.cut()
		eventually(t, 10*time.Second, "the gap is counted", func() bool { return p.Stats().Gaps == int64(cut+1) && p.Connected() })
	}
	if n := srv.publish(t, "after"); n != 1 {
		t.Errorf("%d receivers after the cuts, want 1", n)
	}
	if d := receive(t, p, 5*time.Second); string(d.Alert.Raw) != "after" {
		t.Errorf("received %q", d.Alert.Raw)
	}
	eventually(t, 3*time.Second, "all gaps are noted", func() bool { return led.count(bridge.NoteGap) == 5 })
}

func TestF3HalfOpenConnectionIsFoundWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	p, led := newTestPubSub(t, px.addr(), nil)
	run(t, p)
	awaitReady(t, p)
	srv.publish(t, "before")
	settle(t, receive(t, p, 5*time.Second), nil)

	px.hole.Store(true)
	began := time.Now()
	srv.publish(t, "swallowed")
	eventually(t, 8*time.Second, "the source notices", func() bool { return !p.Connected() })
	found := time.Since(began)
	t.Logf("found after %s", found.Round(time.Millisecond))
	if found > 5*time.Second {
		t.Errorf("black hole found after %s, want within 5 s", found)
	}
	px.hole.Store(false)
	px.cut() // what was swallowed half-way is of no use to anyone
	eventually(t, 15*time.Second, "the gap is noted", func() bool { return led.count(bridge.NoteGap) == 1 })
	if !strings.Contains(led.text(), "no answer") {
		t.Errorf("the gap does not say why: %s", led.text())
	}
	srv.publish(t, "after")
	if d := receive(t, p, 5*time.Second); string(d.Alert.Raw) != "after" {
		t.Errorf("received %q", d.Alert.Raw)
	}
}

func TestF3SilentButHealthyConnectionIsKept(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	p, led := newTestPubSub(t, srv.addr, func(c *PubSubConfig) { c.Probe = 100 * time.Millisecond })
	run(t, p)
	awaitReady(t, p)
	nothing(t, p, 2*time.Second)
	if p.Stats().Gaps != 0 || led.count(bridge.NoteGap) != 0 {
		t.Errorf("gaps on a healthy connection: %s", led.text())
	}
}

func TestF4SlowConsumerLosesOnlyWhatIsCounted(t *testing.T) {
	t.Parallel()
	const burst, queue = 10_000, 1000
	srv := startRedis(t)
	p, led := newTestPubSub(t, srv.addr, func(c *PubSubConfig) { c.Queue = queue })
	run(t, p)
	awaitReady(t, p)
	pipe := srv.c.Pipeline()
	for i := range burst {
		pipe.Publish(t.Context(), channel, fmt.Sprint(i))
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the burst is read", func() bool { return p.Stats().Received == burst })
	for i := range queue { // the oldest are kept, in order
		d := receive(t, p, time.Second)
		if string(d.Alert.Raw) != fmt.Sprint(i) {
			t.Fatalf("received %q at %d", d.Alert.Raw, i)
		}
		settle(t, d, nil)
	}
	nothing(t, p, 50*time.Millisecond)
	st := p.Stats()
	if st.Dropped != burst-queue {
		t.Errorf("%d counted as dropped, want %d", st.Dropped, burst-queue)
	}
	eventually(t, 5*time.Second, "every drop is noted", func() bool { return led.count(bridge.NoteLoss) == burst-queue })
	if n := len(led.list); n > 5 {
		t.Errorf("%d notes for one burst, want them coalesced", n)
	}
	if st.Gaps != 0 {
		t.Error("the slow consumer cost the connection")
	}
}

func TestF5SubscriberKilledByTheOutputBufferLimitComesBackAndSaysWhy(t *testing.T) {
	t.Parallel()
	srv := startRedis(t, "--client-output-buffer-limit", "pubsub 1mb 512kb 1")
	px := startProxy(t, srv.addr)
	p, led := newTestPubSub(t, px.addr(), func(c *PubSubConfig) { c.Probe = 5 * time.Second })
	run(t, p)
	awaitReady(t, p)
	px.stall(true)
	doc := strings.Repeat("x", 256<<10)
	for range 80 {
		srv.publish(t, doc)
	}
	eventually(t, 10*time.Second, "redis killed the subscriber", func() bool { return srv.publish(t, "probe") == 0 })
	px.stall(false)
	eventually(t, 10*time.Second, "the gap is noted", func() bool { return led.count(bridge.NoteGap) == 1 })
	if !strings.Contains(led.text(), "client-output-buffer-limit") {
		t.Errorf("the note does not name the likely cause: %s", led.text())
	}
	srv.publish(t, "after")
	for {
		if d := receive(t, p, 5*time.Second); string(d.Alert.Raw) == "after" {
			break
		}
	}
}

func TestF6PubSubSurvivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	p, led := newTestPubSub(t, srv.addr, nil)
	run(t, p)
	awaitReady(t, p)
	srv.stop()
	eventually(t, 5*time.Second, "the source notices", func() bool { return !p.Connected() })
	srv.start(t)
	eventually(t, 15*time.Second, "the source is back", p.Connected)
	srv.publish(t, "after")
	settle(t, receive(t, p, 5*time.Second), nil)
	eventually(t, 3*time.Second, "the gap is noted", func() bool { return led.count(bridge.NoteGap) == 1 })
}

func TestPubSubNotesWhatItCannotDeliver(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	p, led := newTestPubSub(t, srv.addr, nil)
	run(t, p)
	awaitReady(t, p)
	srv.publish(t, strings.Repeat("x", maxDocument+1))
	srv.publish(t, "unreadable")
	srv.publish(t, "not taken")
	srv.publish(t, "never received")
	settle(t, receive(t, p, 5*time.Second), fmt.Errorf("no level: %w", bridge.ErrBadAlert))
	settle(t, receive(t, p, 5*time.Second), fmt.Errorf("the store is full"))
	eventually(t, 5*time.Second, "all is read", func() bool { return p.Stats().Queued == 1 })
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if led.count(bridge.NoteDeadLetter) != 2 || led.count(bridge.NoteLoss) != 2 {
		t.Errorf("want 2 dead letters and 2 losses noted, have: %s", led.text())
	}
}

func TestPubSubHandsOutWhatIsQueuedAfterRunHasEnded(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	p, _ := newTestPubSub(t, srv.addr, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	awaitReady(t, p)
	srv.publish(t, "last")
	eventually(t, 5*time.Second, "it is read", func() bool { return p.Stats().Queued == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if d := receive(t, p, time.Second); string(d.Alert.Raw) != "last" {
		t.Errorf("received %q", d.Alert.Raw)
	}
	if _, err := p.Receive(t.Context()); err != bridge.ErrClosed { //nolint:errorlint // exactly this
		t.Errorf("receive answers %v, want ErrClosed", err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
