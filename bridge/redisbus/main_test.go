package redisbus

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestMain(m *testing.M) {
	SetLogger(nil)
	goleak.VerifyTestMain(m)
}

// server is a redis-server of its own, on a port of the loopback interface.
type server struct {
	addr string
	dir  string
	cmd  *exec.Cmd
	args []string
	c    *redis.Client
}

// startRedis starts redis-server without persistence and stops it at the end of the test.
func startRedis(t testing.TB, extra ...string) *server {
	t.Helper()
	return startRedisOn(t, freeAddress(t), extra...)
}

func startRedisOn(t testing.TB, addr string, extra ...string) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	dir, err := os.MkdirTemp("", "redisbus") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{addr: addr, dir: dir}
	host, port, _ := net.SplitHostPort(s.addr)
	s.args = append([]string{
		path, "--port", port, "--bind", host, "--save", "", "--appendonly", "no", "--dir", dir,
		"--unixsocket", s.socket(), "--loglevel", "warning",
	}, extra...)
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (s *server) start(t testing.TB) {
	t.Helper()
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), s.args[0], s.args[1:]...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.c = redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket(), Protocol: 2, DisableIdentity: true, PoolSize: 4})
	eventually(t, 10*time.Second, "redis-server answers", func() bool {
		err := s.c.Ping(t.Context()).Err()
		return err == nil || isReply(err) // a server with a password answers, too
	})
}

func (s *server) socket() string { return filepath.Join(s.dir, "s") }

func (s *server) stop() {
	_ = s.c.Close()
	if s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

func (s *server) do(t testing.TB, args ...any) any {
	t.Helper()
	v, err := s.c.Do(t.Context(), args...).Result()
	if err != nil && err != redis.Nil { //nolint:errorlint // the client returns it bare
		t.Fatalf("%v: %v", args, err)
	}
	return v
}

func (s *server) add(t testing.TB, stream string, docs ...string) []string {
	t.Helper()
	ids := make([]string, 0, len(docs))
	for _, d := range docs {
		ids = append(ids, s.do(t, "XADD", stream, "*", "alert", d).(string))
	}
	return ids
}

func (s *server) pending(t testing.TB, stream, group string) int64 {
	t.Helper()
	p, err := s.c.XPending(t.Context(), stream, group).Result()
	if err != nil {
		t.Fatal(err)
	}
	return p.Count
}

// proxy stands between client and server and can misbehave.
type proxy struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup
	// hole swallows everything both ways while set, without closing anything.
	hole atomic.Bool
	// stalled stops reading what the server sends, so that its buffers fill.
	stalled atomic.Bool
	// mu guards conns and swallow.
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	swallow string // cut the connection instead of forwarding the answer to the next request holding this word
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target, conns: make(map[net.Conn]struct{})}
	ctx := context.WithoutCancel(t.Context())
	p.wg.Go(func() { p.serve(ctx) })
	t.Cleanup(func() {
		_ = ln.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) serve(ctx context.Context) {
	for {
		in, err := p.ln.Accept()
		if err != nil {
			return
		}
		out, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = struct{}{}, struct{}{}
		p.mu.Unlock()
		var doomed atomic.Bool
		p.wg.Go(func() { p.pipe(out, in, &doomed, true) })
		p.wg.Go(func() { p.pipe(in, out, &doomed, false) })
	}
}

func (p *proxy) pipe(to, from net.Conn, doomed *atomic.Bool, requests bool) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buf := make([]byte, 64<<10)
	for {
		for !requests && p.stalled.Load() {
			time.Sleep(5 * time.Millisecond)
		}
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if p.hole.Load() {
			continue
		}
		if requests {
			p.mu.Lock()
			if p.swallow != "" && strings.Contains(strings.ToLower(string(buf[:n])), p.swallow) {
				p.swallow = ""
				doomed.Store(true)
			}
			p.mu.Unlock()
		} else if doomed.Load() {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut closes all connections; new ones are accepted.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

// loseAnswer lets the next request holding word be executed and cuts the connection instead of its answer.
func (p *proxy) loseAnswer(word string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = strings.ToLower(word)
}

func (p *proxy) stall(on bool) { p.stalled.Store(on) }

func (p *proxy) answerLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallow == ""
}

// ledger collects Notes.
type ledger struct {
	mu   sync.Mutex
	list []bridge.Note
}

func (l *ledger) add(n bridge.Note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, n)
}

func (l *ledger) count(what string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, note := range l.list {
		if note.What == what {
			n += note.Count
		}
	}
	return n
}

func (l *ledger) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, n := range l.list {
		fmt.Fprintf(&b, "%s %s ×%d: %s\n", n.Source, n.What, n.Count, n.Detail)
	}
	return b.String()
}

func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// source is what both sources are.
type source interface {
	bridge.Source
	Run(ctx context.Context) error
	Close(ctx context.Context) error
	Ready() <-chan struct{}
	Connected() bool
	Err() error
}

// run starts a source and closes it at the end of the test.
func run(t testing.TB, s source) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(t.Context()); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_ = s.Close(ctx)
		wg.Wait()
	})
}

func awaitReady(t testing.TB, s source) {
	t.Helper()
	select {
	case <-s.Ready():
	case <-time.After(10 * time.Second):
		t.Fatalf("source is not ready after 10 s: %v", s.Err())
	}
}

func receive(t testing.TB, s bridge.Source, within time.Duration) bridge.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		d, err := s.Receive(ctx)
		if err == nil {
			return d
		}
		if ctx.Err() != nil {
			t.Fatalf("nothing received within %s: %v", within, err)
		}
	}
}

func settle(t testing.TB, d bridge.Delivery, err error) {
	t.Helper()
	if got := d.Settle(t.Context(), err); got != nil {
		t.Fatalf("settle: %v", got)
	}
}

// nothing fails the test when something is received within d.
func nothing(t testing.TB, s bridge.Source, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if got, err := s.Receive(ctx); err == nil {
		t.Fatalf("received %s %.80q, want nothing", got.Alert.ID, got.Alert.Raw)
	}
}

func newTestStream(t testing.TB, addr string, change func(*StreamConfig)) (*Stream, *ledger) {
	t.Helper()
	led := &ledger{}
	cfg := StreamConfig{
		Options: Options{Addresses: []string{addr}}, Name: "bus", Preset: "python-edr", Stream: "alerts", Group: "edr-bridge",
		Consumer: "one", OnNote: led.add, Block: 100 * time.Millisecond, Retry: 50 * time.Millisecond, Sweep: 300 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := NewStream(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, led
}

func newTestPubSub(t testing.TB, addr string, change func(*PubSubConfig)) (*PubSub, *ledger) {
	t.Helper()
	led := &ledger{}
	cfg := PubSubConfig{
		Options: Options{Addresses: []string{addr}}, Name: "legacy", Preset: "python-edr", Channel: "high_severity_alerts", OnNote: led.add,
	}
	if change != nil {
		change(&cfg)
	}
	p, err := NewPubSub(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, led
}
