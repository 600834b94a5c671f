package localagent

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestF41AReusedPIDIsNeverSignalled(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	a := newAgent(t)
	first, second := agenttest.Program(t, "sleep", "first"), agenttest.Program(t, "sleep", "second")
	old := exec.Command(first, "3600")
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	o := about(t, a, &victim{pid: old.Process.Pid})
	held, err := pin(old.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	_ = old.Process.Kill()
	_ = old.Wait()
	done(t, a, o, "already gone")
	time.Sleep(3 * time.Second / userHZ) // so that the start times differ

	// The kernel gives out the number after ns_last_pid next.
	var v *victim
	for try := 0; v == nil || v.pid != o.Subject.PID; try++ {
		if try == 50 {
			t.Fatal("the number could not be had again")
		}
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(itoa(o.Subject.PID-1)), 0); err != nil {
			t.Fatal(err)
		}
		v = start(t, exec.Command(second, "3600"))
	}
	_, err = a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonProcessChanged, "the pid was used again")
	if err := held.signal(sigKill); !errors.Is(err, errGone) {
		t.Errorf("signal to the pinned process = %v, want errGone", err)
	}
	if err := held.send(sigKill); !errors.Is(err, errGone) {
		t.Errorf("signal to the pinned process = %v, want errGone", err)
	}
	_, err = a.ResolveProcess(t.Context(), o.Subject, false)
	wantError(t, err, bridge.Permanent, bridge.ReasonProcessChanged, "the pid was used again")
	if v.dead() {
		t.Fatal("the process that got the number was ended")
	}
	done(t, a, about(t, a, v), "ended pid "+itoa(v.pid))
}

func TestAFrozenProcessIsReportedAsNotSeenToExit(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "cgroup", 0, "freezer"); err != nil {
		t.Skipf("this test needs the freezer of cgroup v1: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	group := filepath.Join(dir, "edr-bridge-test-"+itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o700); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(group) }()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(group, name), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	a := newAgent(t, func(c *Config) { c.ExitDeadline = 100 * time.Millisecond })
	image := agenttest.Program(t, "sleep", "frozen")
	v := sleeper(t, image)
	o := about(t, a, v)
	write("cgroup.procs", itoa(v.pid))
	write("freezer.state", "FROZEN")
	_, err := a.Execute(t.Context(), o)
	wantError(t, err, bridge.Unknown, bridge.ReasonNone, "signalled, but not seen to exit: pid "+itoa(v.pid))
	_, err = a.Execute(t.Context(), order(bridge.TerminateProcess{Path: image}))
	wantError(t, err, bridge.Unknown, bridge.ReasonNone, "signalled, but not seen to exit: pid "+itoa(v.pid))
	write("freezer.state", "THAWED")
	agenttest.Eventually(t, "the thawed process is dead", v.dead)
	done(t, a, o, "already gone")
	_ = v.cmd.Wait()
}
