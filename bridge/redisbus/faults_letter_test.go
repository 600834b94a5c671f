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

	"github.com/edr-bridge/edr-bridge/bridge"
)

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
		list, err = letters.List(t.Context(), "", 100)
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
	if err := letters.Retry(t.Context(), list[1].ID); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, s, 5*time.Second); string(d.Alert.Raw) != "null" {
		t.Errorf("retried document is %q", d.Alert.Raw)
	}
	if err := letters.Drop(t.Context(), list[1].ID); !errors.Is(err, ErrNoLetter) {
		t.Errorf("dropping a dead letter that was retried: %v", err)
	}
	if err := letters.Drop(t.Context(), list[0].ID); err != nil {
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
	ctx, cancel := context.WithCancel(t.Context())
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
	if _, err := s.Receive(t.Context()); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("receive after run ended answers %v, want ErrClosed", err)
	}
	for _, d := range flight[:30] { // these still commit
		settle(t, d, nil)
	}
	drain, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if err := s.Close(drain); err != nil {
		t.Fatal(err)
	}
	if got := srv.pending(t, "alerts", "edr-bridge"); got != 20 {
		t.Errorf("%d entries pending after the end, want 20", got)
	}
	if err := flight[40].Settle(t.Context(), nil); !errors.Is(err, bridge.ErrClosed) {
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
	list, err := srv.c.XRange(t.Context(), "alerts:dead", "-", "+").Result()
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
