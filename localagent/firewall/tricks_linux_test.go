package firewall

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestADormantTableIsNoIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	var told alarms
	w := newWall(t, func(cfg *Config) { cfg.Tampered = told.add })
	w.platform.unownable = true
	isolate(t, w, Isolation{For: time.Minute})
	run(t, "add", "table", "inet", isolationTable, "{ flags dormant; }")
	if st := isolated(t, w); st.On {
		t.Errorf("state = %+v although nothing is cut", st)
	}
	look(t, w)
	refused(t, theirs.Addr().String())
	if st := isolated(t, w); !st.On || !st.Intact || !told.has("put back") {
		t.Errorf("after a look: %+v; alarms %q", st, told.said)
	}
}

func TestABlockInADormantTableIsMadeAnew(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	w := newWall(t)
	done(t, w, blockOrder(far4, time.Minute), "blocked until")
	run(t, "add", "table", "inet", blockTable, "{ flags dormant; }")
	_ = mustDial(t, nil, theirs.Addr().String())
	done(t, w, blockOrder(far4, 30*time.Second), "blocked until")
	refused(t, theirs.Addr().String())
}

func TestOtherKeysInTheSetIsolateNobody(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	w := newWall(t)
	w.platform.unownable = true
	isolate(t, w, Isolation{For: time.Minute})
	const set = "inet " + isolationTable + " " + armedSet
	run(t, "delete element "+set+" { ipv4 }; add element "+set+" { 3 timeout 1m }")
	if st := isolated(t, w); st.On {
		t.Errorf("state = %+v although IPv4 is open", st)
	}
	look(t, w)
	refused(t, theirs.Addr().String())
}

func TestOtherRulesDoNotMakeAnIsolationLookLeaky(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	for name, rules := range map[string]string{
		"addresses of nobody are dropped before": "add chain inet theirs out { type filter hook output priority -300; policy accept; };" +
			"add rule inet theirs out ip daddr { 192.0.2.0/24, 198.51.100.64/26, 203.0.113.0/24 } drop",
		"our refusal does not come back": "add chain inet theirs in { type filter hook input priority 0; policy drop; };" +
			"add rule inet theirs in ct state established accept",
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "add table inet theirs; "+rules)
			w := newWall(t)
			isolate(t, w, Isolation{For: time.Minute})
			release(t, w, "released")
			run(t, "delete table inet theirs")
		})
	}
}

func TestAnAnswerFromOutsideDoesNotProveAnIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	must(t, addRoute("192.0.2.1", far4))
	// A router that answers as routers do.
	f.do(func() {
		_, err := run1("add table ip x; add chain ip x p { type filter hook prerouting priority 0; }; " +
			"add rule ip x p ip daddr { 192.0.2.1, 203.0.113.1 } reject with icmp type host-unreachable")
		must(t, err)
	})
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Minute})
	if leak, err := leaks(t.Context(), nil); err != nil || leak.IsValid() {
		t.Errorf("leak = %v, %v", leak, err)
	}
	run(t, "add", "table", "inet", isolationTable, "{ flags dormant; }")
	if leak, err := leaks(t.Context(), nil); err != nil || leak.String() != "192.0.2.1" {
		t.Errorf("leak = %v, %v, want the first address that was tried", leak, err)
	}
}

func TestAFullDiskDoesNotKeepAMachineIsolated(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWNS) {
		return
	}
	_ = cable(t)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	config := func(cfg *Config) { cfg.State = dir }
	for _, o := range []Isolation{{Permanent: true}, {For: time.Hour}} {
		w := newWall(t, config)
		isolate(t, w, o)
		f, err := os.Create(filepath.Join(dir, "full"))
		must(t, err)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		must(t, f.Close())
		if o.Permanent {
			release(t, w, "released: the network is back")
		} else {
			w.uptime = func() (string, time.Duration) {
				boot, up := systemUptime()
				return boot, up + 2*time.Hour
			}
			look(t, w)
		}
		if isolated(t, w).On {
			t.Errorf("%+v: still isolated", o)
		}
		must(t, newWall(t, config).Restore(t.Context()))
		if isolated(t, w).On {
			t.Errorf("%+v: isolated again by the next agent", o)
		}
		must(t, os.Remove(f.Name()))
	}
}

func TestAddressesOfNobodyDoNotPreventAnIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWNS) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	servers(t, "nameserver 255.255.255.255\n")
	w := newWall(t, func(cfg *Config) {
		cfg.Allow = []Peer{{Host: "jump.test", Ports: portOf(theirs)}}
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr(far4)}, nil
		}
	})
	start(t, w)
	isolate(t, w, Isolation{For: time.Minute})
	_ = mustDial(t, nil, theirs.Addr().String())
	refused(t, "198.51.100.3:80")
	// Rules the kernel refuses say nothing about owners.
	broken := []pass{{netip.MustParsePrefix("255.255.255.255/32"), nil, ProtocolAny, DirectionBoth}}
	if err := newWall(t).arm(t.Context(), broken, time.Minute); err == nil {
		t.Error("rules that make no sense are taken")
	}
	if w.platform.unownable {
		t.Skip("this kernel knows no table owners")
	}
	if err := w.arm(t.Context(), broken, time.Minute); err == nil || w.platform.unownable {
		t.Errorf("rules that make no sense: %v, owners given up %v", err, w.platform.unownable)
	}
	if st := isolated(t, w); !st.Intact || !st.Owned && !w.platform.unownable {
		t.Errorf("state = %+v", st)
	}
	look(t, w)
}

// servers puts a list of name servers into the place of the system's.
func servers(t *testing.T, text string) (change func(string)) {
	t.Helper()
	conf := t.TempDir() + "/resolv.conf"
	change = func(text string) { must(t, os.WriteFile(conf, []byte(text), 0o600)) }
	change(text)
	must(t, unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH) })
	return change
}

func TestTheNameServersOfTheFirstOrderStay(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWNS) {
		return
	}
	_ = cable(t)
	change := servers(t, "nameserver 198.51.100.9\n")
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Minute})
	before := isolated(t, w).Peers
	change("nameserver 203.0.113.66\n")
	for what, again := range map[string]func(){
		"a look":         func() { look(t, w) },
		"a second order": func() { isolate(t, w, Isolation{For: time.Hour}, "isolated already") },
	} {
		again()
		if after := isolated(t, w).Peers; !slices.Equal(after, before) {
			t.Errorf("after %s: %q, were %q", what, after, before)
		}
		if out := ruleset(t); strings.Contains(out, "203.0.113.66") || !strings.Contains(out, "198.51.100.9") {
			t.Errorf("%s opened a way out:\n%s", what, out)
		}
	}
}

func TestTakingBackIsNoAttack(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	addr := far4
	var told alarms
	w := newWall(t, func(cfg *Config) {
		cfg.Tampered = told.add
		cfg.Allow = []Peer{{Host: "jump.test", Ports: "22"}}
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(addr)}, nil
		}
	})
	isolate(t, w, Isolation{For: time.Hour})
	addr = "203.0.113.200"
	w.testOnlyArmed = func() { run(t, "flush", "chain", "inet", isolationTable, "input") }
	if _, err := w.Isolate(t.Context(), Isolation{For: 3 * time.Hour}); err == nil {
		t.Fatal("isolated without rules")
	}
	look(t, w)
	if len(told.said) > 0 {
		t.Errorf("alarms: %q", told.said)
	}
}

func TestACallerWhoLeavesDoesNotLeaveHalfAnIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	ksc := mustListen(t, &f, far4)
	w := newWall(t, func(cfg *Config) { cfg.Needs = []Peer{{Host: far4, Ports: portOf(ksc)}} })
	ctx, leave := context.WithCancel(t.Context())
	w.testOnlyArmed = leave
	r, err := w.Isolate(ctx, Isolation{For: time.Minute})
	if err != nil || r.State != bridge.StateDone || !isolated(t, w).On {
		t.Errorf("isolate = %+v, %v", r, err)
	}
}

func TestNeighboursOfOtherLinksAreNotHeard(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Minute})
	c, err := net.ListenPacket("ip6:ipv6-icmp", near6)
	must(t, err)
	defer c.Close()
	raw, err := c.(*net.IPConn).SyscallConn()
	must(t, err)
	// A neighbour solicitation, which is never routed: nobody but a neighbour can send it with 255 hops left.
	ask := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(far6).AsSlice()...)
	for hops, want := range map[int]bool{255: true, 64: false} {
		must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops) }))
		must(t, err)
		if _, err := c.WriteTo(ask, &net.IPAddr{IP: net.ParseIP(far6)}); (err == nil) != want {
			t.Errorf("%d hops: %v, let through = %v is wanted", hops, err, want)
		}
	}
}

func TestNamesAreResolvedAnewDuringAnIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	moved := mustListen(t, &f, "198.51.100.3")
	var addr atomic.Value
	addr.Store(far4)
	w := newWall(t, func(cfg *Config) {
		cfg.Allow = []Peer{{Host: "jump.test", Ports: portOf(moved)}}
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(addr.Load().(string))}, nil
		}
	})
	w.refreshEvery = 10 * time.Millisecond
	start(t, w)
	isolate(t, w, Isolation{For: time.Minute})
	refused(t, moved.Addr().String())
	addr.Store("198.51.100.3")
	agenttest.Eventually(t, "the peer is reached where it moved to", func() bool {
		c, err := net.DialTimeout("tcp", moved.Addr().String(), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func TestProbingAnIsolationChangesNothing(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	detail, err := ProbeIsolation(t.Context())
	if err != nil || !strings.Contains(detail, "an isolation can be made") || strings.Contains(detail, "cannot be covered") {
		t.Errorf("probe = %q, %v", detail, err)
	}
	if out := ruleset(t); out != "" {
		t.Errorf("left behind:\n%s", out)
	}
}
