package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkIngressUnderAttack sends 2,000 signed requests a second on 16 connections while 500 connections drip headers and 16 others send
// 1,000 bad signatures a second, all from one address. It reports how late answers come, from when the request was due.
func BenchmarkIngressUnderAttack(b *testing.B) {
	bench := openIngress(b, func(cfg *IngressConfig) { cfg.Sources, cfg.Now = []IngressSource{signedSource()}, nil },
		func(in *Ingress) { in.failing.delay = failingDelay })
	bench.settling(b, acceptAll)
	stop := make(chan struct{})
	var attackers sync.WaitGroup
	defer attackers.Wait()
	defer close(stop)
	for range 500 {
		attackers.Go(func() { drip(bench.addr, stop) })
	}
	bad := plainRequest(bench, "/signed", "{}", signature("x"+testKey, "k1", "POST", "/signed", time.Now(), "nonce-of-the-bad", "{}")...)
	for range 16 {
		attackers.Go(func() { repeat(bench.addr, bad, 16*time.Millisecond, stop) })
	}
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	begin := time.Now()
	var senders sync.WaitGroup
	for s := range 16 {
		senders.Go(func() {
			conn, err := net.Dial("tcp", bench.addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for n := s; n < b.N; n += 16 {
				due := begin.Add(time.Duration(n) * time.Second / 2000)
				<-time.After(time.Until(due))
				body := benchDocument(n)
				_, _ = io.WriteString(conn, plainRequest(bench, "/signed", body,
					signature(testKey, "k1", "POST", "/signed", time.Now(), fmt.Sprintf("nonce-%012d", n), body)...))
				resp, err := http.ReadResponse(in, nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Errorf("a good request: %v, %v", resp, err)
					return
				}
				_, _ = in.Discard(int(resp.ContentLength))
				took[n] = time.Since(due)
			}
		})
	}
	senders.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(bench.meter.of(RefusedAuth))/b.Elapsed().Seconds(), "bad/s")
	b.ReportMetric(float64(bench.meter.of(RefusedConn)), "evicted")
}

// drip keeps one connection open with a header that never ends.
func drip(addr string, stop <-chan struct{}) {
	for {
		conn, err := net.Dial("tcp", addr)
		for err == nil {
			_, err = io.WriteString(conn, "P")
			select {
			case <-stop:
				_ = conn.Close()
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
		if conn != nil {
			_ = conn.Close()
		}
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// repeat sends one request again and again, on a fresh connection where the former was closed.
func repeat(addr, request string, pause time.Duration, stop <-chan struct{}) {
	for {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		in := bufio.NewReader(conn)
		for err == nil {
			_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
			_, _ = io.WriteString(conn, request)
			var resp *http.Response
			if resp, err = http.ReadResponse(in, nil); err == nil {
				_, _ = in.Discard(int(resp.ContentLength))
			}
			select {
			case <-stop:
				_ = conn.Close()
				return
			case <-time.After(pause):
			}
		}
		_ = conn.Close()
	}
}
