package firewall

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func isolate(t testing.TB, w *Firewall, o Isolation, texts ...string) {
	t.Helper()
	if o.OrderID == "" {
		o.OrderID = "o1"
	}
	r, err := w.Isolate(context.Background(), o)
	if err != nil {
		t.Fatalf("isolate: %v", err)
	}
	for _, text := range texts {
		if r.State != bridge.StateDone || !strings.Contains(r.Detail, text) {
			t.Fatalf("receipt = %q %q, want done with %q", r.State, r.Detail, text)
		}
	}
}

func release(t testing.TB, w *Firewall, text string) {
	t.Helper()
	r, err := w.Release(context.Background(), "o2")
	if err != nil || r.State != bridge.StateDone || !strings.Contains(r.Detail, text) {
		t.Fatalf("release = %+v, %v, want done with %q", r, err, text)
	}
}

func isolated(t testing.TB, w *Firewall) State {
	t.Helper()
	st, err := w.Isolated(context.Background())
	if err != nil {
		t.Fatalf("isolated: %v", err)
	}
	return st
}

// portOf returns the port of a listener as text.
func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func forgetNeighbours(t testing.TB) {
	t.Helper()
	link, err := netlink.LinkByName("near")
	must(t, err)
	known, err := netlink.NeighList(link.Attrs().Index, 0)
	must(t, err)
	for _, n := range known {
		_ = netlink.NeighDel(&n)
	}
	if len(known) == 0 {
		t.Error("no neighbour was known")
	}
}

// refused wants connecting to fail at once, as the filter makes it.
func refused(t testing.TB, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to %s: %v, want ECONNREFUSED at once", addr, err)
	}
}

// shut wants that the far end cannot connect.
func shut(t testing.TB, f far, addr string) {
	t.Helper()
	f.do(func() {
		d := net.Dialer{Timeout: 300 * time.Millisecond}
		if c, err := d.Dial("tcp", addr); err == nil {
			_ = c.Close()
			t.Errorf("the far end can still connect to %s", addr)
		}
	})
}

// shutFrom wants that the far end cannot connect from an address of its choice.
func shutFrom(t testing.TB, f far, from, addr string) {
	t.Helper()
	f.do(func() {
		d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: tcpAddr(from)}
		if c, err := d.Dial("tcp", addr); err == nil {
			_ = c.Close()
			t.Errorf("the far end can connect from %s to %s", from, addr)
		}
	})
}

func TestIsolationKeepsPeersAndCutsEverythingElse(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	for name, c := range map[string]struct{ near, far string }{"IPv4": {near4, far4}, "IPv6": {near6, far6}} {
		t.Run(name, func(t *testing.T) {
			allowed, forbidden := mustListen(t, &f, c.far), mustListen(t, &f, c.far)
			ours, theirs := mustListen(t, nil, c.near), mustListen(t, nil, c.near)
			keptOut, cutOut := mustDial(t, nil, allowed.Addr().String()), mustDial(t, nil, forbidden.Addr().String())
			keptIn, cutIn := mustDial(t, &f, ours.Addr().String()), mustDial(t, &f, theirs.Addr().String())
			w := newWall(t, func(cfg *Config) {
				cfg.Needs = []Peer{{Host: c.far, Ports: portOf(allowed) + ",4444", Why: "KSC"}}
				cfg.Allow = []Peer{{Host: c.far, Ports: portOf(ours) + ",4445", Direction: DirectionIn, Why: "jump host"}}
			})
			begin := time.Now()
			isolate(t, w, Isolation{For: time.Minute}, "; cut ", "kept KSC ("+c.far+"), jump host", "isolated until ")
			t.Logf("isolated in %s", time.Since(begin))
			for what, c := range map[string]net.Conn{"from us": keptOut, "from the peer": keptIn} {
				if err := talk(c); err != nil {
					t.Errorf("the allowed connection %s: %v", what, err)
				}
			}
			if err := talk(cutOut); !errors.Is(err, syscall.ECONNABORTED) {
				t.Errorf("our forbidden connection: %v, want ECONNABORTED", err)
			}
			if err := talk(cutIn); err == nil {
				t.Error("the forbidden connection from the peer still carries bytes")
			}
			refused(t, forbidden.Addr().String())
			refused(t, "192.0.2.44:80")
			shut(t, f, theirs.Addr().String())
			// Using the port of an allowed service does not make a connection an answer.
			shutFrom(t, f, net.JoinHostPort(c.far, "4444"), theirs.Addr().String())
			d := net.Dialer{Timeout: 2 * time.Second, LocalAddr: tcpAddr(net.JoinHostPort(c.near, "4445"))}
			if c, err := d.Dial("tcp", forbidden.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("connecting from the port of our allowed service: %v, %v, want ECONNREFUSED", c, err)
			}
			// Peers must be found on the link again, which IPv6 does by packets the filter sees.
			forgetNeighbours(t)
			_ = mustDial(t, nil, allowed.Addr().String())
			_ = mustDial(t, &f, ours.Addr().String())
			_ = mustDial(t, nil, ours.Addr().String())
			st := isolated(t, w)
			if !st.On || st.Permanent || !st.Intact || time.Until(st.Until) > time.Minute || time.Until(st.Until) < 30*time.Second || len(st.Peers) < 2 {
				t.Errorf("state = %+v", st)
			}
			release(t, w, "released")
			_ = mustDial(t, nil, forbidden.Addr().String())
			_ = mustDial(t, &f, theirs.Addr().String())
			if st := isolated(t, w); st.On {
				t.Errorf("after release: %+v", st)
			}
		})
	}
}

func TestAnAgentThatIsNotOfTheHostCoversNoOtherNamespace(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	places, err := newWall(t).elsewhere()
	if err != nil || len(places) != 0 {
		t.Fatalf("places = %v, %v: an agent in a namespace of its own must not cut the host off", places, err)
	}
}

func TestTheKernelEndsAnIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Second})
	refused(t, theirs.Addr().String())
	agenttest.Eventually(t, "the kernel ends the isolation", func() bool { return !isolated(t, w).On })
	_ = mustDial(t, nil, theirs.Addr().String())
	release(t, w, "was not isolated")
	release(t, w, "was not isolated")
}

func TestAPermanentIsolationHasNoTimer(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	w := newWall(t)
	isolate(t, w, Isolation{Permanent: true}, "permanently")
	if st := isolated(t, w); !st.On || !st.Permanent || !st.Until.IsZero() {
		t.Errorf("state = %+v", st)
	}
	isolate(t, w, Isolation{For: time.Second}, "permanently")
	if err := w.Extend(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if st := isolated(t, w); !st.Permanent {
		t.Errorf("a later order with an end made it %+v", st)
	}
	release(t, w, "released")
}

func TestExtendLengthensAndNeverShortens(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	w := newWall(t)
	if err := w.Extend(t.Context(), time.Now().Add(time.Hour)); !errors.Is(err, ErrNotIsolated) {
		t.Errorf("extend = %v, want ErrNotIsolated", err)
	}
	isolate(t, w, Isolation{For: time.Hour})
	for _, step := range []struct{ add, want time.Duration }{{time.Minute, time.Hour}, {3 * time.Hour, 3 * time.Hour}, {2 * time.Hour, 3 * time.Hour}} {
		if err := w.Extend(t.Context(), time.Now().Add(step.add)); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(isolated(t, w).Until); left > step.want+time.Second || left < step.want-10*time.Second {
			t.Errorf("after extending to %s: %s left, want %s", step.add, left, step.want)
		}
	}
	for _, until := range []time.Time{time.Now().Add(-time.Second), time.Now().Add(2 * maxIsolateFor)} {
		if err := w.Extend(t.Context(), until); err == nil {
			t.Errorf("extend until %s has no error", until)
		}
	}
	isolate(t, w, Isolation{For: time.Minute}, "isolated already", "(3h0m0s)")
}

func TestNamesAreResolvedBeforeTheCut(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	allowed := mustListen(t, &f, far4)
	answers := map[string][]netip.Addr{"ksc.test": {netip.MustParseAddr(far4)}}
	w := newWall(t, func(cfg *Config) {
		cfg.Needs = []Peer{{Host: "ksc.test", Ports: portOf(allowed)}}
		cfg.Allow = []Peer{{Host: "gone.test"}}
		cfg.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			if a := answers[host]; a != nil {
				return a, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
	})
	isolate(t, w, Isolation{For: time.Minute}, "kept ksc.test", "not kept: gone.test")
	_ = mustDial(t, nil, allowed.Addr().String())
	_, err := w.Block(t.Context(), bridge.BlockAddress{Address: far4}, time.Minute)
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedAddress, "is a peer the settings keep")
	release(t, w, "released")
	delete(answers, "ksc.test")
	isolate(t, w, Isolation{For: time.Minute}, "kept ksc.test")

	stranded := newWall(t, func(cfg *Config) {
		cfg.Needs = []Peer{{Host: "ksc.test", Ports: "13000"}}
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no server answers") }
	})
	release(t, w, "released")
	_, err = stranded.Isolate(t.Context(), Isolation{For: time.Minute})
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "cannot be found")
	if isolated(t, w).On {
		t.Error("isolated although KSC cannot be found")
	}
	_, err = block(t.Context(), stranded, blockOrder("203.0.113.7", time.Minute))
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "find the address of ksc.test")
}

func TestIsolationRefusesTimesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	w := newWall(t)
	for _, d := range []time.Duration{-1, time.Millisecond, maxIsolateFor + 1} {
		_, err := w.Isolate(t.Context(), Isolation{For: d})
		wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "lasts between")
	}
}
