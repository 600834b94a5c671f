package localagent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// subjectOf reads start time and image of a process the agent would not resolve.
func subjectOf(t *testing.T, pid int) bridge.Process {
	t.Helper()
	p, err := open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.readStat(); err != nil {
		t.Fatal(err)
	}
	return bridge.Process{PID: pid, Start: p.start, Path: "/any"}
}

func TestProtectedProcessesAreRefusedWithTheEntry(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	twin := exec.Command(self)
	twin.Env = append(os.Environ(), helperEnv+"=sleep")
	same := start(t, twin)
	image := agenttest.Program(t, "sleep", "listed")
	listed, service := sleeper(t, image), sleeper(t, agenttest.Program(t, "sleep", "service"))
	a := newAgent(t, func(c *Config) {
		c.ProtectedPIDs = func() []int { return []int{service.pid} }
		c.Protected = func(name string) (bridge.Reason, string) {
			if name == image {
				return bridge.ReasonProtectedProcess, "protect.processes entry 1"
			}
			return bridge.ReasonNone, ""
		}
	})
	for name, c := range map[string]struct {
		subject bridge.Process
		text    string
	}{
		"process 1":      {bridge.Process{PID: 1, Start: 1, Path: "/sbin/init"}, "process 1"},
		"the agent":      {subjectOf(t, os.Getpid()), "it is this agent"},
		"its parent":     {subjectOf(t, os.Getppid()), "ancestor"},
		"its program":    {subjectOf(t, same.pid), "own program"},
		"a listed image": {subjectOf(t, listed.pid), "entry 1"},
		"a service":      {subjectOf(t, service.pid), "own service"},
	} {
		o := order(bridge.TerminateProcess{})
		o.Subject = c.subject
		_, err := a.Execute(t.Context(), o)
		t.Run(name, func(t *testing.T) { wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, c.text) })
	}
	_, err = a.Execute(t.Context(), order(bridge.TerminateProcess{Path: image}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "entry 1")
	for _, v := range []*victim{same, listed, service} {
		if v.dead() {
			t.Errorf("the protected process %d was ended", v.pid)
		}
	}
}

func TestKernelThreadsAreProtected(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	b, err := os.ReadFile("/proc/2/comm")
	if err != nil || strings.TrimSpace(string(b)) != "kthreadd" {
		t.Skip("no kernel threads in this pid namespace")
	}
	a := newAgent(t)
	o := order(bridge.TerminateProcess{})
	o.Subject = subjectOf(t, 2)
	_, err = a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "kernel thread")
	_, err = a.ResolveProcess(t.Context(), bridge.Process{PID: 2}, true)
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "no image")
}

func TestAFamousNameAloneProtectsNobody(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, name := range []string{"systemd", "sshd", "klnagent", "kthreadd", "systemd (deleted)", "x) S 1 1 (y"} {
		v := sleeper(t, agenttest.Program(t, "sleep", name))
		done(t, a, about(t, a, v), "ended pid ")
	}
}

// listener is in the table, and nothing lives in that folder of a minimal system.
const listener = "/usr/local/sbin/sshd"

func TestTheSSHListenerIsProtectedAndItsSessionsAreNot(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	if err := unix.Mount("tmpfs", filepath.Dir(listener), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	agenttest.CopyProgram(t, mustLook(t, "dash"), listener)
	script := `"$0" -c "while :; do read x < /dev/zero; done" & while :; do read x < /dev/zero; done`
	v := start(t, exec.Command(listener, "-c", script, listener))
	var session string
	agenttest.Eventually(t, "the session runs", func() bool {
		b, _ := os.ReadFile("/proc/" + itoa(v.pid) + "/task/" + itoa(v.pid) + "/children")
		session = strings.TrimSpace(string(b))
		return session != ""
	})
	a := newAgent(t)
	done(t, a, order(bridge.TerminateProcess{Path: listener}), "protected and left alone: pid "+itoa(v.pid))
	if v.dead() {
		t.Fatal("the listener was ended")
	}
	if b, err := os.ReadFile("/proc/" + session + "/stat"); err == nil && !strings.Contains(string(b), ") Z ") {
		t.Errorf("the session lives: %s", b)
	}
	_, err := a.Execute(t.Context(), order(bridge.TerminateProcess{Path: listener}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "ssh listener")

	// An update replaces the file: what runs is still the listener.
	if err := os.Remove(listener); err != nil {
		t.Fatal(err)
	}
	agenttest.CopyProgram(t, mustLook(t, "dash"), listener)
	_, err = newAgent(t).Execute(t.Context(), order(bridge.TerminateProcess{Path: listener}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "ssh listener")

	// A link gives the protected file another name, not another identity.
	other := filepath.Join(filepath.Dir(listener), "innocent")
	if err := os.Link(listener, other); err != nil {
		t.Fatal(err)
	}
	linked := start(t, exec.Command(other, "-c", "while :; do read x < /dev/zero; done"))
	_, err = newAgent(t).Execute(t.Context(), order(bridge.TerminateProcess{Path: other}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "ssh listener")
	if linked.dead() || v.dead() {
		t.Error("a protected process was ended")
	}
}

func TestAProtectedPathInAnotherMountNamespaceProtectsNobody(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	if _, err := os.Stat(listener); err == nil {
		t.Skip(listener + " exists on this machine")
	}
	dash := agenttest.Program(t, "dash", "fake")
	script := `mount -t tmpfs none /usr/local/sbin && cp "$0" ` + listener + ` && exec ` + listener + ` -c "while :; do read x < /dev/zero; done"`
	cmd := exec.Command(dash, "-c", script, dash)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	v := start(t, cmd)
	agenttest.Eventually(t, "the impostor runs", func() bool {
		l, _ := os.Readlink("/proc/" + itoa(v.pid) + "/exe")
		return l == listener
	})
	a := newAgent(t)
	done(t, a, about(t, a, v), "ended pid ")
	if !v.dead() {
		t.Error("the impostor lives")
	}
}
