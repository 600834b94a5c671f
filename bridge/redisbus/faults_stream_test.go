package redisbus

import (
	"context"
	"encoding/base64"
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
	if err := first.Close(context.Background()); err != nil {
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
	if err := second.Close(context.Background()); err != nil {
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

func TestF10LostReadAnswerIsSweptFromTheOwnPendingEntries(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	s, _ := newTestStream(t, px.addr(), nil)
	run(t, s)
	awaitReady(t, s)
	nothing(t, s, 200*time.Millisecond)
	px.loseAnswer("xreadgroup")
	eventually(t, 5*time.Second, "a read is under way whose answer will be lost", px.answerLost)
	srv.add(t, "alerts", "1", "2", "3")
	for _, want := range []string{"1", "2", "3"} {
		d := receive(t, s, 30*time.Second)
		if string(d.Alert.Raw) != want {
			t.Errorf("received %q, want %q", d.Alert.Raw, want)
		}
		settle(t, d, nil)
	}
	if s.Stats().Recovered == 0 {
		t.Error("nothing was recovered: the answer was not lost")
	}
}

// TestF10Forgotten makes entries pending for our consumer behind the back of a session that goes on.
func TestF10ForgottenEntriesAreFoundByThePeriodicSweep(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, srv.addr, func(c *StreamConfig) { c.MaxPending, c.Count = 1, 1 })
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "held", "forgotten")
	held := receive(t, s, 5*time.Second)
	srv.do(t, "XREADGROUP", "GROUP", "edr-bridge", "one", "COUNT", "10", "STREAMS", "alerts", ">")
	settle(t, held, nil)
	d := receive(t, s, 5*time.Second)
	if string(d.Alert.Raw) != "forgotten" {
		t.Errorf("received %q", d.Alert.Raw)
	}
	settle(t, d, nil)
	nothing(t, s, 700*time.Millisecond)
}

func TestF11LostAcknowledgementIsRepeatedAndNotExecutedAgain(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	s, led := newTestStream(t, px.addr(), nil)
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1")
	d := receive(t, s, 5*time.Second)
	px.loseAnswer("xack")
	settle(t, d, nil)
	eventually(t, 5*time.Second, "the answer is lost", px.answerLost)
	eventually(t, 5*time.Second, "it is off the hand", func() bool { return s.Stats().InHand == 0 })
	nothing(t, s, time.Second)
	if led.count(NoteForeignAck) != 0 {
		t.Errorf("our own lost acknowledgement is taken for another consumer's: %s", led.text())
	}
}

func TestF11RedisDownAtAckIsAcknowledgedLater(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	s, _ := newTestStream(t, px.addr(), nil)
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1")
	d := receive(t, s, 5*time.Second)
	px.hole.Store(true)
	px.cut()
	settle(t, d, nil)
	nothing(t, s, 500*time.Millisecond)
	px.hole.Store(false)
	px.cut()
	eventually(t, 15*time.Second, "the entry is acknowledged", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 0 })
	nothing(t, s, 700*time.Millisecond)
}

func TestF12EntriesOfADeadReplicaAreClaimedAndDeliveredOnce(t *testing.T) {
	t.Parallel()
	const total = 60
	srv := startRedis(t)
	claim := func(name string) func(c *StreamConfig) {
		return func(c *StreamConfig) { c.Consumer, c.ClaimAfter, c.Count = name, time.Second, 8 }
	}
	dead, _ := newTestStream(t, srv.addr, claim("dead"))
	run(t, dead)
	awaitReady(t, dead)
	for i := range total {
		srv.add(t, "alerts", fmt.Sprint(i))
	}
	seen := make(map[string]int)
	for range 20 { // taken and settled, or taken and left
		d := receive(t, dead, 5*time.Second)
		if len(seen) < 10 {
			settle(t, d, nil)
			seen[string(d.Alert.Raw)]++
		}
	}
	if err := dead.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	heirs := []*Stream{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, name := range []string{"heir 1", "heir 2"} {
		s, _ := newTestStream(t, srv.addr, claim(name))
		run(t, s)
		heirs = append(heirs, s)
		wg.Go(func() {
			for {
				d, err := s.Receive(ctx)
				if err != nil {
					return
				}
				mu.Lock()
				seen[string(d.Alert.Raw)]++
				all := len(seen) == total
				mu.Unlock()
				_ = d.Settle(ctx, nil)
				if all {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if len(seen) != total {
		t.Errorf("%d of %d entries executed", len(seen), total)
	}
	for doc, n := range seen {
		if n != 1 {
			t.Errorf("entry %s was executed %d times", doc, n)
		}
	}
	if heirs[0].Stats().Claimed+heirs[1].Stats().Claimed == 0 {
		t.Error("nothing was claimed")
	}
}

func TestF12ALiveReplicaKeepsWhatItHoldsLong(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	slow, led := newTestStream(t, srv.addr, func(c *StreamConfig) { c.Consumer, c.ClaimAfter = "slow", 800 * time.Millisecond })
	run(t, slow)
	awaitReady(t, slow)
	srv.add(t, "alerts", "delivered", "queued")
	d := receive(t, slow, 5*time.Second)
	other, _ := newTestStream(t, srv.addr, func(c *StreamConfig) { c.Consumer, c.ClaimAfter = "other", 800 * time.Millisecond })
	run(t, other)
	awaitReady(t, other)
	nothing(t, other, 3*time.Second)
	settle(t, d, nil)
	settle(t, receive(t, slow, 5*time.Second), nil)
	eventually(t, 5*time.Second, "both are acknowledged", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 0 })
	if led.count(NoteForeignAck) != 0 {
		t.Errorf("noted: %s", led.text())
	}
}

// TestF12Frozen stands for a replica that was stopped: while it was, another one took its entries.
func TestF12AFrozenReplicaDoesNotDeliverWhatWasTakenFromIt(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	var mu sync.Mutex
	var skipped time.Duration
	s, led := newTestStream(t, srv.addr, func(c *StreamConfig) {
		c.ClaimAfter = time.Minute
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(skipped) }
	})
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1", "2", "3")
	settle(t, receive(t, s, 5*time.Second), nil)
	// Entries 2 and 3 are read ahead by then; the thief takes 2.
	list := srv.do(t, "XPENDING", "alerts", "edr-bridge", "-", "+", "10", "one").([]any)
	id := list[len(list)-2].([]any)[0]
	srv.do(t, "XCLAIM", "alerts", "edr-bridge", "thief", "0", id)
	mu.Lock()
	skipped = 40 * time.Second
	mu.Unlock()
	// Entry 3 has been idle for no time by the server's clock, so that XCLAIM's idle bound would refuse it.
	srv.do(t, "XCLAIM", "alerts", "edr-bridge", "one", "0", list[len(list)-1].([]any)[0], "IDLE", "40000")
	d := receive(t, s, 5*time.Second)
	if string(d.Alert.Raw) != "3" {
		t.Errorf("received %q, want 3: entry 2 belongs to another consumer", d.Alert.Raw)
	}
	settle(t, d, nil)
	eventually(t, 3*time.Second, "the theft is noted", func() bool { return led.count(NoteForeignAck) == 1 })
}

func TestF46EntryStaysPendingWhileTheDeadLetterStreamIsUnavailable(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	srv.do(t, "SET", "alerts:dead", "not a stream")
	s, led := newTestStream(t, srv.addr, nil)
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "{broken", "fine")
	settle(t, receive(t, s, 5*time.Second), fmt.Errorf("unexpected end of input: %w", bridge.ErrBadAlert))
	settle(t, receive(t, s, 5*time.Second), nil)
	eventually(t, 5*time.Second, "only the good one is acknowledged", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 1 })
	nothing(t, s, time.Second)
	if srv.pending(t, "alerts", "edr-bridge") != 1 || led.count(bridge.NoteDeadLetter) != 0 {
		t.Fatalf("acknowledged without a dead letter: %s", led.text())
	}
	srv.do(t, "DEL", "alerts:dead")
	eventually(t, 15*time.Second, "the dead letter is written and then acknowledged", func() bool {
		return srv.do(t, "XLEN", "alerts:dead").(int64) == 1 && srv.pending(t, "alerts", "edr-bridge") == 0
	})
	eventually(t, 3*time.Second, "it is noted", func() bool { return led.count(bridge.NoteDeadLetter) == 1 })
}

func TestI1UnreadableDocumentsBecomeDeadLettersByteForByte(t *testing.T) {
	t.Parallel()
	docs := []string{
		"", "null", "[]", "42", "{", `{"a":1} trailing`, "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00", "\x00\x01", "\xff\xfe\xfd", strings.Repeat("[", 20000),
	}
	srv := startRedis(t)
	s, led := newTestStream(t, srv.addr, nil)
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", docs...)
	for i, want := range docs {
		d := receive(t, s, 5*time.Second)
		if string(d.Alert.Raw) != want {
			t.Errorf("document %d arrives as %.40q, want %.40q", i, d.Alert.Raw, want)
		}
		settle(t, d, fmt.Errorf("document %d: %w", i, bridge.ErrBadAlert))
	}
	letters, err := NewDeadLetters(Options{Addresses: []string{srv.addr}}, "alerts:dead", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = letters.Close() }()
	var list []DeadLetter
	eventually(t, 5*time.Second, "all dead letters are there", func() bool {
		list, err = letters.List(context.Background(), "", 100)
		return err == nil && len(list) == len(docs)
	})
	for i, l := range list {
		if string(l.Document) != docs[i] {
			t.Errorf("dead letter %d holds %.40q, want %.40q", i, l.Document, docs[i])
		}
		if l.Source != "bus" || l.Stream != "alerts" || l.Attempts != 1 || l.First.IsZero() || l.Last.Before(l.First) || !strings.Contains(l.Error, "bad alert") {
			t.Errorf("dead letter %d is %+v", i, l)
		}
	}
	eventually(t, 5*time.Second, "all are acknowledged and noted", func() bool {
		return srv.pending(t, "alerts", "edr-bridge") == 0 && led.count(bridge.NoteDeadLetter) == int64(len(docs))
	})
	// And back again.
	if err := letters.Retry(context.Background(), list[1].ID); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, s, 5*time.Second); string(d.Alert.Raw) != "null" {
		t.Errorf("retried document is %q", d.Alert.Raw)
	}
	if err := letters.Drop(context.Background(), list[1].ID); !errors.Is(err, ErrNoLetter) {
		t.Errorf("dropping a dead letter that was retried: %v", err)
	}
	if err := letters.Drop(context.Background(), list[0].ID); err != nil {
		t.Errorf("drop: %v", err)
	}
	if got := srv.do(t, "XLEN", "alerts:dead").(int64); got != int64(len(docs)-2) {
		t.Errorf("%d dead letters left, want %d", got, len(docs)-2)
	}
}

func TestF34ClosingAcknowledgesWhatWasSettledAndLeavesTheRestPending(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, srv.addr, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	awaitReady(t, s)
	for i := range 50 {
		srv.add(t, "alerts", fmt.Sprint(i))
	}
	var flight []bridge.Delivery
	for range 50 {
		flight = append(flight, receive(t, s, 5*time.Second))
	}
	begin := time.Now()
	cancel() // SIGTERM
	wg.Wait()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("run took %s to end", took)
	}
	if _, err := s.Receive(context.Background()); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("receive after run ended answers %v, want ErrClosed", err)
	}
	for _, d := range flight[:30] { // these still commit
		settle(t, d, nil)
	}
	drain, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := s.Close(drain); err != nil {
		t.Fatal(err)
	}
	if got := srv.pending(t, "alerts", "edr-bridge"); got != 20 {
		t.Errorf("%d entries pending after the end, want 20", got)
	}
	if err := flight[40].Settle(context.Background(), nil); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("settle after close answers %v, want ErrClosed", err)
	}
	next, _ := newTestStream(t, srv.addr, nil)
	run(t, next)
	for i := 30; i < 50; i++ {
		d := receive(t, next, 5*time.Second)
		if string(d.Alert.Raw) != fmt.Sprint(i) {
			t.Errorf("after the restart came %q, want %d", d.Alert.Raw, i)
		}
		settle(t, d, nil)
	}
}

func TestDeadLetterTellsWhereItCameFromAndHowOftenItWasTried(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, srv.addr, nil)
	run(t, s)
	awaitReady(t, s)
	ids := srv.add(t, "alerts", "{")
	settle(t, receive(t, s, 5*time.Second), errors.New("the store is full"))
	settle(t, receive(t, s, 5*time.Second), bridge.ErrBadAlert)
	eventually(t, 5*time.Second, "the dead letter is there", func() bool { return srv.do(t, "XLEN", "alerts:dead").(int64) == 1 })
	list, err := srv.c.XRange(context.Background(), "alerts:dead", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	v := list[0].Values
	for field, want := range map[string]string{
		"source": "bus", "stream": "alerts", "id": ids[0], "document": base64.StdEncoding.EncodeToString([]byte("{")),
		"error": "bad alert", "attempts": "2",
	} {
		if v[field] != want {
			t.Errorf("field %s is %q, want %q", field, v[field], want)
		}
	}
}
