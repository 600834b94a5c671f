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

// TestF41NoWrongKillInAThousandReusedPIDs gives each number to another program while the order for its first owner is carried out.
func TestF41NoWrongKillInAThousandReusedPIDs(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	const tries = 1000
	a := newAgent(t)
	first, second := agenttest.Program(t, "sleep", "first"), agenttest.Program(t, "sleep", "second")
	spawn := func(image string) *exec.Cmd {
		cmd := exec.Command(image, "3600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	end := func(cmd *exec.Cmd) { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	answers := make(map[string]int)
	for try, misses := 0, 0; try < tries; {
		old := spawn(first)
		o := about(t, a, &victim{pid: old.Process.Pid})
		if try%3 == 0 {
			o = withTree(o)
		}
		answer := make(chan error, 1)
		go func() { _, err := a.Execute(t.Context(), o); answer <- err }()
		end(old)
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(itoa(o.Subject.PID-1)), 0); err != nil {
			t.Fatal(err)
		}
		heir := spawn(second)
		err := <-answer
		if heir.Process.Pid != o.Subject.PID {
			if misses++; misses > tries {
				t.Fatal("the numbers could not be had again")
			}
			end(heir)
			continue
		}
		// The order comes again when the number has its second owner.
		for _, err := range []error{err, func() error { _, err := a.Execute(t.Context(), o); return err }()} {
			switch ee, ok := errors.AsType[*bridge.ExecError](err); {
			case err == nil:
				answers["gone or ended"]++
			case ok && ee.Class == bridge.Permanent && ee.Reason == bridge.ReasonProcessChanged:
				answers["changed"]++
			case ok && ee.Class == bridge.Permanent && ee.Reason == bridge.ReasonProtectedProcess:
				answers["still the test program"]++ // between fork and exec
			default:
				t.Fatalf("try %d: %v", try, err)
			}
		}
		if pid, err := pin(heir.Process.Pid); err != nil || pid.ended() {
			t.Fatalf("try %d: wrong kill of process %d: %v", try, heir.Process.Pid, err)
		} else {
			pid.close()
		}
		end(heir)
		try++
	}
	if answers["changed"] < tries || answers["gone or ended"] == 0 {
		t.Errorf("answers = %v: the test proves nothing", answers)
	}
	t.Logf("0 wrong kills in %d tries, answers %v", tries, answers)
}

// TestF41AProcessThatTurnsIntoAnotherProgramIsNotEndedForTheOldOne races orders against exec.
func TestF41AProcessThatTurnsIntoAnotherProgramIsNotEndedForTheOldOne(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	shell, other := agenttest.Program(t, "dash", "before"), agenttest.Program(t, "sleep", "after")
	spared := 0
	for try := range 200 {
		cmd := exec.Command(shell, "-c", `read x; exec "$0" 3600`, other)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		o := about(t, a, &victim{pid: cmd.Process.Pid})
		if try%2 == 0 {
			o = withTree(o)
		}
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		if try%4 < 2 {
			agenttest.Eventually(t, "exec", func() bool { return len(running(t, other)) > 0 })
		}
		_, err = a.Execute(t.Context(), o)
		if ee, ok := errors.AsType[*bridge.ExecError](err); err != nil && (!ok || ee.Reason != bridge.ReasonProcessChanged) {
			t.Fatalf("try %d: %v", try, err)
		} else if err != nil {
			spared++
			agenttest.Eventually(t, "the program it turned into runs", func() bool {
				state, ok := running(t, other)[cmd.Process.Pid]
				return ok && state != 'T'
			})
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if spared < 100 {
		t.Errorf("only %d of 200 processes were spared", spared)
	}
}

func TestF42AProcessInUninterruptibleSleepIsReportedAsSuch(t *testing.T) {
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
	wantError(t, err, bridge.Unknown, bridge.ReasonNone, "uninterruptible sleep (D)")
	_, err = a.Execute(t.Context(), order(bridge.TerminateProcess{Path: image}))
	wantError(t, err, bridge.Unknown, bridge.ReasonNone, "signalled, but not seen to exit: pid "+itoa(v.pid))
	write("freezer.state", "THAWED")
	agenttest.Eventually(t, "the thawed process is dead", v.dead)
	done(t, a, o, "already gone")
	_ = v.cmd.Wait()
}
