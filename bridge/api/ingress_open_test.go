package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// ingressBench is an ingress that serves, with a client for it.
type ingressBench struct {
	*Ingress
	addr   string
	client *http.Client
	clock  *testClock
	meter  *ingressCounts
	logs   *lockedBuffer
	// end stops Serve and waits for it.
	end func() error
}

// testClock runs with the real one and can be moved.
type testClock struct{ off atomic.Int64 }

func (c *testClock) now() time.Time          { return time.Now().Add(time.Duration(c.off.Load())) }
func (c *testClock) advance(d time.Duration) { c.off.Add(int64(d)) }

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type ingressCounts struct {
	mu       sync.Mutex
	accepted map[string]int
	refused  map[IngressReason]int
}

func (c *ingressCounts) Accepted(source string, documents int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted[source] += documents
}

func (c *ingressCounts) Refused(_ string, reason IngressReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[reason]++
}

func (c *ingressCounts) of(reason IngressReason) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused[reason]
}

func (c *ingressCounts) taken(source string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.accepted[source]
}

const testKey = "0123456789abcdef0123456789abcdef"

func fixed(secret string) Secret {
	return func(context.Context) ([]byte, error) { return []byte(secret), nil }
}

// hookAndKUMA are two sources without authentication.
func hookAndKUMA() []IngressSource {
	return []IngressSource{
		{Name: "hook", Preset: "generic", Path: "/webhook/hook", Kind: IngressWebhook},
		{Name: "siem", Preset: "kuma", Path: "/kuma", Kind: IngressKUMA, Encodings: []string{"snappy", "gzip"}},
	}
}

func signedSource() IngressSource {
	return IngressSource{
		Name: "signed", Preset: "generic", Path: "/signed", Kind: IngressWebhook,
		Auth: Auth{HMAC: &HMACAuth{Keys: []AuthKey{{ID: "k1", Secret: fixed(testKey)}}}},
	}
}

// openIngress serves until the end of the test. Nobody receives.
func openIngress(t testing.TB, change func(*IngressConfig), prepare ...func(*Ingress)) *ingressBench {
	t.Helper()
	b := &ingressBench{
		clock: &testClock{}, logs: &lockedBuffer{},
		meter: &ingressCounts{accepted: map[string]int{}, refused: map[IngressReason]int{}},
	}
	cfg := IngressConfig{
		Listen: "127.0.0.1:0", Sources: hookAndKUMA(), Meter: b.meter, Now: b.clock.now,
		Logger: slog.New(slog.NewTextHandler(b.logs, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	in, err := NewIngress(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Ingress = in
	in.failing.delay = time.Millisecond
	for _, p := range prepare {
		p(in)
	}
	b.serve(t)
	return b
}

func (b *ingressBench) serve(t testing.TB) {
	t.Helper()
	addr, err := b.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.addr = addr.String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- b.Serve(ctx) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	b.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	b.end = sync.OnceValue(func() error {
		cancel()
		defer transport.CloseIdleConnections()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("the ingress did not end")
		}
	})
	t.Cleanup(func() {
		if err := b.end(); err != nil {
			t.Error(err)
		}
	})
}

// phases is how many connections are at a phase.
func (b *ingressBench) phases(phase connPhase) (n int) {
	b.conns.mu.Lock()
	defer b.conns.mu.Unlock()
	for c := range b.conns.conns {
		if p, _ := c.rank(); p == phase {
			n++
		}
	}
	return n
}

func (b *ingressBench) door(name string) *Door {
	for _, d := range b.Doors() {
		if d.Name() == name {
			return d
		}
	}
	return nil
}

// settling receives from every door and settles as decide says until the test ends.
func (b *ingressBench) settling(t testing.TB, decide func(bridge.Alert) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	for _, d := range b.Doors() {
		wg.Go(func() {
			for {
				delivery, err := d.Receive(ctx)
				if err != nil {
					return
				}
				wg.Go(func() { _ = delivery.Settle(ctx, decide(delivery.Alert)) })
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// jsonMapper settles as a preset would: strict JSON or a dead letter.
func jsonMapper(a bridge.Alert) error {
	if err := bridge.CheckJSON(a.Raw); err != nil {
		return fmt.Errorf("%w: preset generic: %w", bridge.ErrBadAlert, err)
	}
	return nil
}

func acceptAll(bridge.Alert) error { return nil }

// reply is an answer as a test looks at it.
type ingressReply struct {
	status int
	header http.Header
	body   string
}

func (b *ingressBench) request(t testing.TB, method, path, body string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+b.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if b.tls != nil {
		r.URL.Scheme = "https"
	}
	for n := 0; n+1 < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	return r
}

func (b *ingressBench) do(t testing.TB, r *http.Request) ingressReply {
	t.Helper()
	answer, err := b.send(r)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (b *ingressBench) send(r *http.Request) (ingressReply, error) {
	resp, err := b.client.Do(r)
	if err != nil {
		return ingressReply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return ingressReply{resp.StatusCode, resp.Header, string(body)}, err
}

func (b *ingressBench) post(t testing.TB, path, body string, header ...string) ingressReply {
	t.Helper()
	return b.do(t, b.request(t, http.MethodPost, path, body, header...))
}

// signature makes the headers of a signed request, written from the documentation and not with the code under test.
func signature(key, id, method, target string, at time.Time, nonce, body string) []string {
	sum := sha256.Sum256([]byte(body))
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "v1\n%s\n%s\n%s\n%s\n%s", method, target, stamp, nonce, hex.EncodeToString(sum[:]))
	out := []string{"X-EDR-Timestamp", stamp, "X-EDR-Nonce", nonce, "X-EDR-Signature", "v1=" + hex.EncodeToString(mac.Sum(nil))}
	if id != "" {
		out = append(out, "X-EDR-Key", id)
	}
	return out
}

// raw writes bytes to a fresh connection and returns it.
func (b *ingressBench) raw(t testing.TB, text string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// answerOn reads one answer from a connection.
func answerOn(t testing.TB, conn net.Conn) (int, string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func problemOf(t testing.TB, body string) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%q is no problem: %v", body, err)
	}
	return p
}

func awaitTrue(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-tick.C
	}
}

func closeWrite(t testing.TB, conn net.Conn) {
	t.Helper()
	if c, ok := conn.(*net.TCPConn); ok {
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
}
