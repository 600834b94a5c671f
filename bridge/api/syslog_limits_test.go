package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestNewSyslogRefusesUnsafeSettings(t *testing.T) {
	t.Parallel()
	ca := newSyslogCA(t)
	for _, c := range []struct {
		name   string
		change func(*SyslogConfig)
		want   string // empty = accepted
	}{
		{"loopback and plain", func(*SyslogConfig) {}, ""},
		{"localhost", func(c *SyslogConfig) { c.Listen = "localhost:0" }, ""},
		{"IPv6 loopback", func(c *SyslogConfig) { c.Listen = "[::1]:6514" }, ""},
		{"loopback and TLS without client certificates", func(c *SyslogConfig) { c.TLS = ca.server(t, false) }, ""},
		{"everywhere and plain", func(c *SyslogConfig) { c.Listen = ":6514" }, "tls: required"},
		{"0.0.0.0 and plain", func(c *SyslogConfig) { c.Listen = "0.0.0.0:6514" }, "tls: required"},
		{"IPv4 everywhere inside IPv6", func(c *SyslogConfig) { c.Listen = "[::ffff:0.0.0.0]:6514" }, "tls: required"},
		{"an address and plain", func(c *SyslogConfig) { c.Listen = "10.0.0.7:6514" }, "tls: required"},
		{"everywhere, plain and said so", func(c *SyslogConfig) { c.Listen, c.AllowPlain = ":6514", true }, ""},
		{"everywhere and TLS for all", func(c *SyslogConfig) { c.Listen, c.TLS = ":6514", ca.server(t, false) }, "client certificates"},
		{"everywhere, TLS for all and said so", func(c *SyslogConfig) { c.Listen, c.TLS, c.AllowPlain = ":6514", ca.server(t, false), true }, ""},
		{"everywhere and mutual TLS", func(c *SyslogConfig) { c.Listen, c.TLS = ":6514", ca.server(t, true) }, ""},
		{"client certificates of the system's CAs", func(c *SyslogConfig) {
			c.Listen, c.TLS = ":6514", ca.server(t, true)
			c.TLS.ClientCAs = nil
		}, "CAs of your own"},
		{"client certificates nobody verifies", func(c *SyslogConfig) {
			c.Listen, c.TLS = ":6514", ca.server(t, true)
			c.TLS.ClientAuth = tls.RequireAnyClientCert
		}, "client certificates"},
		{"client certificates that may be left out", func(c *SyslogConfig) {
			c.Listen, c.TLS = ":6514", ca.server(t, true)
			c.TLS.ClientAuth = tls.VerifyClientCertIfGiven
		}, "client certificates"},
		{"TLS without certificate", func(c *SyslogConfig) { c.TLS = &tls.Config{} }, "no certificate"},
		{"TLS 1.0", func(c *SyslogConfig) {
			c.TLS = ca.server(t, false)
			c.TLS.MinVersion = tls.VersionTLS10
		}, "TLS 1.2"},
		{"no name", func(c *SyslogConfig) { c.Name = "" }, "name: required"},
		{"no port", func(c *SyslogConfig) { c.Listen = "127.0.0.1" }, "listen"},
		{"a host name", func(c *SyslogConfig) { c.Listen = "siem.corp:6514" }, "listen"},
		{"frames over the limit of package syslog", func(c *SyslogConfig) { c.MaxFrame = 1 << 20 }, "max_frame"},
		{"negative frames", func(c *SyslogConfig) { c.MaxFrame = -1 }, "max_frame"},
		{"negative connections", func(c *SyslogConfig) { c.MaxConns = -1 }, "max_conns"},
		{"negative queue", func(c *SyslogConfig) { c.Queue = -1 }, "queue"},
		{"negative time", func(c *SyslogConfig) { c.Idle = -1 }, "idle"},
		{"negative rate", func(c *SyslogConfig) { c.Rate = -1 }, "rate"},
		{"no prefix", func(c *SyslogConfig) { c.Peers = []netip.Prefix{{}} }, "peers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := SyslogConfig{Name: "lines", Listen: "127.0.0.1:0"}
			c.change(&cfg)
			_, err := NewSyslog(cfg)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error is %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestSyslogDeliversAgainWhatCouldNotBeStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newSyslogRig(t, func(cfg *SyslogConfig) { cfg.Queue = 2 })
		for _, text := range []string{"one", "two"} {
			r.queue.put(t.Context(), syslogMessage{raw: []byte(text), received: time.Now().UTC()})
		}
		begin := time.Now()
		var got []string
		for range 8 {
			d := r.next(t)
			got = append(got, fmt.Sprintf("%s %s", d.Alert.Raw, time.Since(begin)))
			var err error
			if string(d.Alert.Raw) == "one" {
				err = errors.New("the store is out")
			}
			if err := d.Settle(t.Context(), err); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"one 0s", "two 0s", "one 100ms", "one 300ms", "one 700ms", "one 1.5s", "one 3.1s", "one 6.3s"}
		if !slices.Equal(got, want) {
			t.Errorf("deliveries came at %q, want %q", got, want)
		}
		for range 40 { // no matter how often: at most 5 s later
			before := time.Now()
			d := r.next(t)
			if wait := time.Since(before); wait > syslogLastPause {
				t.Fatalf("it came again after %s", wait)
			}
			if err := d.Settle(t.Context(), errors.New("still out")); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(r.queue.places); n != 1 {
			t.Errorf("%d places are taken, want the one of the message that is not stored", n)
		}
		r.settled(t, "one")
		if n := len(r.queue.places); n != 0 {
			t.Errorf("%d places are taken in the end, want none", n)
		}
		if got := r.Stats(); got.Redelivered != 47 || got.Delivered != 49 {
			t.Errorf("stats are %+v", got)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSyslogWakesTheReaderForWhatComesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newSyslogRig(t, nil)
		r.queue.put(t.Context(), syslogMessage{raw: []byte("one")})
		d := r.next(t)
		came := make(chan time.Time, 1)
		go func() {
			if _, err := r.Receive(t.Context()); err == nil {
				came <- time.Now()
			}
		}()
		synctest.Wait() // it waits with nothing to come
		begin := time.Now()
		_ = d.Settle(t.Context(), errors.New("the store is out"))
		if wait := (<-came).Sub(begin); wait != syslogFirstPause {
			t.Errorf("it came again after %s, want %s", wait, syslogFirstPause)
		}
	})
}

func TestSyslogPeersAreCountedByAddress(t *testing.T) {
	t.Parallel()
	p := newSyslogPeers(SyslogConfig{MaxConns: 10, MaxPeerConns: 2, Rate: 5})
	enter := func(addr string) error {
		_, _, err := p.enter(netip.MustParseAddr(addr))
		return err
	}
	for _, c := range []struct {
		addr string
		want error
	}{
		{"10.0.0.1", nil},
		{"::ffff:10.0.0.1", nil},
		{"10.0.0.1", errSyslogPeerConns},
		{"2001:db8::1", nil},
		{"2001:db8::ffff:2", nil},
		{"2001:db8::3", errSyslogPeerConns},
		{"2001:db8:0:1::3", nil},
		{"fe80::1%eth0", nil},
		{"fe80::2%eth1", nil},
		{"fe80::3", errSyslogPeerConns},
		{"127.0.0.1", nil},
		{"127.0.0.1", nil},
		{"127.0.0.1", nil}, // this machine may have all
		{"10.0.0.9", errSyslogConns},
	} {
		if err := enter(c.addr); !errors.Is(err, c.want) {
			t.Fatalf("%s: %v, want %v", c.addr, err, c.want)
		}
	}
	for _, addr := range []string{"10.0.0.1", "10.0.0.1", "2001:db8::1", "2001:db8::1", "2001:db8:0:1::3", "fe80::1", "fe80::1", "127.0.0.1", "127.0.0.1", "127.0.0.1"} {
		p.leave(netip.MustParseAddr(addr))
	}
	if p.count() != 0 || len(p.known) != 0 {
		t.Errorf("%d connections and %d peers are left, want none", p.count(), len(p.known))
	}
}

func TestSyslogForgetsPeersThatAreGone(t *testing.T) {
	t.Parallel()
	p := newSyslogPeers(SyslogConfig{MaxConns: 10, MaxPeerConns: 2, Rate: 5})
	for i := range 1000 {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		limit, _, err := p.enter(addr)
		if err != nil {
			t.Fatal(err)
		}
		limit.AllowN(time.Now(), 5) // it has used up its rate, so coming back must not give it a fresh one
		p.leave(addr)
		if len(p.known) > 2*10+1 {
			t.Fatalf("%d peers are kept", len(p.known))
		}
	}
	addr := netip.MustParseAddr("10.9.9.9")
	limit, _, err := p.enter(addr)
	if err != nil {
		t.Fatal(err)
	}
	limit.AllowN(time.Now(), 5)
	p.leave(addr)
	if again, _, _ := p.enter(addr); again != limit {
		t.Error("a peer got a fresh rate by connecting again")
	}
}

func TestA2SyslogClosesSlowAndSilentConnections(t *testing.T) {
	t.Parallel()
	r := startSyslog(t, func(cfg *SyslogConfig) { cfg.Idle, cfg.FrameTimeout = 300*time.Millisecond, 300*time.Millisecond })
	silent := r.dial(t)
	half := r.write(t, "<13>half a line")
	counted := r.write(t, "500 <13>half a mess")
	behind := r.write(t, "<13>whole\n<13>and the beginning of ano")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	drip := r.dial(t)
	go func() { // one byte at a time: every byte comes well within any time between two bytes
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if _, err := drip.Write([]byte("x")); err != nil {
				return
			}
			<-tick.C
		}
	}()
	begin := time.Now()
	for _, conn := range []net.Conn{silent, half, counted, behind, drip} {
		isClosed(t, conn)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("closing them took %s", took)
	}
	r.settled(t, "<13>whole")
	syslogEventually(t, "they are counted", func() bool { s := r.Stats(); return s.Conns == 0 && s.Idle == 1 && s.Broken == 4 && r.lost() == 4 })
}

// Message after message, a connection may live for ever; each message and each silence has its own time.
func TestSyslogGivesEachMessageItsOwnTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		last   string
		reason syslogReason
		after  time.Duration
	}{
		{"silence", "", "", time.Hour},
		{"half a message", "<13>ha", syslogSlow, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newSyslogRig(t, nil)
				here, there := net.Pipe()
				defer there.Close()
				type end struct {
					reason syslogReason
					at     time.Time
				}
				ended := make(chan end, 1)
				go func() {
					reason, _ := r.read(t.Context(), here, nil)
					ended <- end{reason, time.Now()}
				}()
				for range 5 {
					time.Sleep(50 * time.Minute)
					for _, part := range []string{"<13>one", " message", "\n"} {
						time.Sleep(10 * time.Second)
						if _, err := there.Write([]byte(part)); err != nil {
							t.Fatal(err)
						}
					}
					r.settled(t, "<13>one message")
				}
				begin := time.Now()
				if _, err := there.Write([]byte(c.last)); err != nil {
					t.Fatal(err)
				}
				if e := <-ended; e.reason != c.reason || e.at.Sub(begin) != c.after {
					t.Errorf("it ended after %s for %q, want %s for %q", e.at.Sub(begin), e.reason, c.after, c.reason)
				}
			})
		})
	}
}

func TestA2SyslogClosesATLSHandshakeThatStalls(t *testing.T) {
	t.Parallel()
	ca := newSyslogCA(t)
	r := startSyslog(t, func(cfg *SyslogConfig) { cfg.TLS, cfg.FrameTimeout = ca.server(t, true), 200*time.Millisecond })
	isClosed(t, r.dial(t))
	isClosed(t, r.write(t, "\x16\x03\x01"))
	syslogEventually(t, "they are counted", func() bool { return r.Stats().Refused == 2 && r.Stats().Conns == 0 })
}

// Ten thousand idle connections leave a healthy sender alone. The test is not parallel: it needs most file descriptors.
func TestA2SyslogBoundsIdleConnections(t *testing.T) {
	const crowd, most = 10_000, 64
	r := startSyslog(t, func(cfg *SyslogConfig) { cfg.MaxConns = most })
	healthy := r.dial(t)
	roundTrip := func(i int) time.Duration {
		begin := time.Now()
		text := fmt.Sprintf("<13>healthy %d", i)
		if _, err := healthy.Write([]byte(text + "\n")); err != nil {
			t.Fatal(err)
		}
		r.settled(t, text)
		return time.Since(begin)
	}
	roundTrip(-1)
	idle := make([]net.Conn, 0, crowd)
	defer func() {
		for _, conn := range idle {
			_ = conn.Close()
		}
	}()
	var took []time.Duration
	for i := range crowd {
		conn, err := net.Dial("tcp", r.Addr().String())
		if errors.Is(err, syscall.EMFILE) {
			t.Logf("only %d connections: no more file descriptors", i)
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
		if i%20 == 0 {
			took = append(took, roundTrip(i))
		}
		if got := r.Stats().Conns; got > most {
			t.Fatalf("%d connections, want at most %d", got, most)
		}
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("%d idle connections, a healthy message takes %s (median), %s (p99)", len(idle), took[len(took)/2], p99)
	if p99 > 50*time.Millisecond {
		t.Errorf("p99 of a healthy sender is %s, want at most 50ms", p99)
	}
	syslogEventually(t, "the rest is refused", func() bool { return r.Stats().Refused == int64(len(idle)-most+1) })
	if got := r.log.count("too many connections"); got == 0 || got > 60 {
		t.Errorf("%d lines in the log, want one a second", got)
	}
	_ = idle[0].Close() // one of those that were let in makes room
	syslogEventually(t, "there is room", func() bool { return r.Stats().Conns < most })
	r.write(t, "<13>room again\n")
	r.settled(t, "<13>room again")
}

var _ bridge.Source = (*syslogRig)(nil)
