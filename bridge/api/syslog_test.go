package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

func TestSyslogKeepsTheSourceContract(t *testing.T) {
	t.Parallel()
	lines := func(doc []byte) []byte { return append(append([]byte(nil), doc...), '\r', '\n') }
	counted := func(doc []byte) []byte { return fmt.Appendf(nil, "%d %s", len(doc), doc) }
	ca := newSyslogCA(t)
	for _, c := range []struct {
		name   string
		frame  func([]byte) []byte
		secure bool
	}{{"lines", lines, false}, {"counted", counted, false}, {"counted over tls", counted, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest {
				r := startSyslog(t, func(cfg *SyslogConfig) {
					if c.secure {
						cfg.TLS = ca.server(t, true)
					}
				})
				conn := r.dial(t)
				if c.secure {
					conn = tls.Client(conn, ca.client(t))
				}
				return bridgetest.SourceUnderTest{
					Source: r, Name: "lines", Preset: "cef", Close: r.Close,
					Send: func(_ context.Context, doc []byte) error {
						_, err := conn.Write(c.frame(doc))
						return err
					},
				}
			})
		})
	}
}

func TestSyslogDeliversEachMessageAsItCame(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, nil)
	r.write(t, "<13>Nov 20 10:00:00 h a: one\r\nCEF:0|a|b|c|d|e|f|k=v\n\nnot syslog\n")
	for _, want := range []string{"<13>Nov 20 10:00:00 h a: one", "CEF:0|a|b|c|d|e|f|k=v", "not syslog"} {
		r.settled(t, want)
	}
	r.write(t, "4 a\nb\n3 \x00\xff!")
	r.settled(t, "a\nb\n")
	r.settled(t, "\x00\xff!") // what it is worth is for the preset to say
	if got := r.Stats(); got.Received != 5 || got.Delivered != 5 || got.Broken != 0 || got.Unsettled != 0 {
		t.Errorf("stats are %+v", got)
	}
}

func TestSyslogDeliversNothingOfABrokenFrame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stream string
		whole        []string
		half         bool // the sender closes its side
	}{
		{"a line over the limit", "<13>a\n" + strings.Repeat("x", 101) + "\n<13>b\n", []string{"<13>a"}, false},
		{"a line without end over the limit", strings.Repeat("x", 200), nil, false},
		{"a counted message over the limit", "5 <13>a101 x", []string{"<13>a"}, false},
		{"a broken count", "5 <13>ax", []string{"<13>a"}, false},
		{"a line without end", "<13>a\n<13>path=C:\\Win", []string{"<13>a"}, true},
		{"a message without end", "50 <13>path=C:\\Win", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startSyslog(t, func(cfg *SyslogConfig) { cfg.MaxFrame = 100 })
			conn := r.write(t, c.stream)
			if c.half {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range c.whole {
				r.settled(t, want)
			}
			isClosed(t, conn)
			r.silent(t)
			syslogEventually(t, "the loss is counted, noted and logged", func() bool {
				return r.Stats().Broken == 1 && r.lost() == 1 && r.log.count(string(syslogBroken)) == 1
			})
			if r.log.count("path=") > 0 {
				t.Error("the log quotes what a message says")
			}
		})
	}
}

func TestSyslogTellsOfTroublesOnceASecond(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, func(cfg *SyslogConfig) { cfg.MaxFrame = 10 })
	const n = 50
	for range n {
		isClosed(t, r.write(t, "<13>longer than ten bytes"))
	}
	syslogEventually(t, "all are noted", func() bool { return r.lost() == n })
	if got := r.log.count("was refused"); got > 5 {
		t.Errorf("%d lines in the log for %d broken frames, want a few", got, n)
	}
}

func TestSyslogReadsNoFurtherWhileItsQueueIsFull(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, func(cfg *SyslogConfig) { cfg.Queue = 3 })
	var all strings.Builder
	for i := range 500 {
		fmt.Fprintf(&all, "message %d\n", i)
	}
	r.write(t, all.String())
	syslogEventually(t, "the queue is full", func() bool { return r.Stats().Unsettled == 3 })
	r.settled(t, "message 0")
	// One more was read and waits for its place; the settled one made room for it, and the next is waiting.
	syslogEventually(t, "room is used", func() bool { return r.Stats().Received == 5 })
	for i := range 499 {
		if got := r.Stats(); got.Unsettled > 3 {
			t.Fatalf("%d messages are not settled, want at most 3", got.Unsettled)
		}
		r.settled(t, fmt.Sprintf("message %d", i+1))
	}
	if got := r.lost(); got != 0 {
		t.Errorf("%d messages are noted as lost, want none", got)
	}
}

func TestSyslogSaysWhatItLosesAtItsEnd(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, func(cfg *SyslogConfig) { cfg.Queue = 4 })
	r.write(t, "m1\nm2\nm3\nm4\nm5\nm6\n")
	syslogEventually(t, "the first connection waits for room", func() bool { s := r.Stats(); return s.Unsettled == 4 && s.Received == 5 })
	r.write(t, "a\nb\n")
	var inHand []bridge.Delivery
	for range 3 {
		inHand = append(inHand, r.next(t))
	}
	syslogEventually(t, "both connections wait for room", func() bool { s := r.Stats(); return s.Unsettled == 4 && s.Received == 6 })
	if err := inHand[0].Settle(t.Context(), errors.New("the store is full")); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One comes again, one is queued, two were waiting for room.
	if got := r.Stats(); got.Lost != 4 || r.lost() != 4 {
		t.Errorf("%d are counted and %d noted as lost, want 4", got.Lost, r.lost())
	}
	if err := inHand[1].Settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := inHand[2].Settle(t.Context(), errors.New("too late")); err != nil {
		t.Error(err)
	}
	if got := r.Stats(); got.Lost != 5 || r.lost() != 5 || got.Unsettled != 0 || got.Conns != 0 {
		t.Errorf("stats are %+v with %d notes, want 5 lost and nothing left", got, r.lost())
	}
}

func TestSyslogLeavesNoConnectionBehindAtItsEnd(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, nil)
	var open []net.Conn
	for range 100 {
		open = append(open, r.write(t, "<13>half"))
	}
	syslogEventually(t, "all are there", func() bool { return r.Stats().Conns == len(open) })
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.Stats().Conns; got != 0 {
		t.Errorf("%d connections are open after Close", got)
	}
	for _, conn := range open {
		isClosed(t, conn)
	}
}

func TestSyslogHandsOutWhatIsQueuedAfterRunHasEnded(t *testing.T) {
	t.Parallel()
	r := newSyslogRig(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	<-r.Ready()
	r.write(t, "one\ntwo\n")
	syslogEventually(t, "both are read", func() bool { return r.Stats().Unsettled == 2 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if r.Connected() {
		t.Error("the source says it is connected after Run has ended")
	}
	d := r.next(t)
	if err := d.Settle(t.Context(), errors.New("the store is out")); err != nil {
		t.Fatal(err)
	}
	r.settled(t, "two")
	r.settled(t, "one")
	if _, err := r.Receive(t.Context()); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("receive answers %v, want ErrClosed", err)
	}
	if err := r.Run(t.Context()); err == nil {
		t.Error("Run may be called twice")
	}
}

func TestSyslogOpensItsPortOnceItIsFree(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newSyslogRig(t, func(cfg *SyslogConfig) { cfg.Listen = taken.Addr().String() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	syslogEventually(t, "it says why the port is not open", func() bool { return r.Err() != nil && !r.Connected() })
	if r.Addr() != nil {
		t.Errorf("address is %s before the port was open", r.Addr())
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	syslogEventually(t, "the port is open", func() bool { return r.Connected() && r.Err() == nil })
	r.write(t, "hello\n")
	r.settled(t, "hello")
	if got := r.log.count("is not open"); got != 1 {
		t.Errorf("%d warnings for one reason, want 1", got)
	}
}

func TestSyslogTakesOnlyListedPeers(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, func(cfg *SyslogConfig) {
		cfg.Peers = []netip.Prefix{netip.MustParsePrefix("10.0.5.0/24"), netip.MustParsePrefix("127.0.0.9/32")}
	})
	isClosed(t, r.dial(t))
	syslogEventually(t, "it is logged", func() bool { return r.Stats().Refused == 1 && r.log.count("unknown peer") == 1 })
	r.silent(t)

	r = startSyslog(t, func(cfg *SyslogConfig) { cfg.Peers = []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.0/104")} })
	r.write(t, "hello\n")
	r.settled(t, "hello")
}

func TestSyslogReadsAFastPeerAtItsRate(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, func(cfg *SyslogConfig) { cfg.Rate = 20 })
	begin := time.Now()
	r.write(t, strings.Repeat("x\n", 15))
	r.write(t, strings.Repeat("x\n", 15)) // the rate is the address's, not the connection's
	for range 30 {
		r.settled(t, "x")
	}
	// 20 come at once, 10 more take half a second.
	if took := time.Since(begin); took < 400*time.Millisecond {
		t.Errorf("30 messages at 20/s took %s, want half a second", took)
	}
}

func TestSyslogLogsNothingOfAGoodConnection(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, nil)
	conn := r.write(t, "<13>secret text\n")
	r.settled(t, "<13>secret text")
	_ = conn.Close()
	syslogEventually(t, "the connection is gone", func() bool { return r.Stats().Conns == 0 })
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	for _, line := range r.log.lines {
		if s := bufio.NewScanner(strings.NewReader(line)); s.Scan() && !strings.Contains(s.Text(), "port is open") {
			t.Errorf("logged: %s", line)
		}
	}
}
