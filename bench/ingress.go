package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	ingressFlight = 16
	ingressAlerts = 60_000
	ingressBatch  = 25 // alerts of one request, as KUMA's destination gathers them within its flush time
	ingressKey    = "a key of the benchmark, 32 bytes"

	signedRate    = 2_000 // requests a second
	forgedRate    = 1_000
	slowConns     = 500
	signedSeconds = 15

	ingressRule = "  - name: all\n    mode: shadow\n    match: {level: HIGH}\n    do:\n      - {task: terminateProcess, params: {path: \"${process.path}\", md5hash: \"\", sha256hash: \"\", caseSensitive: false}}\n"
)

// startIngress starts a bridge with an HTTP source and returns its address.
func (s *stage) startIngress(ctx context.Context, name string) (*contender, string, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, "", err
	}
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Join(dir, "credentials"), 0o700); err != nil {
		return nil, "", err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for file, data := range map[string]string{
		"edr-bridge.yaml": fmt.Sprintf("version: 1\nmode: shadow\nhttp: {listen: %q, max_conns: 1024}\nsources:\n"+
			"  one: {type: webhook, preset: generic, auth: {hmac: {keys: {k1: \"secret:hooks/k1\"}}}}\n"+
			"  many: {type: kuma-http, preset: generic, auth: {hmac: {keys: {k1: \"secret:hooks/k1\"}}}}\n"+
			"local: {enabled: true, dry_run: true, state: state}\nrules: [rules.yaml]\nlog: {level: warn}\n", addr),
		"rules.yaml":           "rules:\n" + ingressRule,
		"credentials/hooks-k1": ingressKey,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
			return nil, "", err
		}
	}
	c, err := s.start(ctx, dir, "", s.bridge, "run", "-c", filepath.Join(dir, "edr-bridge.yaml"))
	if err != nil {
		return nil, "", err
	}
	for range 200 {
		p, err := newPoster(ctx, addr)
		if err == nil {
			return c, addr, p.conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, "", errors.Join(errors.New("the port did not open: "+c.output()), c.stop())
}

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// poster is one connection that posts signed bodies; it costs less than net/http's client, whose CPU would count against the bridge.
type poster struct {
	conn net.Conn
	r    *bufio.Reader
	host string
}

func newPoster(ctx context.Context, addr string) (*poster, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &poster{conn: conn, r: bufio.NewReader(conn), host: addr}, nil
}

// write sends a signed request.
func (p *poster) write(path string, body []byte, nonce, key string) error {
	now := fmt.Sprint(time.Now().Unix())
	sum := sha256.Sum256(body)
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = fmt.Fprintf(mac, "v1\nPOST\n%s\n%s\n%s\n%s", path, now, nonce, hex.EncodeToString(sum[:]))
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-EDR-Key: k1\r\nX-EDR-Timestamp: %s\r\n"+
		"X-EDR-Nonce: %s\r\nX-EDR-Signature: v1=%s\r\n\r\n", path, p.host, len(body), now, nonce, hex.EncodeToString(mac.Sum(nil)))
	b.Write(body)
	if err := p.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	_, err := io.WriteString(p.conn, b.String())
	return err
}

// post sends a signed request and returns the status of its answer.
func (p *poster) post(path string, body []byte, nonce, key string) (int, error) {
	if err := p.write(path, body, nonce, key); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// flood posts n alerts, some a request, from ingressFlight connections and returns alerts a second.
func flood(ctx context.Context, addr, path string, from, n, batch int) (float64, error) {
	var next atomic.Int64
	errs := make([]error, ingressFlight)
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range ingressFlight {
		wg.Go(func() {
			p, err := newPoster(ctx, addr)
			if err != nil {
				errs[w] = err
				return
			}
			defer func() { _ = p.conn.Close() }()
			for {
				i := int(next.Add(int64(batch))) - batch
				if i >= n {
					return
				}
				var body []byte
				for j := range batch {
					body = append(append(body, streamAlert(from+i+j)...), '\n')
				}
				status, err := p.post(path, body, fmt.Sprintf("nonce-%s-%016d", path[1:], from+i), ingressKey)
				if err != nil || status != http.StatusOK {
					errs[w] = fmt.Errorf("alert %d: status %d: %w", i, status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(begin).Seconds(), errors.Join(errs...)
}

// measureIngress posts alerts as fast as they are taken.
func (s *stage) measureIngress(ctx context.Context) ([]row, error) {
	var rows []row
	for _, m := range []struct {
		name, path string
		batch      int
	}{
		{"HTTP ingress, durable, signed, 16 in flight, an alert a request", "/one", 1},
		{fmt.Sprintf("the same, %d alerts a request (kuma-http)", ingressBatch), "/many", ingressBatch},
	} {
		c, addr, err := s.startIngress(ctx, "ingress"+strings.ReplaceAll(m.path, "/", "-"))
		if err != nil {
			return nil, err
		}
		var rate sample
		for i := range 3 {
			r, err := flood(ctx, addr, m.path, i*ingressAlerts, ingressAlerts, m.batch)
			if err != nil {
				return nil, errors.Join(err, c.stop(), errors.New(c.output()))
			}
			rate = append(rate, r)
		}
		rss := c.peakRSS()
		if err := c.stop(); err != nil {
			return nil, err
		}
		cpu := float64((c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()).Microseconds()) / (3 * ingressAlerts)
		rows = append(rows, row{
			name: m.name, ours: rate, unit: "alerts/s", target: "≥ 10,000/s", higher: true,
			note: fmt.Sprintf("%.0f µs CPU an alert, peak RSS %.0f MiB; the sender runs on the same cores", cpu, rss),
		})
	}
	return rows, nil
}

// measureSiege takes how long good requests wait while others do their worst.
func (s *stage) measureSiege(ctx context.Context) ([]row, error) {
	c, addr, err := s.startIngress(ctx, "siege")
	if err != nil {
		return nil, err
	}
	siege, lift := context.WithCancel(ctx)
	var besiegers sync.WaitGroup
	for i := range slowConns {
		besiegers.Go(func() { drip(siege, addr, i) })
	}
	var forged atomic.Int64
	for i := range 8 {
		besiegers.Go(func() { forge(siege, addr, i, &forged) })
	}
	time.Sleep(2 * time.Second)
	waits, err := signedLoad(ctx, addr)
	lift()
	besiegers.Wait()
	if serr := c.stop(); err == nil {
		err = serr
	}
	if err != nil {
		return nil, errors.Join(err, errors.New(c.output()))
	}
	return []row{{
		name: fmt.Sprintf("signed requests, %d/s, 99th percentile", signedRate), ours: sample{waits.at(0.99)}, unit: "ms", target: "≤ 50 ms",
		note: fmt.Sprintf("beside %d slow-loris connections and %.0f forged signatures/s; median %.2f ms", slowConns,
			float64(forged.Load())/(signedSeconds+2), waits.median()),
	}}, nil
}

// drip keeps a connection that never finishes its header, and comes again when it is closed.
func drip(ctx context.Context, addr string, i int) {
	for ctx.Err() == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return
		}
		_, err = fmt.Fprintf(conn, "POST /one HTTP/1.1\r\nHost: %s\r\n", addr)
		for err == nil && ctx.Err() == nil {
			time.Sleep(time.Second)
			_, err = fmt.Fprintf(conn, "X-%d: %d\r\n", i, time.Now().UnixNano())
		}
		_ = conn.Close()
	}
}

// forge posts an eighth of the bad signatures. It does not wait for answers: the bridge holds them back from a peer that keeps failing.
func forge(ctx context.Context, addr string, i int, sent *atomic.Int64) {
	tick := time.NewTicker(8 * time.Second / forgedRate)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		<-tick.C
		p, err := newPoster(ctx, addr)
		if err != nil {
			continue
		}
		if p.write("/one", streamAlert(n), fmt.Sprintf("forged-%d-%016d", i, n), "another key, as long as it must be") == nil {
			sent.Add(1)
		}
		_ = p.conn.Close()
	}
}

// signedLoad posts good requests at a steady rate and returns how long each waited, counted from when it was due.
func signedLoad(ctx context.Context, addr string) (sample, error) {
	const senders = 32
	results := make([]sample, senders)
	errs := make([]error, senders)
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range senders {
		wg.Go(func() {
			p, err := newPoster(ctx, addr)
			if err != nil {
				errs[w] = err
				return
			}
			defer func() { _ = p.conn.Close() }()
			for i := w; i < signedRate*signedSeconds; i += senders {
				due := begin.Add(time.Duration(i) * time.Second / signedRate)
				time.Sleep(time.Until(due))
				status, err := p.post("/one", streamAlert(10_000_000+i), fmt.Sprintf("signed-%016d", i), ingressKey)
				if err != nil || status != http.StatusOK {
					errs[w] = fmt.Errorf("good request %d: status %d: %w", i, status, err)
					return
				}
				results[w].add(time.Since(due))
			}
		})
	}
	wg.Wait()
	var all sample
	for _, r := range results {
		all = append(all, r...)
	}
	return all, errors.Join(errs...)
}
