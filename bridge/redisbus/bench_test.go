package redisbus

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// fill appends n entries of 1 KB.
func (s *server) fill(b *testing.B, n int) {
	b.Helper()
	ctx := b.Context()
	doc := bytes.Repeat([]byte("x"), 1000)
	for n > 0 {
		pipe := s.c.Pipeline()
		for range min(n, 5000) {
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: "alerts", Values: []any{"alert", doc}})
		}
		if _, err := pipe.Exec(ctx); err != nil {
			b.Fatal(err)
		}
		n -= min(n, 5000)
	}
}

// BenchmarkStream is Receive and Settle of 1 KB entries, filled in beforehand; compare with BenchmarkBareStream.
func BenchmarkStream(b *testing.B) {
	srv := startRedis(b)
	s, _ := newTestStream(b, srv.addr, nil)
	srv.fill(b, b.N)
	ctx := b.Context()
	b.ReportAllocs()
	b.ResetTimer()
	run(b, s)
	for range b.N {
		d, err := s.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Settle(ctx, nil); err != nil {
			b.Fatal(err)
		}
	}
	eventually(b, 30*time.Second, "all acknowledged", func() bool { return s.Stats().InHand == 0 })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkBareStream is the least program that does the same calls: XREADGROUP COUNT 128 and one XACK a batch.
func BenchmarkBareStream(b *testing.B) {
	srv := startRedis(b)
	srv.fill(b, b.N)
	ctx := b.Context()
	c := redis.NewClient(&redis.Options{Addr: srv.addr, Protocol: 2})
	defer func() { _ = c.Close() }()
	if err := c.XGroupCreateMkStream(ctx, "alerts", "bare", "0").Err(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		reply, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "bare", Consumer: "one", Streams: []string{"alerts", ">"}, Count: 128, Block: time.Second}).Result()
		if err != nil {
			b.Fatal(err)
		}
		ids := make([]string, 0, 128)
		for _, m := range reply[0].Messages {
			if len(m.Values["alert"].(string)) != 1000 {
				b.Fatal("short document")
			}
			ids = append(ids, m.ID)
		}
		if err := c.XAck(ctx, "alerts", "bare", ids...).Err(); err != nil {
			b.Fatal(err)
		}
		n += len(ids)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkPubSubLatency is the time from PUBLISH until Receive returns; compare with BenchmarkBarePubSubLatency.
func BenchmarkPubSubLatency(b *testing.B) {
	srv := startRedis(b)
	p, _ := newTestPubSub(b, srv.addr, nil)
	run(b, p)
	<-p.Ready()
	ctx := b.Context()
	latency(b, srv, func() error {
		_, err := p.Receive(ctx)
		return err
	})
}

// BenchmarkBarePubSubLatency is the same with nothing but the client's own receive call.
func BenchmarkBarePubSubLatency(b *testing.B) {
	srv := startRedis(b)
	ctx := b.Context()
	c := redis.NewClient(&redis.Options{Addr: srv.addr, Protocol: 2})
	defer func() { _ = c.Close() }()
	ps := c.Subscribe(ctx, channel)
	defer func() { _ = ps.Close() }()
	if _, err := ps.Receive(ctx); err != nil {
		b.Fatal(err)
	}
	latency(b, srv, func() error {
		_, err := ps.ReceiveMessage(ctx)
		return err
	})
}

func latency(b *testing.B, srv *server, receive func() error) {
	b.Helper()
	ctx := b.Context()
	doc := bytes.Repeat([]byte("x"), 1000)
	times := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		begin := time.Now()
		if err := srv.c.Publish(ctx, channel, doc).Err(); err != nil {
			b.Fatal(err)
		}
		if err := receive(); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
	}
	b.StopTimer()
	report(b, times)
}

func report(b *testing.B, times []time.Duration) {
	b.Helper()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1000, "p99-µs")
}

// BenchmarkStreamLatency is the time from XADD until Receive returns on an idle stream.
func BenchmarkStreamLatency(b *testing.B) {
	srv := startRedis(b)
	s, _ := newTestStream(b, srv.addr, nil)
	run(b, s)
	<-s.Ready()
	ctx := b.Context()
	times := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		begin := time.Now()
		if err := srv.c.XAdd(ctx, &redis.XAddArgs{Stream: "alerts", Values: []any{"alert", "{}"}}).Err(); err != nil {
			b.Fatal(err)
		}
		d, err := s.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
		if err := d.Settle(ctx, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	report(b, times)
}
