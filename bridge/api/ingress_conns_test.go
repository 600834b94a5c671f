package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeConn is a connection from an address of choice.
type fakeConn struct {
	net.Conn
	peer   string
	closed bool
	wrote  string
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(c.peer), Port: 1}
}
func (c *fakeConn) Close() error                     { c.closed = true; return nil }
func (c *fakeConn) Write(p []byte) (int, error)      { c.wrote += string(p); return len(p), nil }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

func TestTheWorstConnectionMakesRoom(t *testing.T) {
	t.Parallel()
	type conn struct {
		peer  string
		phase connPhase
	}
	for _, c := range []struct {
		name           string
		limit, perPeer int
		conns          []conn
		next           string
		victim         int // -1 = nobody, -2 = the one that comes
	}{
		{"there is room", 3, 3, []conn{{"192.0.2.1", connBusy}}, "192.0.2.1", -1},
		{"oldest without header", 3, 3, []conn{{"192.0.2.1", connIdle}, {"192.0.2.2", connHeader}, {"192.0.2.3", connHeader}}, "192.0.2.9", 1},
		{"held back first", 3, 3, []conn{{"192.0.2.1", connHeader}, {"192.0.2.2", connIdle}, {"192.0.2.3", connRefused}}, "192.0.2.9", 2},
		{"half a header before none", 3, 3, []conn{{"192.0.2.1", connHeader}, {"192.0.2.2", connIdle}, {"192.0.2.3", connDrip}}, "192.0.2.9", 2},
		{"oldest idle", 3, 3, []conn{{"192.0.2.1", connBusy}, {"192.0.2.2", connIdle}, {"192.0.2.3", connIdle}}, "192.0.2.9", 1},
		{"oldest body", 3, 3, []conn{{"192.0.2.1", connBusy}, {"192.0.2.2", connBody}, {"192.0.2.3", connBody}}, "192.0.2.9", 1},
		{"all busy", 2, 2, []conn{{"192.0.2.1", connBusy}, {"192.0.2.2", connBusy}}, "192.0.2.9", -2},
		{"a peer has its share", 9, 2, []conn{{"192.0.2.9", connHeader}, {"192.0.2.1", connIdle}, {"192.0.2.1", connBody}}, "192.0.2.1", 1},
		{"a peer has its share, all busy", 9, 1, []conn{{"192.0.2.9", connHeader}, {"192.0.2.1", connBusy}}, "192.0.2.1", -2},
		{"a network of IPv6 is a peer", 9, 1, []conn{{"2001:db8::1", connIdle}}, "2001:db8::2", 0},
		{"another network", 9, 1, []conn{{"2001:db8::1", connIdle}}, "2001:db8:0:1::2", -1},
		{"this machine may have all", 3, 1, []conn{{"127.0.0.1", connIdle}, {"127.0.0.1", connIdle}}, "127.0.0.1", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newIngressConns(c.limit, c.perPeer)
			evicted := 0
			s.evicted = func() { evicted++ }
			var conns []*fakeConn
			for _, k := range c.conns {
				f := &fakeConn{peer: k.peer}
				conns = append(conns, f)
				s.admit(f).enter(k.phase)
			}
			got := -1
			if s.admit(&fakeConn{peer: c.next}) == nil {
				got = -2
			}
			for n, f := range conns {
				if f.closed {
					got = n
				}
			}
			if got != c.victim || (evicted == 1) != (c.victim != -1) {
				t.Errorf("victim %d, want %d; %d counted", got, c.victim, evicted)
			}
		})
	}
}

func TestPlacesComeBackWhenConnectionsClose(t *testing.T) {
	t.Parallel()
	s := newIngressConns(2, 2)
	a, b := s.admit(&fakeConn{peer: "192.0.2.1"}), s.admit(&fakeConn{peer: "192.0.2.1"})
	a.enter(connBusy)
	b.enter(connBusy)
	_ = a.Close()
	_ = a.Close()
	if c := s.admit(&fakeConn{peer: "192.0.2.1"}); c == nil {
		t.Error("there is no room although a connection was closed")
	} else {
		_ = c.Close()
	}
	_ = b.Close()
	if len(s.conns) != 0 || len(s.peers) != 0 {
		t.Errorf("%d connections and %d peers are left", len(s.conns), len(s.peers))
	}
}

// scriptedListener answers Accept from a list.
type scriptedListener struct {
	net.Listener
	steps []any
}

func (l *scriptedListener) Accept() (net.Conn, error) {
	step := l.steps[0]
	l.steps = l.steps[1:]
	if err, ok := step.(error); ok {
		return nil, err
	}
	return step.(net.Conn), nil
}

func TestF32TheAcceptLoopSurvivesAndSheds(t *testing.T) {
	t.Parallel()
	full := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	first, refused, last := &fakeConn{peer: "192.0.2.1"}, &fakeConn{peer: "192.0.2.2"}, &fakeConn{peer: "192.0.2.3"}
	l := &ingressListener{
		Listener: &scriptedListener{steps: []any{first, full, refused, last}}, conns: newIngressConns(1, 1), plain: true,
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	rawConn(c).enter(connIdle)
	_, err = l.Accept()
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Temporary() { //nolint:staticcheck // it is what net/http looks at
		t.Errorf("without descriptors: %v, want an error after which the server goes on", err)
	}
	if !first.closed {
		t.Error("no descriptor was freed")
	}
	busy := l.conns.admit(&fakeConn{peer: "192.0.2.8"})
	busy.enter(connBusy)
	l.Listener.(*scriptedListener).steps = []any{refused, errors.New("enough")}
	if _, err := l.Accept(); err == nil {
		t.Error("a connection was taken although all places are busy")
	}
	if !strings.HasPrefix(refused.wrote, "HTTP/1.1 503 ") || !strings.Contains(refused.wrote, "Retry-After: 1\r\n") || !refused.closed {
		t.Errorf("the peer was told %q", refused.wrote)
	}
	_ = busy.Close()
	l.Listener.(*scriptedListener).steps = []any{last}
	if _, err := l.Accept(); err != nil {
		t.Error(err)
	}
}

func TestA2SlowAndIdleConnectionsDoNotHurtOthers(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.Sources = []IngressSource{signedSource()}
		cfg.Limits.Conns = 64
	})
	b.settling(t, acceptAll)
	for range 150 {
		b.raw(t, "POST /signed HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	}
	for range 30 {
		b.raw(t, "")
	}
	for range 30 {
		b.raw(t, "POST /signed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nX-Edr-Timestamp: 1\r\n\r\n{")
	}
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for m := range 20 {
				body := fmt.Sprintf(`{"id":"%d-%d"}`, n, m)
				header := signature(testKey, "k1", "POST", "/signed", b.clock.now(), fmt.Sprintf("nonce-%06d-%06d", n, m), body)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+b.addr+"/signed", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				for k := 0; k < len(header); k += 2 {
					r.Header.Set(header[k], header[k+1])
				}
				if a, err := b.send(r); err != nil || a.status != http.StatusOK {
					t.Errorf("a good request beside them: %d %v", a.status, err)
				}
			}
		})
	}
	wg.Wait()
	b.conns.mu.Lock()
	left := len(b.conns.conns)
	b.conns.mu.Unlock()
	if left > 64 || b.meter.of(RefusedConn) < 100 {
		t.Errorf("%d connections, %d had to go", left, b.meter.of(RefusedConn))
	}
}

func TestA2TimeoutsAndHugeHeadersEndConnections(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.Limits.HeaderTimeout, cfg.Limits.Idle = 100*time.Millisecond, 100*time.Millisecond
		cfg.Limits.Header = 1 << 10
	})
	b.settling(t, acceptAll)
	half := b.raw(t, "POST /webhook/hook HTTP/1.1\r\nHost: loc")
	silent := b.raw(t, "")
	idle := b.raw(t, "POST /webhook/hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
	huge := b.raw(t, "POST /webhook/hook HTTP/1.1\r\nHost: localhost\r\nX-A: "+strings.Repeat("a", 8<<10)+"\r\n\r\n")
	if status, _ := answerOn(t, huge); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a huge header: %d", status)
	}
	for name, conn := range map[string]net.Conn{"half a header": half, "silent": silent, "idle": idle} {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open", name)
		}
	}
}

func TestAPeerThatKeepsFailingIsSlowedAndOthersAreNot(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Sources = []IngressSource{signedSource()} },
		func(in *Ingress) { in.failing.delay = time.Hour })
	b.settling(t, acceptAll)
	for range failingBurst {
		if a := b.post(t, "/signed", "{}"); a.status != http.StatusUnauthorized {
			t.Fatalf("status %d", a.status)
		}
	}
	slowed := b.raw(t, "POST /signed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
	awaitTrue(t, "the refusal is held back", func() bool { return len(b.failing.delayed) == 1 })
	sign := func(nonce, body string) []string {
		return signature(testKey, "k1", "POST", "/signed", b.clock.now(), nonce, body)
	}
	if a := b.post(t, "/signed", "{}", sign("nonce-0000000001", "{}")...); a.status != http.StatusOK {
		t.Errorf("a good request from the same address: %d", a.status)
	}
	large := `{"a":"` + strings.Repeat("x", failingBody) + `"}`
	if a := b.post(t, "/signed", large, sign("nonce-0000000002", large)...); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "1" {
		t.Errorf("a large body from the same address: %d", a.status)
	}
	if err := b.end(); err != nil {
		t.Error(err)
	}
	if status, _ := answerOn(t, slowed); status != http.StatusUnauthorized {
		t.Errorf("the refusal at the end: %d", status)
	}
}

func TestFailingPeersAreForgottenWhenThereAreManyOrTheyBehave(t *testing.T) {
	t.Parallel()
	clock := &testClock{}
	f := newIngressFailing(clock.now)
	peer := netip.MustParseAddr("192.0.2.1")
	for range failingBurst + 3 {
		f.count(peer)
	}
	if !f.often(peer) {
		t.Error("a peer that fails often is not known")
	}
	clock.advance(10 * time.Second)
	if f.often(peer) {
		t.Error("a peer is still slowed after it behaved for 10 s")
	}
	addr := netip.MustParseAddr("198.18.0.0")
	for range maxFailing + 100 {
		addr = addr.Next()
		f.count(addr)
	}
	if len(f.peers) > maxFailing {
		t.Errorf("%d peers are remembered, at most %d may be", len(f.peers), maxFailing)
	}
}

func TestLargeBodiesShareTheMemory(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.Limits.Body, cfg.Limits.Memory = 640<<10, 1280<<10
	})
	large := strings.Repeat("x", 600<<10)
	held := b.request(t, http.MethodPost, "/webhook/hook", large)
	status := make(chan int, 1)
	go func() {
		a, _ := b.send(held)
		status <- a.status
	}()
	d, err := b.door("hook").Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.memory.Add(100 << 10) // another one on its way
	if a := b.post(t, "/webhook/hook", large); a.status != http.StatusServiceUnavailable || b.meter.of(RefusedMemory) != 1 {
		t.Errorf("a second large body: %d", a.status)
	}
	b.memory.Add(-100 << 10)
	_ = d.Settle(t.Context(), nil)
	if got := <-status; got != http.StatusOK {
		t.Errorf("the first: %d", got)
	}
	awaitTrue(t, "the memory is given back", func() bool { return b.memory.Load() == 0 })
}
