package redisbus

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	srv := startRedis(t)
	s, led := newTestStream(t, srv.addr, nil)
	run(t, s)
	awaitReady(t, s)
	for i := range 300 {
		srv.add(t, "alerts", fmt.Sprintf("doc %d", i))
	}
	for i := range 300 {
		d := receive(t, s, 5*time.Second)
		if got := string(d.Alert.Raw); got != fmt.Sprintf("doc %d", i) {
			t.Fatalf("got %q at %d", got, i)
		}
		settle(t, d, nil)
	}
	eventually(t, 3*time.Second, "all acked", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 0 })
	p, _ := newTestPubSub(t, srv.addr, nil)
	run(t, p)
	awaitReady(t, p)
	srv.c.Publish(context.Background(), "high_severity_alerts", "hello")
	if d := receive(t, p, time.Second); string(d.Alert.Raw) != "hello" {
		t.Fatal("no")
	}
	t.Log(led.text(), s.Stats(), s.Err())
}
