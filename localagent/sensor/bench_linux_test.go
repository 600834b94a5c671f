package sensor

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stopwatch is the system, and notes the time of the event that is looked at.
type stopwatch struct {
	system
	mu   sync.Mutex // guards last
	last uint64
}

func (w *stopwatch) after(start, when uint64) bool {
	w.mu.Lock()
	w.last = when
	w.mu.Unlock()
	return w.system.after(start, when)
}

func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

// BenchmarkEventToAlert takes the time from the kernel's stamp of an exec to the call of Emit, of one child after the other that lives
// 20 ms; aim: a median of 0.5 ms at most.
func BenchmarkEventToAlert(b *testing.B) {
	needEvents(b)
	var took []time.Duration
	w := &stopwatch{}
	got := make(chan struct{}, 1)
	cfg := noLimits(Config{Spool: Spool{Dir: b.TempDir()}})
	c := &catcher{}
	cfg.Emit = map[string]Emit{"catcher": func(ctx2 context.Context, doc []byte) error {
		now := monotonic()
		w.mu.Lock()
		when := w.last
		w.mu.Unlock()
		if err := c.emit(ctx2, doc); err != nil {
			return err
		}
		took = append(took, time.Duration(now-when))
		got <- struct{}{}
		return nil
	}}
	startSensor(b, cfg, func(s *Sensor) { s.world = w })
	parent := parentProgram(b, "winword.exe")
	child := program(b, "sleep", "powershell.exe")
	for b.Loop() {
		cmd := exec.Command(parent, child, "0.02")
		cmd.Env = []string{helperEnv + "=1"}
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		select {
		case <-got:
		case <-time.After(10 * time.Second):
			b.Fatal("no alert")
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), "µs-p95")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "µs-max")
}

// BenchmarkHundredStartsASecond takes the processor time of the sensor while another process starts 100 programs a second, none of
// them suspicious; aim: 1 % of one processor at most. The same with every one suspicious stands beside it.
func BenchmarkHundredStartsASecond(b *testing.B) {
	for _, c := range []struct{ name, parent string }{{"quiet", "builder"}, {"all suspicious", "winword.exe"}} {
		b.Run(c.name, func(b *testing.B) {
			needEvents(b)
			caught := &catcher{}
			s := startSensor(b, noLimits(Config{Emit: caught.emits(), Spool: Spool{Dir: b.TempDir()}, Baseline: Baseline{Enabled: true}}))
			parent, child := parentProgram(b, c.parent), program(b, "true", "powershell.exe")
			var used, span time.Duration
			execs := uint64(0)
			for b.Loop() {
				cmd := exec.Command(parent, child)
				cmd.Env = []string{helperEnv + "=200", helperEnv + "_PAUSE=9ms"}
				out, err := os.CreateTemp(b.TempDir(), "out")
				if err != nil {
					b.Fatal(err)
				}
				cmd.Stdout = out
				before, from, at := s.Status().Execs, cpuTime(b), time.Now()
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				used += cpuTime(b) - from
				span += time.Since(at)
				execs += s.Status().Execs - before
				_ = out.Close()
			}
			b.ReportMetric(100*used.Seconds()/span.Seconds(), "%cpu")
			b.ReportMetric(float64(execs)/span.Seconds(), "exec/s")
			b.ReportMetric(float64(used.Microseconds())/float64(execs), "µs-cpu/exec")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
