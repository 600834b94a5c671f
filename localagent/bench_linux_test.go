package localagent

import (
	"errors"
	"os/exec"
	"testing"

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
	for b.Loop() {
		b.StopTimer()
		cmd, pid := benchVictim(b, image)
		o := about(b, a, &victim{pid: pid})
		b.StartTimer()
		if _, err := a.Execute(b.Context(), o); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = cmd.Wait()
		b.StartTimer()
	}
}

// BenchmarkBarePidfdKill is the least a program can do: open, signal, wait.
func BenchmarkBarePidfdKill(b *testing.B) {
	image := agenttest.Program(b, "sleep", "bench")
	for b.Loop() {
		b.StopTimer()
		cmd, pid := benchVictim(b, image)
		b.StartTimer()
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
		b.StopTimer()
		_ = cmd.Wait()
		b.StartTimer()
	}
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
