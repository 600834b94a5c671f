package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/golang/snappy"
)

// benchDocument is an alert of some 600 bytes.
func benchDocument(n int) string {
	return fmt.Sprintf(`{"ID":"8a3f6d3e-57a8-4f6b-9a9c-%012d","Type":3,"Timestamp":1732104000123,"Name":"Suspicious process started by office application",`+
		`"CorrelationRuleName":"Suspicious process started by office application","Priority":3,"TenantID":"a0996458-8b25-42e9-a673-d800d6169703",`+
		`"BaseEventCount":1,"DeviceHostName":"ws-017.corp.example","DeviceAddress":"10.20.1.44",`+
		`"SourceProcessName":"C:\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE","SourceProcessID":4120,`+
		`"DestinationProcessName":"C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe","DestinationProcessID":7312}`, n)
}

// BenchmarkIngress is 16 connections with one request each in flight over TCP and a settle that costs nothing. The client writes
// prepared bytes, so that nearly all of the processor time is the server's and the kernel's.
func BenchmarkIngress(b *testing.B) {
	for _, c := range []struct {
		name    string
		source  IngressSource
		request func(b *ingressBench, n int) string
	}{
		{"open", hookAndKUMA()[0], func(b *ingressBench, n int) string { return plainRequest(b, "/webhook/hook", benchDocument(n)) }},
		{"signed", signedSource(), func(b *ingressBench, n int) string {
			body := benchDocument(n)
			return plainRequest(b, "/signed", body, signature(testKey, "k1", "POST", "/signed", b.clock.now(), fmt.Sprintf("nonce-%012d", n), body)...)
		}},
		{"batch of 100", hookAndKUMA()[1], func(b *ingressBench, n int) string {
			return plainRequest(b, "/kuma", strings.Repeat(benchDocument(n)+"\n", 100))
		}},
	} {
		b.Run(c.name, func(b *testing.B) { benchIngress(b, c.source, c.request) })
	}
}

func benchIngress(b *testing.B, source IngressSource, request func(*ingressBench, int) string) {
	bench := openIngress(b, func(cfg *IngressConfig) { cfg.Sources, cfg.Now = []IngressSource{source}, nil })
	ctx, cancel := context.WithCancel(b.Context())
	var receivers sync.WaitGroup
	receivers.Go(func() {
		for {
			d, err := bench.Doors()[0].Receive(ctx)
			if err != nil {
				return
			}
			_ = d.Settle(ctx, nil)
		}
	})
	defer receivers.Wait()
	defer cancel()
	requests := make([]string, b.N)
	for n := range requests {
		requests[n] = request(bench, n)
	}
	before := cpuTime()
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			conn, err := net.Dial("tcp", bench.addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if _, err := conn.Write([]byte(requests[n-1])); err != nil {
					b.Error(err)
					return
				}
				resp, err := http.ReadResponse(in, nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Errorf("answer %v, %v", resp, err)
					return
				}
				_, _ = in.Discard(int(resp.ContentLength))
			}
		})
	}
	senders.Wait()
	b.StopTimer()
	if used := cpuTime() - before; used > 0 {
		b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func plainRequest(b *ingressBench, path, body string, header ...string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, b.addr, len(body))
	for n := 0; n < len(header); n += 2 {
		fmt.Fprintf(&out, "%s: %s\r\n", header[n], header[n+1])
	}
	return out.String() + "\r\n" + body
}

func BenchmarkSplitBody(b *testing.B) {
	cef := `CEF:0|KUMA|correlator|4.0|R-102|Suspicious process started by office application|8|rt=1732104000123 dhost=ws-017.corp.example ` +
		`dst=10.20.1.44 fileHash=44d88612fea8a8f36de82e1278abb02f filePath=C:\\Users\\Public\\a b.exe dpid=7312 duser=jdoe`
	var lines, array []string
	for n := range 1000 {
		lines = append(lines, benchDocument(n))
	}
	array = lines
	for _, c := range []struct{ name, body string }{
		{"NDJSON", strings.Join(lines, "\n")},
		{"array", "[" + strings.Join(array, ",") + "]"},
		{"concatenated", strings.Join(lines, "")},
		{"CEF", strings.Repeat(cef+"\n", 2000)},
		{"hostile", strings.Repeat(`{"a":[`+"\n", 9000)},
	} {
		body := []byte(c.body)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := checkText(body); err != nil {
					b.Fatal(err)
				}
				if _, err := splitBody(body, 10_000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnsnap(b *testing.B) {
	text := []byte(strings.Repeat(benchDocument(1)+"\n", 1000))
	for name, body := range map[string][]byte{"block": snappy.Encode(nil, text), "frames": framed(b, text)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if got, err := unsnap(body, 4<<20); err != nil || !bytes.Equal(got[:10], text[:10]) {
					b.Fatal(err)
				}
			}
		})
	}
}
