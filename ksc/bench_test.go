package ksc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
)

// instantServer is the least server there is: what it costs is the same for both contenders.
func instantServer(b *testing.B) *httptest.Server {
	b.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer := `{"PxgRetVal": 17}`
		if strings.HasSuffix(r.URL.Path, "StartSession") {
			answer = `{"PxgRetVal": "nsPbUpP1oAVZlM1lODEbg8A=="}`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
	s.StartTLS()
	b.Cleanup(s.Close)
	return s
}

// BenchmarkAddIncident compares the client with the least net/http program that posts the same bytes.
func BenchmarkAddIncident(b *testing.B) {
	in := ksc.NewIncident{Severity: 2, Added: ksc.DateTime{Time: start}, Body: benchBody, Host: hostA}
	contenders := []struct {
		name string
		open func(b *testing.B, s *httptest.Server, inFlight int) func(context.Context) error
	}{
		{"bare", func(b *testing.B, s *httptest.Server, inFlight int) func(context.Context) error {
			pool := x509.NewCertPool()
			pool.AddCert(s.Certificate())
			transport := &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: inFlight, MaxConnsPerHost: inFlight,
			}
			b.Cleanup(transport.CloseIdleConnections)
			client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
			body, url := ksc.Preview(benchIntent), s.URL+"/api/v1.0/HostGroup.AddIncident"
			return func(ctx context.Context) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
				if err != nil {
					return err
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("X-KSC-Session", "nsPbUpP1oAVZlM1lODEbg8A==")
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				return err
			}
		}},
		{"client", func(b *testing.B, s *httptest.Server, inFlight int) func(context.Context) error {
			cfg := clientConfig(s.Listener.Addr().String())
			cfg.CA, cfg.InFlight, cfg.Timeout, cfg.Logger = s.Certificate().Raw, inFlight, 30*time.Second, slog.New(slog.DiscardHandler)
			c := openClient(b, cfg)
			return func(ctx context.Context) error {
				_, err := c.AddIncident(ctx, in)
				return err
			}
		}},
	}
	for _, inFlight := range []int{1, 16} {
		for _, c := range contenders {
			name := c.name + "/inflight=1"
			if inFlight > 1 {
				name = c.name + "/inflight=16"
			}
			b.Run(name, func(b *testing.B) {
				call := c.open(b, instantServer(b), inFlight)
				if err := call(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				if inFlight == 1 {
					for b.Loop() {
						if err := call(b.Context()); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				var failed atomic.Int64
				b.SetParallelism(inFlight / 2) // times GOMAXPROCS
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := call(context.Background()); err != nil {
							failed.Add(1)
						}
					}
				})
				if failed.Load() > 0 {
					b.Fatal(failed.Load(), "calls failed")
				}
			})
		}
	}
}

const benchBody = `{"targetHost":"` + hostA + `","task":"terminateProcess","params":{"md5hash":"","sha256hash":"` + sha256Hash +
	`","path":"C:\\Users\\Public\\a.exe","caseSensitive":false},"responseEventIncident":true,"responseEventIncidentArea":"Kuma"}`

var benchIntent = bridge.Intent{Target: hostA, Second: start, Body: benchBody}
