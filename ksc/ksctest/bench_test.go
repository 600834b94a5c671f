package ksctest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkAddAndUpdate sends AddIncident and UpdateIncident in turn, 16 in flight over TLS keep-alive,
// with a bare net/http client on the same machine. Budget: 30,000 requests a second.
func BenchmarkAddAndUpdate(b *testing.B) {
	for name, background := range map[string]bool{"store": false, "store and make tasks": true} {
		b.Run(name, func(b *testing.B) { benchAddAndUpdate(b, background) })
	}
}

func benchAddAndUpdate(b *testing.B, background bool) {
	cfg := testConfig()
	cfg.KeepIncidents, cfg.BackgroundConnection = 200_000, background
	s := startServer(b, cfg)
	c := newSession(b, s)
	const inFlight = 16
	addURL, updateURL := s.URL()+"/api/v1.0/HostGroup.AddIncident", s.URL()+"/api/v1.0/HostGroup.UpdateIncident"
	header := http.Header{"Content-Type": {"application/json"}, "X-Ksc-Session": {c.session}}
	post := func(url, body string) (string, error) {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return "", err
		}
		req.Header = header
		res, err := c.http.Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		var room [256]byte
		n, err := io.ReadFull(res.Body, room[:])
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			return "", fmt.Errorf("%d bytes read: %w", n, err)
		}
		return string(room[:n]), nil
	}
	var next atomic.Int64
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	b.ResetTimer()
	var workers sync.WaitGroup
	for range inFlight {
		workers.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				added := start.Add(time.Duration(n) * time.Second).Format(wireTime)
				answer, err := post(addURL, addBody(hostA, added, isolateA))
				if err != nil {
					b.Error(err)
					return
				}
				id := strings.TrimSuffix(strings.TrimPrefix(answer, `{"PxgRetVal":`), "}")
				if _, err := strconv.Atoi(id); err != nil {
					b.Errorf("answer %q", answer)
					return
				}
				if answer, err = post(updateURL, `{"nId":`+id+`,"pData":{"KLINCDT_IS_HANDLED":false,"KLHST_WKS_HOSTNAME":"`+hostA+`"}}`); err != nil || answer != "{}" {
					b.Errorf("answer %q, %v", answer, err)
					return
				}
			}
		})
	}
	workers.Wait()
	b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkPing is the least request: what TLS, HTTP and the session check cost without a method.
func BenchmarkPing(b *testing.B) {
	s := startServer(b, testConfig())
	c := newSession(b, s)
	header := http.Header{"Content-Type": {"application/json"}, "X-Ksc-Session": {c.session}}
	var next atomic.Int64
	b.ResetTimer()
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.URL()+"/api/v1.0/Session.Ping", strings.NewReader("{}"))
				if err != nil {
					b.Error(err)
					return
				}
				req.Header = header
				res, err := c.http.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
	workers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkFindAmong100k searches by host and second, as a client does that must know whether an incident
// arrived. Budget: 1 ms.
func BenchmarkFindAmong100k(b *testing.B) {
	s := full(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		f, err := parseFilter(`(&(KLHST_WKS_HOSTNAME="`+hostA+`")(KLINCDT_ADDED>T"2026-01-01 12:00:00")(KLINCDT_ADDED<T"2026-01-01 12:00:02"))`, incidentSchema, time.Time{})
		if err != nil {
			b.Fatal(err)
		}
		if rows := s.incidents.search(f); len(rows) != 1 {
			b.Fatalf("%d rows", len(rows))
		}
	}
}

// full returns a server that holds n incidents of one host, one a second from 2026 on.
func full(t testing.TB, n int) *Server {
	t.Helper()
	s, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		s.incidents.add(&Incident{Host: hostA, Added: start.Add(time.Duration(i) * time.Second), Body: isolateA, Severity: 2})
	}
	return s
}
