package firewall

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestBlockAddressCutsBothDirectionsUntilItsTimeIsOver(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	for name, c := range map[string]struct{ near, far string }{"IPv4": {near4, far4}, "IPv6": {near6, far6}} {
		t.Run(name, func(t *testing.T) {
			a := newWall(t)
			ours, theirs := mustListen(t, nil, c.near), mustListen(t, &f, c.far)
			outbound, inbound := mustDial(t, nil, theirs.Addr().String()), mustDial(t, &f, ours.Addr().String())

			begin := time.Now()
			done(t, a, blockOrder(c.far, 3*time.Second), "cut 2 connections")
			t.Logf("blocked in %s", time.Since(begin))
			if err := talk(outbound); !errors.Is(err, syscall.ECONNABORTED) {
				t.Errorf("our connection to the blocked address: %v, want ECONNABORTED", err)
			}
			if err := talk(inbound); err == nil {
				t.Error("the connection from the blocked address still carries bytes")
			}
			if _, err := net.DialTimeout("tcp", theirs.Addr().String(), time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("connecting to the blocked address: %v, want ECONNREFUSED at once", err)
			}
			f.do(func() {
				d := net.Dialer{Timeout: 300 * time.Millisecond}
				if c, err := d.Dial("tcp", ours.Addr().String()); err == nil {
					_ = c.Close()
					t.Error("the blocked address can still connect")
				}
			})
			blocks, err := a.Blocked(t.Context())
			if err != nil || len(blocks) != 1 || blocks[0].Prefix.Addr().String() != c.far || blocks[0].Timeout != 3*time.Second || blocks[0].Left <= 0 {
				t.Errorf("blocked = %v, %v", blocks, err)
			}
			agenttest.Eventually(t, "the kernel ends the block by itself", func() bool {
				blocks, err := a.Blocked(t.Context())
				return err == nil && len(blocks) == 0
			})
			_ = mustDial(t, nil, theirs.Addr().String())
			_ = mustDial(t, &f, ours.Addr().String())
		})
	}
}

func TestBlockAddressCutsIPv4OfSocketsThatSpeakBoth(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	a := newWall(t)
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echo(l)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := mustDial(t, &f, net.JoinHostPort(near4, port))
	done(t, a, blockOrder(far4, time.Minute), "cut 1 connections")
	if err := talk(c); err == nil {
		t.Error("the connection still carries bytes")
	}
}

func TestBlockAddressRenewsAndNeverShortens(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	a := newWall(t)
	for _, step := range []struct {
		address string
		d       time.Duration
		detail  string
		left    map[string]time.Duration
	}{
		{"203.0.113.7", 0, "203.0.113.7 blocked until ", map[string]time.Duration{"203.0.113.7/32": defaultBlockFor}},
		{"203.0.113.7", time.Hour, "203.0.113.7 blocked until ", map[string]time.Duration{"203.0.113.7/32": time.Hour}},
		{"203.0.113.7", time.Minute, "already blocked for another 1h0m0s", map[string]time.Duration{"203.0.113.7/32": time.Hour}},
		{"::ffff:203.0.113.7", time.Minute, "already blocked", map[string]time.Duration{"203.0.113.7/32": time.Hour}},
		{"198.18.0.0/25", time.Minute, "198.18.0.0/25 blocked until", map[string]time.Duration{"203.0.113.7/32": time.Hour, "198.18.0.0/25": time.Minute}},
		{"198.18.0.0/25", 2 * time.Minute, "198.18.0.0/25 blocked until", map[string]time.Duration{"203.0.113.7/32": time.Hour, "198.18.0.0/25": 2 * time.Minute}},
		{"198.18.0.9", time.Minute, "already blocked for another 2m0s by 198.18.0.0/25", map[string]time.Duration{"203.0.113.7/32": time.Hour, "198.18.0.0/25": 2 * time.Minute}},
		{"198.18.0.9", time.Hour, "198.18.0.9 blocked until", map[string]time.Duration{"203.0.113.7/32": time.Hour, "198.18.0.0/25": 2 * time.Minute, "198.18.0.9/32": time.Hour}},
		{"198.18.0.0/24", time.Minute, "198.18.0.0/24 blocked until", map[string]time.Duration{"203.0.113.7/32": time.Hour, "198.18.0.0/24": 2 * time.Minute, "198.18.0.9/32": time.Hour}},
		{"2001:db8:9::/64", time.Minute, "blocked until", map[string]time.Duration{"203.0.113.7/32": time.Hour, "198.18.0.0/24": 2 * time.Minute, "198.18.0.9/32": time.Hour, "2001:db8:9::/64": time.Minute}},
	} {
		t.Logf("block %s for %s", step.address, step.d)
		done(t, a, blockOrder(step.address, step.d), step.detail)
		blocks, err := a.Blocked(t.Context())
		if err != nil || len(blocks) != len(step.left) {
			t.Fatalf("after %s: blocked = %v, %v, want %v", step.address, blocks, err, step.left)
		}
		for _, b := range blocks {
			want, ok := step.left[b.Prefix.String()]
			if !ok || b.Left > want || b.Left < want-10*time.Second {
				t.Errorf("after %s: %s has %s left, want %s", step.address, b.Prefix, b.Left, want)
			}
		}
	}
	_, err := block(t.Context(), a, blockOrder("198.18.0.64/26", time.Hour))
	wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "lies in 198.18.0.0/24")

	if err := a.Unblock(t.Context(), "203.0.113.7"); err != nil {
		t.Fatal(err)
	}
	if err := a.Unblock(t.Context(), "203.0.113.7"); !errors.Is(err, ErrNotBlocked) {
		t.Errorf("unblock again = %v, want ErrNotBlocked", err)
	}
	if err := a.Unblock(t.Context(), "198.18.0.0/24"); err != nil {
		t.Fatal(err)
	}
	if err := a.Unblock(t.Context(), "nonsense"); err == nil {
		t.Error("unblock of nonsense has no error")
	}
	blocks, err := a.Blocked(t.Context())
	if err != nil || len(blocks) != 2 {
		t.Errorf("blocked = %v, %v, want the two that were left alone", blocks, err)
	}
}

func TestBlockAddressOfAPrefixEndsByItself(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	// The prefix must hold neither our address nor the gateway.
	const prefix = "198.51.100.2/31"
	a := newWall(t)
	done(t, a, blockOrder(prefix, time.Second), "blocked until")
	if _, err := net.DialTimeout("tcp", theirs.Addr().String(), time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting into the blocked prefix: %v, want ECONNREFUSED", err)
	}
	agenttest.Eventually(t, "the block ends", func() bool {
		blocks, err := a.Blocked(t.Context())
		return err == nil && len(blocks) == 0
	})
	_ = mustDial(t, nil, theirs.Addr().String())
	done(t, a, blockOrder(prefix, time.Minute), "blocked until")
}

func TestBlockAddressRefusesWhatTheMachineLivesBy(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWNS) {
		return
	}
	_ = cable(t)
	conf := t.TempDir() + "/resolv.conf"
	if err := os.WriteFile(conf, []byte("nameserver 192.0.2.53\nnameserver 2001:db8:53::53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	a := newWall(t, func(c *Config) {
		c.Never = []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25"), netip.MustParsePrefix("::ffff:192.0.2.200/128")}
		c.Own = []netip.Addr{netip.MustParseAddr("203.0.113.1")}
	})
	for name, c := range map[string]struct {
		address string
		reason  bridge.Reason
		text    string
	}{
		"own address":             {near4, bridge.ReasonProtectedAddress, "address of this machine"},
		"own IPv6 address":        {near6, bridge.ReasonProtectedAddress, "address of this machine"},
		"own address in a prefix": {"2001:db8::/64", bridge.ReasonProtectedAddress, "address of this machine"},
		"named own address":       {"203.0.113.1", bridge.ReasonProtectedAddress, "is this machine"},
		"gateway":                 {gateway4, bridge.ReasonProtectedAddress, "gateway"},
		"gateway in a prefix":     {"198.51.100.240/28", bridge.ReasonProtectedAddress, "gateway"},
		"name server":             {"192.0.2.53", bridge.ReasonProtectedAddress, "name server"},
		"IPv6 name server":        {"2001:db8:53::/64", bridge.ReasonProtectedAddress, "name server"},
		"protected":               {"203.0.113.200", bridge.ReasonProtectedAddress, "203.0.113.128/25"},
		"wider than protected":    {"203.0.113.0/24", bridge.ReasonProtectedAddress, "203.0.113.128/25"},
		"protected, mapped":       {"192.0.2.200", bridge.ReasonProtectedAddress, "settings protect"},
		"link-local":              {"fe80::5", bridge.ReasonProtectedAddress, "link-local"},
		"loopback":                {"127.0.0.1", bridge.ReasonInvalid, "loopback"},
		"mapped loopback":         {"::ffff:127.0.0.1", bridge.ReasonInvalid, "loopback"},
		"multicast":               {"224.0.0.1", bridge.ReasonInvalid, "multicast"},
		"unspecified":             {"0.0.0.0", bridge.ReasonInvalid, "unspecified"},
		"wide":                    {"192.0.2.0/23", bridge.ReasonInvalid, ""},
		"a name":                  {"evil.example", bridge.ReasonInvalid, ""},
		"nothing":                 {"", bridge.ReasonInvalid, ""},
		"injection":               {"203.0.113.7; flush ruleset", bridge.ReasonInvalid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := block(t.Context(), a, blockOrder(c.address, time.Minute))
			wantError(t, err, bridge.Permanent, c.reason, c.text)
		})
	}
	for _, d := range []time.Duration{-time.Second, time.Millisecond, maxBlockFor + 1} {
		_, err := block(t.Context(), a, blockOrder("203.0.113.7", d))
		wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "a block lasts between")
	}
	if blocks, err := a.Blocked(t.Context()); err != nil || len(blocks) != 0 {
		t.Errorf("blocked = %v, %v, want nothing", blocks, err)
	}
}

func TestBlockAddressMendsATableSomebodyDamaged(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	rules := newBlockRules()
	for name, damage := range map[string]func(c *nftables.Conn){
		"rules flushed":      func(c *nftables.Conn) { c.FlushChain(rules.chains[1]) },
		"chain deleted":      func(c *nftables.Conn) { c.FlushChain(rules.chains[0]); c.DelChain(rules.chains[0]) },
		"table deleted":      func(c *nftables.Conn) { c.DelTable(rules.table) },
		"everything flushed": func(c *nftables.Conn) { c.FlushRuleset() },
		"foreign table": func(c *nftables.Conn) {
			c.DelTable(rules.table)
			c.AddTable(rules.table)
			_ = c.AddSet(&nftables.Set{Table: rules.table, Name: "blocked4", KeyType: nftables.TypeIP6Addr}, nil)
			c.AddChain(&nftables.Chain{Table: rules.table, Name: "output"})
		},
		"half a table": func(c *nftables.Conn) {
			c.DelTable(rules.table)
			c.AddTable(rules.table)
			_ = c.AddSet(rules.sets[0], nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newWall(t)
			done(t, a, blockOrder("203.0.113.9", time.Hour), "blocked")
			c, err := nftables.New()
			if err != nil {
				t.Fatal(err)
			}
			damage(c)
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			_ = mustDial(t, nil, theirs.Addr().String())
			done(t, a, blockOrder(far4, time.Minute), "blocked until")
			if _, err := net.DialTimeout("tcp", theirs.Addr().String(), time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("connecting to the blocked address: %v, want ECONNREFUSED", err)
			}
			blocks, err := a.Blocked(t.Context())
			kept := strings.HasSuffix(name, "flushed") && name != "everything flushed" || name == "chain deleted"
			if err != nil || kept != (len(blocks) == 2) {
				t.Errorf("blocked = %v, %v; the earlier block kept = %v, want %v", blocks, err, len(blocks) == 2, kept)
			}
			if err := a.Unblock(t.Context(), far4); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestF39BlockAddressTakesBackWhatDoesNotReadBack(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	rules := newBlockRules()
	state := func() *blockState {
		t.Helper()
		c, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		st, err := rules.readBlocks(c)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	sabotage := func() {
		c, err := nftables.New()
		if err != nil {
			t.Error(err)
			return
		}
		c.FlushChain(rules.chains[0])
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
	}
	a := newWall(t)
	a.testOnlyApplied = sabotage
	_, err := block(t.Context(), a, blockOrder("203.0.113.7", time.Minute))
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "was taken back")
	if st := state(); st.exists {
		t.Errorf("the table of an attempt that was taken back is still there: %+v", st)
	}

	done(t, newWall(t), blockOrder("203.0.113.7", time.Hour), "blocked until")
	_, err = block(t.Context(), a, blockOrder("203.0.113.8", time.Minute))
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "was taken back")
	if st := state(); !st.intact || len(st.blocks) != 1 || st.blocks[0].Prefix.String() != "203.0.113.7/32" || st.blocks[0].Left < 59*time.Minute {
		t.Errorf("after taking back: %+v, want the earlier block alone", st)
	}
}

func TestBlockAddressNamesTheMissingRight(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	// Only this thread gives its rights up, and it is never used again.
	runtime.LockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	a := newWall(t)
	o := blockOrder("203.0.113.7", time.Minute)
	_, err := block(t.Context(), a, o)
	wantError(t, err, bridge.Permanent, bridge.ReasonNone, "CAP_NET_ADMIN")
	if _, err := a.Blocked(t.Context()); err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("blocked = %v, want an error that names CAP_NET_ADMIN", err)
	}
}

func TestManyBlocksAtOnceAllHold(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	a := newWall(t)
	const many = 64
	errs := make(chan error, many)
	begin := time.Now()
	for i := range many {
		go func() {
			addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String()
			_, err := block(context.Background(), a, blockOrder(addr, time.Minute))
			errs <- err
		}()
	}
	for range many {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d blocks in %s", many, time.Since(begin))
	if blocks, err := a.Blocked(t.Context()); err != nil || len(blocks) != many {
		t.Errorf("%d blocks, %v, want %d", len(blocks), err, many)
	}
}
