package redisbus

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func newTestPublisher(t testing.TB, addr string) *Publisher {
	t.Helper()
	p, err := NewPublisher(PublisherConfig{Options: Options{Addresses: []string{addr}, ReadTimeout: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestF9LostAddAnswerLeavesOneEntry(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	p := newTestPublisher(t, px.addr())
	ctx := t.Context()
	if _, err := p.Add(ctx, "alerts", []byte("{}"), "a-0"); err != nil {
		t.Fatal(err)
	}
	px.loseAnswer("xadd")
	id, err := p.Add(ctx, "alerts", []byte(`{"id":"a-1"}`), "a-1")
	if err != nil {
		t.Fatal(err)
	}
	if !px.answerLost() {
		t.Fatal("no answer was lost")
	}
	list, err := srv.c.XRange(ctx, "alerts", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[1].ID != id || list[1].Values["alert"] != `{"id":"a-1"}` || list[1].Values[FieldAlertID] != "a-1" {
		t.Errorf("stream holds %v, want a-0 and one a-1 under %s", list, id)
	}
}

func TestF9LostAddRequestIsSentAgain(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	p := newTestPublisher(t, px.addr())
	ctx := t.Context()
	if _, err := p.Add(ctx, "alerts", []byte("{}"), "a-0"); err != nil {
		t.Fatal(err)
	}
	px.hole.Store(true)
	free := time.AfterFunc(1500*time.Millisecond, func() { px.hole.Store(false) })
	defer free.Stop()
	if _, err := p.Add(ctx, "alerts", []byte("{}"), "a-1"); err != nil {
		t.Fatal(err)
	}
	if n := srv.do(t, "XLEN", "alerts").(int64); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

func TestAddWithoutAlertIDIsNotRepeatedOnceItMayBeOut(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	p := newTestPublisher(t, px.addr())
	px.loseAnswer("xadd")
	if _, err := p.Add(t.Context(), "alerts", []byte("{}"), ""); err == nil {
		t.Error("an add whose answer was lost has worked")
	}
	if n := srv.do(t, "XLEN", "alerts").(int64); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
}

func TestPublishSaysHowManyGotIt(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	p := newTestPublisher(t, srv.addr)
	ctx := t.Context()
	n, err := p.Publish(ctx, channel, []byte("nobody"))
	if err != nil || n != 0 {
		t.Errorf("published to %d (%v), want 0", n, err)
	}
	sub, _ := newTestPubSub(t, srv.addr, nil)
	run(t, sub)
	awaitReady(t, sub)
	n, err = p.Publish(ctx, channel, []byte("one"))
	if err != nil || n != 1 {
		t.Errorf("published to %d (%v), want 1", n, err)
	}
}

func TestPublishIsNotRepeatedOnceItMayBeOut(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	px := startProxy(t, srv.addr)
	sub, _ := newTestPubSub(t, srv.addr, nil)
	run(t, sub)
	awaitReady(t, sub)
	p := newTestPublisher(t, px.addr())
	px.loseAnswer("publish")
	if _, err := p.Publish(t.Context(), channel, []byte("once")); !errors.Is(err, bridge.ErrNotConnected) {
		t.Errorf("publish whose answer was lost says %v, want ErrNotConnected", err)
	}
	receive(t, sub, 5*time.Second)
	nothing(t, sub, 300*time.Millisecond)
}

func TestPublisherWaitsForAServerThatIsDownAndGivesUp(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	srv.stop()
	p := newTestPublisher(t, srv.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := p.Add(ctx, "alerts", []byte("{}"), "a"); !errors.Is(err, bridge.ErrNotConnected) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("add without a server says %v", err)
	}
	added := make(chan error, 1)
	go func() {
		_, err := p.Add(t.Context(), "alerts", []byte("{}"), "a")
		added <- err
	}()
	srv.start(t)
	if err := <-added; err != nil {
		t.Errorf("add while the server comes back: %v", err)
	}
}

func TestPublisherRefusesHugeDocumentsAndWrongTypes(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	p := newTestPublisher(t, srv.addr)
	huge := []byte(strings.Repeat("x", maxDocument+1))
	if _, err := p.Add(t.Context(), "alerts", huge, "a"); err == nil {
		t.Error("a huge document was added")
	}
	if _, err := p.Publish(t.Context(), channel, huge); err == nil {
		t.Error("a huge document was published")
	}
	srv.do(t, "SET", "alerts", "text")
	began := time.Now()
	if _, err := p.Add(t.Context(), "alerts", []byte("{}"), "a"); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("add to a key of another type says %v", err)
	}
	if time.Since(began) > time.Second {
		t.Error("a final refusal was retried")
	}
}
