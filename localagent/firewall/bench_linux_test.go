package firewall

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// benchEnv says that this program runs in the network namespace its parent made.
const benchEnv = "FIREWALL_BENCH_INSIDE"

// away runs the calling benchmark again in a child with a network namespace of its own and returns true there; in the parent
// it reports the child's figures and returns false. A thread of its own would not do: connections are tried on any thread.
func away(b *testing.B) bool {
	b.Helper()
	agenttest.NeedRoot(b)
	if os.Getenv(benchEnv) != "" {
		_ = cable(b)
		return true
	}
	benchtime := flag.Lookup("test.benchtime").Value.String()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$", "-test.bench=^"+b.Name()+"$", "-test.benchtime="+benchtime)
	cmd.Env = append(os.Environ(), benchEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("inside: %v\n%s", err, out)
	}
	found := false
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], b.Name()) {
			continue
		}
		found = true
		for pair := range slices.Chunk(fields[2:], 2) {
			figure, err := strconv.ParseFloat(pair[0], 64)
			must(b, err)
			b.ReportMetric(figure, pair[1])
		}
	}
	if !found {
		b.Fatalf("inside: no figures\n%s", out)
	}
	return false
}

func BenchmarkIsolateAndRelease(b *testing.B) {
	if !away(b) {
		return
	}
	w := newWall(b, func(cfg *Config) {
		cfg.HostOnly = true
		cfg.State = b.TempDir()
		cfg.Allow = []Peer{{Host: far4, Ports: "13000,14000"}, {Host: "10.1.0.0/16", Protocol: ProtocolAny, Direction: DirectionBoth}}
	})
	var on, off []time.Duration
	for b.Loop() {
		begin := time.Now()
		if _, err := w.Isolate(context.Background(), Isolation{For: time.Minute}); err != nil {
			b.Fatal(err)
		}
		on, begin = append(on, time.Since(begin)), time.Now()
		if _, err := w.Release(context.Background(), "o1"); err != nil {
			b.Fatal(err)
		}
		off = append(off, time.Since(begin))
	}
	spread(b, "isolate", on)
	spread(b, "release", off)
}

// spread reports the median and the best of some times.
func spread(b *testing.B, what string, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(times[len(times)/2].Seconds()*1e3, what+"-p50-ms")
	b.ReportMetric(times[0].Seconds()*1e3, what+"-min-ms")
}

func BenchmarkExtendThatChangesNothing(b *testing.B) {
	if !away(b) {
		return
	}
	w := newWall(b, func(cfg *Config) { cfg.HostOnly = true })
	isolate(b, w, Isolation{For: time.Hour})
	until := time.Now().Add(time.Minute)
	for b.Loop() {
		must(b, w.Extend(context.Background(), until))
	}
}

func BenchmarkBlockOneAddress(b *testing.B) {
	if !away(b) {
		return
	}
	w := newWall(b)
	addr := netip.MustParseAddr("10.0.0.1")
	var times []time.Duration
	for b.Loop() {
		begin := time.Now()
		if _, err := block(context.Background(), w, blockOrder(addr.String(), time.Minute)); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
		addr = addr.Next()
		if addr.As4()[2] == 1 {
			b.StopTimer()
			addr = netip.MustParseAddr("10.0.0.1")
			clearBlocks(b)
			b.StartTimer()
		}
	}
	spread(b, "block", times)
}

func BenchmarkBlock5000Addresses(b *testing.B) {
	if !away(b) {
		return
	}
	w := newWall(b)
	list := make([]netip.Prefix, 0, 5000)
	for a := netip.MustParseAddr("10.0.0.1"); len(list) < cap(list); a = a.Next() {
		list = append(list, netip.PrefixFrom(a, 32))
	}
	var times []time.Duration
	for b.Loop() {
		begin := time.Now()
		got, err := w.BlockMany(context.Background(), list, time.Hour)
		if err != nil || got.Blocked != len(list) {
			b.Fatalf("blocked %d, %v", got.Blocked, err)
		}
		times = append(times, time.Since(begin))
		b.StopTimer()
		clearBlocks(b)
		b.StartTimer()
	}
	spread(b, "5000", times)
}

func clearBlocks(t testing.TB) {
	t.Helper()
	must(t, change(func(c *nftables.Conn) error { c.DelTable(newBlockRules().table); return nil }))
}
