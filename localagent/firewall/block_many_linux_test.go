package firewall

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		if !strings.Contains(s, "/") {
			a := netip.MustParseAddr(s)
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// left returns what is blocked, with the time rounded to minutes.
func left(t *testing.T, w *Firewall) map[string]time.Duration {
	t.Helper()
	blocks, err := w.Blocked(t.Context())
	must(t, err)
	out := make(map[string]time.Duration)
	for _, b := range blocks {
		out[targetText(b.Prefix)] = b.Left.Round(time.Minute)
	}
	return out
}

func TestAListIsBlockedAtOnceWithoutWhatMustNotBe(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	flow := mustDial(t, nil, theirs.Addr().String())
	w := newWall(t)
	done(t, w, blockOrder("203.0.113.5", 3*time.Hour), "blocked")
	done(t, w, blockOrder("203.0.113.6", time.Minute), "blocked")
	got, err := w.BlockMany(t.Context(), prefixes(
		far4, "203.0.113.5", "203.0.113.6", "203.0.113.6", "203.0.113.7", "2001:db8:9::/64", "2001:db8:9::7", "192.0.2.0/25", "192.0.2.0/24",
		near4, gateway4, "127.0.0.1", "10.0.0.0/8", "10.0.0.1/24",
	), time.Hour)
	if err != nil || got.Blocked != 8 || got.Already != 1 || len(got.Refused) != 5 || got.Cut != 1 {
		t.Fatalf("bulk = %+v (%s), %v", got, got, err)
	}
	for _, r := range got.Refused {
		if r.Err == nil {
			t.Errorf("%s is refused without a reason", r.Prefix)
		}
	}
	if err := talk(flow); err == nil {
		t.Error("a connection with a blocked address still carries bytes")
	}
	refused(t, theirs.Addr().String())
	want := map[string]time.Duration{
		far4: time.Hour, "203.0.113.5": 3 * time.Hour, "203.0.113.6": time.Hour, "203.0.113.7": time.Hour,
		"2001:db8:9::/64": time.Hour, "2001:db8:9::7": time.Hour, "192.0.2.0/24": time.Hour,
	}
	have := left(t, w)
	for k, v := range want {
		if have[k] != v {
			t.Errorf("%s is blocked for %s, want %s", k, have[k], v)
		}
	}
	if len(have) != len(want) {
		t.Errorf("blocked = %v, want %v", have, want)
	}
	if _, err := w.BlockMany(t.Context(), make([]netip.Prefix, maxBulk+1), 0); err == nil {
		t.Error("an endless list is taken")
	}
	dry := newWall(t, func(c *Config) { c.DryRun = true })
	if got, err := dry.BlockMany(t.Context(), prefixes("203.0.113.99"), 0); err != nil || !got.DryRun || got.Blocked != 0 {
		t.Errorf("dry run = %+v, %v", got, err)
	}
}

func TestF39AListThatDoesNotReadBackIsTakenBackWhole(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	w := newWall(t)
	done(t, w, blockOrder("203.0.113.5", time.Hour), "blocked")
	w.testOnlyApplied = func() {
		rules := newBlockRules()
		must(t, change(func(c *nftables.Conn) error { c.FlushChain(rules.chains[1]); return nil }))
	}
	_, err := w.BlockMany(t.Context(), prefixes("203.0.113.6", "203.0.113.7"), time.Hour)
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "were taken back")
	if have := left(t, w); len(have) != 1 || have["203.0.113.5"] != time.Hour {
		t.Errorf("blocked = %v, want the earlier block alone", have)
	}
}

func TestALongTableIsNeitherReadTwiceNorBelievedBlindly(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	w := newWall(t)
	list := make([]netip.Prefix, 0, 5000)
	for a := netip.MustParseAddr("10.0.0.1"); len(list) < cap(list); a = a.Next() {
		list = append(list, netip.PrefixFrom(a, 32))
	}
	got, err := w.BlockMany(t.Context(), list, time.Hour)
	if err != nil || got.Blocked != len(list) {
		t.Fatalf("bulk = %s, %v", got, err)
	}
	done(t, w, blockOrder("203.0.113.1", time.Hour), "blocked until")
	if w.platform.memory == nil {
		t.Fatal("the table was read, and is not remembered")
	}
	done(t, w, blockOrder("203.0.113.2", time.Hour), "blocked until")
	done(t, w, blockOrder("203.0.113.2", time.Minute), "already blocked")
	done(t, w, blockOrder("203.0.113.2", 2*time.Hour), "blocked until")
	// Somebody else changes the table: the memory must not be believed.
	rules := newBlockRules()
	must(t, change(func(c *nftables.Conn) error { c.FlushChain(rules.chains[0]); return nil }))
	done(t, w, blockOrder("203.0.113.3", time.Hour), "blocked until")
	c, err := nftables.New()
	must(t, err)
	st, err := rules.readBlocks(c)
	if err != nil || !st.intact || len(st.blocks) != 5003 {
		t.Errorf("intact = %v with %d blocks, %v; want an intact table with 5003", st.intact, len(st.blocks), err)
	}
	// And by an address less: the count says so, too.
	must(t, w.Unblock(t.Context(), "203.0.113.3"))
	done(t, w, blockOrder("203.0.113.3", time.Hour), "blocked until")
	if have := left(t, w); have["203.0.113.3"] != time.Hour || have["203.0.113.2"] != 2*time.Hour {
		t.Errorf("left = %s, %s", have["203.0.113.3"], have["203.0.113.2"])
	}
}
