package localagent

import (
	"errors"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// The budget: 50 µs from Execute to the signal, for an order that names its process by pid.

func benchVictim(b *testing.B, image string) (*exec.Cmd, int) {
	b.Helper()
	cmd := exec.Command(image, "3600")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd, cmd.Process.Pid
}

// BenchmarkDecideByPID is everything Execute does before the signal, and the text of the receipt.
func BenchmarkDecideByPID(b *testing.B) {
	a := newAgent(b, func(c *Config) { c.DryRun = true })
	v := sleeper(b, agenttest.Program(b, "sleep", "bench"))
	o := about(b, a, v)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Execute(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTerminateByPID is one order from Execute to the exit seen.
func BenchmarkTerminateByPID(b *testing.B) {
	a := newAgent(b)
	image := agenttest.Program(b, "sleep", "bench")
	if err := a.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	var times []time.Duration
	for b.Loop() {
		b.StopTimer()
		cmd, pid := benchVictim(b, image)
		o := about(b, a, &victim{pid: pid})
		b.StartTimer()
		begin := time.Now()
		if _, err := a.Execute(b.Context(), o); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
		b.StopTimer()
		_ = cmd.Wait()
		b.StartTimer()
	}
	report(b, times)
}

// BenchmarkBarePidfdKill is the least a program can do: open, signal, wait.
func BenchmarkBarePidfdKill(b *testing.B) {
	image := agenttest.Program(b, "sleep", "bench")
	var times []time.Duration
	for b.Loop() {
		b.StopTimer()
		cmd, pid := benchVictim(b, image)
		b.StartTimer()
		begin := time.Now()
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
			b.Fatal(err)
		}
		for {
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		_ = unix.Close(fd)
		times = append(times, time.Since(begin))
		b.StopTimer()
		_ = cmd.Wait()
		b.StartTimer()
	}
	report(b, times)
}

// BenchmarkTerminateByPathAmong500 is one order by path, from Execute to the exit seen and the second look that finds nothing, while 500
// other processes run.
func BenchmarkTerminateByPathAmong500(b *testing.B) {
	a := newAgent(b)
	crowd, image := agenttest.Program(b, "sleep", "crowd"), agenttest.Program(b, "sleep", "bench")
	for range 500 {
		sleeper(b, crowd)
	}
	if err := a.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	o := order(bridge.TerminateProcess{Path: image, CaseSensitive: true})
	var times []time.Duration
	var cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		cmd, _ := benchVictim(b, image)
		b.StartTimer()
		begin, used := time.Now(), processTime(b)
		if r, err := a.Execute(b.Context(), o); err != nil || !contains(r.Detail, "ended pid ") {
			b.Fatal(r, err)
		}
		times = append(times, time.Since(begin))
		cpu += processTime(b) - used
		b.StopTimer()
		_ = cmd.Wait()
		b.StartTimer()
	}
	report(b, times)
	b.ReportMetric(float64(cpu.Microseconds())/float64(len(times)), "µs-cpu")
}

// processTime is what this process has used of all processors: on a machine that others load it says more than the clock.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// report adds median and spread of single runs.
func report(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	at := func(part float64) float64 { return float64(times[int(part*float64(len(times)-1))].Microseconds()) }
	b.ReportMetric(at(0.5), "µs-median")
	b.ReportMetric(at(0.1), "µs-p10")
	b.ReportMetric(at(0.9), "µs-p90")
}

// BenchmarkTerminateATreeOf250 is one order with its tree: a shell, 16 shells below it and 15 sleepers below each of these.
func BenchmarkTerminateATreeOf250(b *testing.B) {
	a := newAgent(b, func(c *Config) { c.MaxTargets = 1000 })
	shell, sleep := agenttest.Program(b, "dash", "tree"), agenttest.Program(b, "sleep", "leaf")
	script := `n=0; while [ $n -lt 16 ]; do n=$((n+1)); (m=0; while [ $m -lt 15 ]; do m=$((m+1)); "$0" 3600 & done; wait) & done; wait`
	var times []time.Duration
	for b.Loop() {
		b.StopTimer()
		cmd := exec.Command(shell, "-c", script, sleep)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		agenttest.Eventually(b, "the tree runs", func() bool { return len(running(b, shell, sleep)) == 257 })
		o := withTree(about(b, a, &victim{pid: cmd.Process.Pid}))
		b.StartTimer()
		begin := time.Now()
		if _, err := a.Execute(b.Context(), o); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
		b.StopTimer()
		_ = cmd.Wait()
		if left := running(b, shell, sleep); len(left) != 0 {
			b.Fatalf("%d survivors", len(left))
		}
		b.StartTimer()
	}
	report(b, times)
}

// BenchmarkFindByPath looks through all processes of the machine for one path.
func BenchmarkFindByPath(b *testing.B) {
	a := newAgent(b, func(c *Config) { c.DryRun = true })
	image := agenttest.Program(b, "sleep", "bench")
	sleeper(b, image)
	o := order(bridge.TerminateProcess{Path: image})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Execute(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFindByDigest does the same by digest, with the digests of all images known after the first round.
func BenchmarkFindByDigest(b *testing.B) {
	a := newAgent(b, func(c *Config) { c.DryRun = true })
	image := agenttest.Program(b, "sleep", "bench")
	v := sleeper(b, image)
	p, err := a.ResolveProcess(b.Context(), bridge.Process{PID: v.pid}, true)
	if err != nil {
		b.Fatal(err)
	}
	o := order(bridge.TerminateProcess{SHA256: p.SHA256})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Execute(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}
