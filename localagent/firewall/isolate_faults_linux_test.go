package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestF39IsolationTakesBackWhatDoesNotReadBack(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	dir := t.TempDir()
	for name, sabotage := range map[string][]string{
		"rules flushed":      {"flush", "chain", "inet", isolationTable, "input"},
		"a rule put before":  {"insert", "rule", "inet", isolationTable, "input_body", "accept"},
		"the table deleted":  {"delete", "table", "inet", isolationTable},
		"one family let out": {"delete", "element", "inet", isolationTable, armedSet, "{ ipv6 }"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWall(t, func(cfg *Config) { cfg.State = dir })
			w.testOnlyArmed = func() { run(t, sabotage...) }
			before := ruleset(t)
			_, err := w.Isolate(t.Context(), Isolation{For: time.Minute})
			wantError(t, err, bridge.Retry, bridge.ReasonNone, "was taken back, nothing is cut off: the isolation did not read back")
			if after := ruleset(t); after != before {
				t.Errorf("left behind:\n%s", after)
			}
			if r, err := w.loadRecord(); err != nil || r.live() {
				t.Errorf("record = %+v, %v", r, err)
			}
			_ = mustDial(t, nil, theirs.Addr().String())

			w.testOnlyArmed = nil
			isolate(t, w, Isolation{For: time.Hour})
			w.testOnlyArmed = func() { run(t, sabotage...) }
			_, err = w.Isolate(t.Context(), Isolation{For: 3 * time.Hour})
			wantError(t, err, bridge.Retry, bridge.ReasonNone, "the isolation that stood before goes on")
			if st := isolated(t, w); !st.On || !st.Intact || time.Until(st.Until) > time.Hour {
				t.Errorf("state = %+v", st)
			}
			refused(t, theirs.Addr().String())
			w.testOnlyArmed = nil
			release(t, w, "released")
		})
	}
}

func TestIsolationIsTakenBackWhenANeededPeerIsLost(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	ksc := mustListen(t, &f, far4)
	_ = mustDial(t, nil, ksc.Addr().String())
	w := newWall(t, func(cfg *Config) { cfg.Needs = []Peer{{Host: far4, Ports: portOf(ksc), Why: "KSC"}} })
	w.testOnlyArmed = func() {
		run(t, "add table inet foreign; add chain inet foreign out { type filter hook output priority 0; policy accept; };"+
			"add rule inet foreign out tcp dport "+portOf(ksc)+" drop")
	}
	_, err := w.Isolate(t.Context(), Isolation{For: time.Minute})
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "KSC ("+far4+") could be reached before and not any more")
	if isolated(t, w).On {
		t.Error("isolated without KSC")
	}
	w.testOnlyArmed = nil
	// What could not be reached before either is no reason to let an intruder go on.
	isolate(t, w, Isolation{For: time.Minute}, "could not be reached before either: KSC")
}

func TestIsolationIsTakenBackWhenForeignAddressesStillAnswer(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	w := newWall(t)
	w.testOnlyArmed = func() {
		// The rules read back, but the traffic does not come by the one that refuses: the addresses are our own.
		up(t, "near", "192.0.2.1/32", "198.51.100.77/32", "203.0.113.1/32", gateway4+"/32")
	}
	_, err := w.Isolate(t.Context(), Isolation{For: time.Minute})
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "192.0.2.1, which is no peer, can still be reached")
	if isolated(t, w).On {
		t.Error("still isolated")
	}
}

func TestIsolationNamesTheMissingRight(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	// Only this thread gives its rights up, and it is never used again.
	runtime.LockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(t, unix.Capset(&hdr, &data[0]))
	w := newWall(t)
	_, err := w.Isolate(t.Context(), Isolation{For: time.Minute})
	wantError(t, err, bridge.Permanent, bridge.ReasonNone, "CAP_NET_ADMIN")
	_, err = w.Release(t.Context(), "o1")
	wantError(t, err, bridge.Permanent, bridge.ReasonNone, "CAP_NET_ADMIN")
}

func TestDryRunsIsolateNobody(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	w := newWall(t, func(cfg *Config) { cfg.DryRun = true; cfg.Allow = []Peer{{Host: far4, Why: "jump host"}} })
	r, err := w.Isolate(t.Context(), Isolation{})
	if err != nil || r.State != bridge.StateShadow || !strings.Contains(r.Detail, "would have isolated this machine for 4h0m0s; kept jump host") {
		t.Errorf("receipt = %+v, %v", r, err)
	}
	r, err = w.Release(t.Context(), "o1")
	if err != nil || r.State != bridge.StateShadow {
		t.Errorf("receipt = %+v, %v", r, err)
	}
	if out := ruleset(t); out != "" {
		t.Errorf("left behind:\n%s", out)
	}
}

func TestTwoHundredCyclesLeaveTheRuleSetAsItWas(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	run(t, "add table ip mine; add chain ip mine input { type filter hook input priority 0; policy accept; }; add rule ip mine input tcp dport 22 accept")
	w := newWall(t, func(cfg *Config) {
		cfg.State = t.TempDir()
		cfg.Allow = []Peer{{Host: far4, Ports: "13000,14000-14010", Protocol: ProtocolAny}, {Host: "2001:db8:7::/64", Direction: DirectionBoth}}
	})
	done(t, w, blockOrder("203.0.113.9", 24*time.Hour), "blocked")
	// Without what changes by itself: counters, and the time an element has left.
	settled := func() string { return run(t, "--stateless", "list", "ruleset") }
	before := settled()
	guarded := newWall(t)
	stop := start(t, guarded)
	begin := time.Now()
	for i := range 200 {
		if i%2 == 0 {
			isolate(t, w, Isolation{For: time.Minute})
			release(t, w, "released")
			continue
		}
		isolate(t, guarded, Isolation{For: time.Minute})
		release(t, guarded, "released")
	}
	t.Logf("200 cycles in %s", time.Since(begin))
	stop()
	if after := settled(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestBlocksAndIsolationDoNotKnowEachOther(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	ksc, other := mustListen(t, &f, far4), mustListen(t, &f, "198.51.100.3")
	w := newWall(t, func(cfg *Config) { cfg.Needs = []Peer{{Host: far4, Ports: portOf(ksc), Why: "KSC"}} })
	done(t, w, blockOrder("198.51.100.3", time.Hour), "blocked until")
	isolate(t, w, Isolation{For: time.Minute})
	done(t, w, blockOrder("203.0.113.7", time.Hour), "blocked until")
	_, err := block(t.Context(), w, blockOrder(far4, time.Minute))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedAddress, "is KSC")
	_ = mustDial(t, nil, ksc.Addr().String())
	release(t, w, "released")
	refused(t, other.Addr().String())
	if blocks, err := w.Blocked(t.Context()); err != nil || len(blocks) != 2 {
		t.Errorf("blocked = %v, %v, want both", blocks, err)
	}
	must(t, w.Unblock(t.Context(), "198.51.100.3"))
	_ = mustDial(t, nil, other.Addr().String())
}

func TestForwardedTrafficIsCut(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	third, fd := newFar(t)
	plug(t, "bridge0", "eth0", fd)
	up(t, "bridge0", "192.168.7.1/24")
	third.do(func() { up(t, "eth0", "192.168.7.2/24"); must(t, addRoute("0.0.0.0", "192.168.7.1")) })
	f.do(func() { must(t, addRoute("192.168.7.0", near4)) })
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	theirs := mustListen(t, &f, far4)
	through := mustDial(t, &third, theirs.Addr().String())
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Minute})
	if err := talk(through); err == nil {
		t.Error("a container's connection still carries bytes")
	}
	shut(t, third, theirs.Addr().String())
	release(t, w, "released")
	_ = mustDial(t, &third, theirs.Addr().String())
}

func TestAStubOnLoopbackStillFindsItsNameServer(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWNS) {
		return
	}
	f := cable(t)
	const upstream = "/run/systemd/resolve/resolv.conf"
	conf := t.TempDir() + "/resolv.conf"
	must(t, os.WriteFile(conf, []byte("nameserver 127.0.0.53\n"), 0o600))
	must(t, unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	must(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	must(t, os.MkdirAll("/run/systemd/resolve", 0o755))
	must(t, os.WriteFile(upstream, []byte("nameserver "+far4+"\n"), 0o600))
	serve := func(addr string) *net.UDPConn {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			b := make([]byte, 512)
			for {
				n, from, err := c.ReadFromUDP(b)
				if err != nil {
					return
				}
				_, _ = c.WriteToUDP(b[:n], from)
			}
		}()
		return c
	}
	ask := func(addr string) error {
		c, err := net.Dial("udp", addr)
		must(t, err)
		defer c.Close()
		return talk(c)
	}
	serve("127.0.0.53:53")
	f.do(func() { serve(far4 + ":53"); serve(far4 + ":5353") })
	for _, addr := range []string{"127.0.0.53:53", far4 + ":53", far4 + ":5353"} {
		if err := ask(addr); err != nil {
			t.Fatalf("before: %s: %v", addr, err)
		}
	}
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Minute})
	for _, addr := range []string{"127.0.0.53:53", far4 + ":53"} {
		if err := ask(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := ask(far4 + ":5353"); err == nil {
		t.Error("another port of the name server answers")
	}
	// Whoever writes another server into the list does not get a way out.
	must(t, os.WriteFile(upstream, []byte("nameserver 198.51.100.3\n"), 0o600))
	f.do(func() { serve("198.51.100.3:53") })
	if err := ask("198.51.100.3:53"); err == nil {
		t.Error("a name server that came later answers")
	}
	deaf := newWall(t, func(cfg *Config) { cfg.NoDNS = true })
	isolate(t, deaf, Isolation{For: time.Minute})
	if err := ask(far4 + ":53"); err == nil {
		t.Error("the name server answers although the settings cut it off")
	}
}

func TestALongListOfPeersFits(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	w := newWall(t, func(cfg *Config) {
		for i := range maxPeers - 1 {
			cfg.Allow = append(cfg.Allow, Peer{
				Host: fmt.Sprintf("10.%d.%d.0/24", i/200, i%200), Ports: fmt.Sprintf("%d,%d-%d", i+1, 2000+i, 3000+i),
				Protocol: ProtocolAny, Direction: DirectionBoth,
			})
		}
		cfg.Allow = append(cfg.Allow, Peer{Host: far4, Ports: portOf(theirs)})
	})
	begin := time.Now()
	isolate(t, w, Isolation{For: time.Minute})
	t.Logf("%d peers with ports of their own in %s", maxPeers, time.Since(begin))
	_ = mustDial(t, nil, theirs.Addr().String())
	refused(t, "198.51.100.3:80")
	release(t, w, "released")
}

func TestWhatIsArmedReadsBack(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	for name, cfg := range map[string]Config{
		"nobody":     {},
		"everything": {NTP: true},
		"less":       {NoDNS: true, NoDHCP: true},
	} {
		t.Run(name, func(t *testing.T) {
			passes := []pass{
				{netip.MustParsePrefix("10.0.0.0/24"), nil, ProtocolAny, DirectionBoth},
				{netip.MustParsePrefix("10.0.1.0/24"), nil, ProtocolAny, DirectionBoth},
				{netip.MustParsePrefix("10.0.1.7/32"), nil, ProtocolAny, DirectionBoth},
				{netip.MustParsePrefix("10.0.9.7/32"), nil, ProtocolAny, DirectionBoth},
				{netip.MustParsePrefix("2001:db8::/64"), []portRange{{1, 2}, {9, 65535}}, ProtocolUDP, DirectionIn},
			}
			w := newWall(t, func(c *Config) { *c = cfg })
			must(t, w.arm(t.Context(), passes, time.Minute))
			st, err := w.stands(t.Context(), passes)
			if err != nil || !st.lasts(time.Minute) {
				t.Errorf("stands = %+v, %v", st, err)
			}
			if st, err := w.stands(t.Context(), passes[:4]); err != nil || st.intact {
				t.Errorf("with other peers: %+v, %v", st, err)
			}
			c, err := nftables.New()
			must(t, err)
			els, err := c.GetSetElements(newIsolationRules(passes, &w.cfg).sets[1])
			if err != nil || len(els) != 4 {
				t.Errorf("elements = %v, %v, want two ranges", els, err)
			}
			must(t, w.disarm(t.Context()))
		})
	}
}
