package redisbus

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

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
	if err := dead.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	heirs := []*Stream{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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
	slow, led := newTestStream(t, srv.addr, func(c *StreamConfig) { c.Consumer, c.ClaimAfter = "slow", 800*time.Millisecond })
	run(t, slow)
	awaitReady(t, slow)
	srv.add(t, "alerts", "delivered", "queued")
	d := receive(t, slow, 5*time.Second)
	other, _ := newTestStream(t, srv.addr, func(c *StreamConfig) { c.Consumer, c.ClaimAfter = "other", 800*time.Millisecond })
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
	ids := srv.add(t, "alerts", "1", "2", "3")
	settle(t, receive(t, s, 5*time.Second), nil)
	eventually(t, 5*time.Second, "entries 2 and 3 are read ahead", func() bool {
		list := srv.do(t, "XPENDING", "alerts", "edr-bridge", ids[1], ids[2], "10", "one").([]any)
		return len(list) == 2
	})
	srv.do(t, "XCLAIM", "alerts", "edr-bridge", "thief", "0", ids[1])
	mu.Lock()
	skipped = 40 * time.Second
	mu.Unlock()
	// Entry 3 has been idle for no time by the server's clock, so that XCLAIM's idle bound would refuse it.
	srv.do(t, "XCLAIM", "alerts", "edr-bridge", "one", "0", ids[2], "IDLE", "40000")
	d := receive(t, s, 5*time.Second)
	if string(d.Alert.Raw) != "3" {
		t.Errorf("received %q, want 3: entry 2 belongs to another consumer", d.Alert.Raw)
	}
	settle(t, d, nil)
	eventually(t, 3*time.Second, "the theft is noted", func() bool { return led.count(NoteForeignAck) == 1 })
}
