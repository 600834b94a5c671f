package store

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// benchAdmission is an alert of about 600 bytes with one order that carries its intent.
func benchAdmission(n int64) bridge.Admission {
	id := fmt.Sprintf("a%d", n)
	task := bridge.TerminateProcess{Path: `C:\Users\Public\invoice.exe`, SHA256: strings.Repeat("a", 64)}
	host := fmt.Sprintf("ws%03d.corp.local", n%500)
	orderID, err := bridge.NewOrderID("bus", id, "office-spawns-shell", task, host)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	return bridge.Admission{
		Alerts: []bridge.Alert{{
			ID: id, Source: "bus", Preset: "python-edr", Received: now, Level: "HIGH", Title: "office spawns shell", Host: host,
			Raw: []byte(`{"id":"` + id + `","pad":"` + strings.Repeat("x", 580) + `"}`),
		}},
		Orders: []bridge.Order{{
			ID: orderID, AlertID: id, Source: "bus", Rule: "office-spawns-shell", At: "rules.d/office.yaml:3", Host: host, Task: task,
			Mode: bridge.ModeEnforce, Via: bridge.ViaAuto, Created: now, NotAfter: now.Add(15 * time.Minute),
			State: bridge.StateSending, Executor: "ksc",
			Intent: bridge.Intent{
				Target: host, Second: now,
				Body: `{"task":"terminateProcess","params":{"md5hash":"","sha256hash":"` + strings.Repeat("a", 64) +
					`","path":"C:\\Users\\Public\\invoice.exe","caseSensitive":false},"n":"` + id + `"}`,
			},
		}},
	}
}

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
	s, err := Open(b.Context(), Config{Dir: b.TempDir()})
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
		if _, err := s.Admit(b.Context(), benchAdmission(n)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((time.Since(start)/time.Duration(n) - bare).Microseconds()), "µs-above-sync")
	b.ReportMetric(float64(bare.Microseconds()), "µs-bare-sync")
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1e3/float64(n), "cpu-µs/alert")
}

func BenchmarkAdmitAndMove64(b *testing.B)  { benchmarkAdmitAndMove(b, 64) }
func BenchmarkAdmitAndMove128(b *testing.B) { benchmarkAdmitAndMove(b, 128) }

// benchmarkAdmitAndMove admits alerts and moves their orders to accepted from many goroutines.
func benchmarkAdmitAndMove(b *testing.B, goroutines int) {
	s := openBench(b)
	ready := make([]bridge.Admission, b.N)
	for i := range ready {
		ready[i] = benchAdmission(int64(i))
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

// coldChild is what a short-lived process does with an existing store.
func coldChild(dir string) {
	ctx := context.Background()
	tb := childTB{}
	a := benchAdmission(time.Now().UnixNano())
	times := []time.Time{time.Now()}
	s, err := Open(ctx, Config{Dir: dir, Owner: OwnerSend})
	times = append(times, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	out, err := s.Admit(ctx, a)
	times = append(times, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	o := out[0].Order
	o.State = bridge.StateAccepted
	if _, err := s.Move(ctx, o, bridge.StateSending); err != nil {
		tb.Fatal(err)
	}
	times = append(times, time.Now())
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	times = append(times, time.Now())
	for i := range times[1:] {
		fmt.Fprintln(os.Stdout, times[i+1].Sub(times[i]).Microseconds())
	}
}

// BenchmarkColdProcess times a fresh process on an existing store, with and without another process that has it open.
func BenchmarkColdProcess(b *testing.B) {
	for name, shared := range map[string]bool{"alone": false, "beside-a-running-bridge": true} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			s, err := Open(b.Context(), Config{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			for i := range int64(2000) {
				if _, err := s.Admit(b.Context(), benchAdmission(i)); err != nil {
					b.Fatal(err)
				}
			}
			if !shared {
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			} else {
				defer s.Close()
			}
			self, err := os.Executable()
			if err != nil {
				b.Fatal(err)
			}
			var sums [4]float64
			for b.Loop() {
				out, err := exec.CommandContext(b.Context(), self, childCold, dir).Output()
				if err != nil {
					b.Fatal(err)
				}
				for i, line := range strings.Fields(string(out)) {
					us, err := strconv.ParseFloat(line, 64)
					if err != nil {
						b.Fatal(err)
					}
					sums[i] += us
				}
			}
			for i, what := range []string{"µs-open", "µs-admit", "µs-move", "µs-close"} {
				b.ReportMetric(sums[i]/float64(b.N), what)
			}
		})
	}
}
