package store

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func openBench(b *testing.B) *Store {
	b.Helper()
	return openPolicy(b, bridge.Policy{})
}

func openPolicy(b *testing.B, p bridge.Policy) *Store {
	b.Helper()
	s, err := Open(b.Context(), Config{Dir: b.TempDir(), Policy: p})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// bareSync times the least that durability costs here: 2 KiB written and synced into a file of its full length.
func bareSync(b *testing.B) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	const rounds = 200
	for i := range int64(rounds) {
		if _, err := f.WriteAt(block, i*4096); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	for i := range int64(rounds) {
		if _, err := f.WriteAt(block, i*4096); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / rounds
}

// BenchmarkAdmitAlone times one admission at a time and says how far that is above a bare sync.
func BenchmarkAdmitAlone(b *testing.B) {
	s := openBench(b)
	bare := bareSync(b)
	var n int64
	start, cpu := time.Now(), cpuTime(b)
	for b.Loop() {
		n++
		if _, err := s.Admit(b.Context(), benchAdmission(b, n)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((time.Since(start)/time.Duration(n) - bare).Microseconds()), "µs-above-sync")
	b.ReportMetric(float64(bare.Microseconds()), "µs-bare-sync")
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1e3/float64(n), "cpu-µs/alert")
}

func BenchmarkAdmitAndMove64(b *testing.B)  { benchmarkAdmitAndMove(b, openBench(b), 64) }
func BenchmarkAdmitAndMove128(b *testing.B) { benchmarkAdmitAndMove(b, openBench(b), 128) }

// BenchmarkAdmitAndMoveWatched128 has the ledger follow every order, BenchmarkAdmitAndMoveCharged128 has it write a fact for each.
func BenchmarkAdmitAndMoveWatched128(b *testing.B) {
	benchmarkAdmitAndMove(b, openPolicy(b, bridge.Policy{Live: bridge.LiveTasks{Hold: 1 << 30}}), 128)
}

func BenchmarkAdmitAndMoveCharged128(b *testing.B) {
	benchmarkAdmitAndMove(b, openPolicy(b, bridge.Policy{Limits: []bridge.Limit{{All: true, Max: 1 << 30, Per: time.Hour}}}), 128)
}

// BenchmarkAdmitAndMoveBig64 does the same over a million finished orders (aim: ≥ 80 % of the throughput of an empty store).
func BenchmarkAdmitAndMoveBig64(b *testing.B) { benchmarkAdmitAndMove(b, openBig(b), 64) }

// benchmarkAdmitAndMove admits alerts and moves their orders to accepted from many goroutines.
func benchmarkAdmitAndMove(b *testing.B, s *Store, goroutines int) {
	ready := make([]bridge.Admission, b.N)
	unique := time.Now().UnixNano() // a large store may be used by several runs
	for i := range ready {
		ready[i] = benchAdmission(b, unique+int64(i))
	}
	var n atomic.Int64
	b.SetParallelism(goroutines / 2)
	b.ResetTimer()
	cpu := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			out, err := s.Admit(b.Context(), ready[n.Add(1)-1])
			if err != nil {
				b.Error(err)
				return
			}
			o := out[0].Order
			o.State, o.Attempts, o.Ref = bridge.StateAccepted, 1, "4711"
			if _, err := s.Move(b.Context(), o, bridge.StateSending); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1e3/float64(n.Load()), "cpu-µs/alert")
	b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "alerts/s")
}
