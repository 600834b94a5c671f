package localagent

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/safety"
)

func TestEveryEntryOfTheProcessTableCanBeJudged(t *testing.T) {
	t.Parallel()
	whens := conditions()
	for _, e := range safety.Of(safety.KindProcess) {
		if e.Paths == nil && whens[e.Name] == nil {
			t.Errorf("%s: neither paths nor a condition", e.Name)
		}
		delete(whens, e.Name)
	}
	for name := range whens {
		t.Errorf("the condition %s belongs to no entry", name)
	}
}

func TestSystemUnitsAreThoseOfTheSystemsOwnSlice(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0::/system.slice/ssh.service\n":                                             "ssh.service",
		"9:name=systemd:/system.slice/dbus.service\n0::/system.slice/dbus.service\n": "dbus.service",
		"0::/system.slice/docker.service/sub\n":                                      "docker.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/ssh.service\n":   "",
		"0::/evil/system.slice/ssh.service\n":                                        "",
		"5:memory:/system.slice/ssh.service\n":                                       "",
		"0::/system.slice/docker-0123.scope\n":                                       "",
		"0::/\n":                                                                     "",
	} {
		if got, _ := systemUnit([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for unit, want := range map[string]bool{"ssh.service": true, "systemd-journald.service": true, "evil.service": false, "ssh.service.evil": false} {
		if got := protectedUnit(unit); got != want {
			t.Errorf("%s: protected = %v", unit, got)
		}
	}
}

// daemon runs the image in a group so that process 1 becomes its parent, and returns its pid.
func daemon(t *testing.T, group, image string) int {
	t.Helper()
	startIn(t, group, exec.Command(mustLook(t, "dash"), "-c", `"$0" 3600 & exit`, image))
	var pid int
	agenttest.Eventually(t, "process 1 is the parent", func() bool {
		for p := range running(t, image) {
			if live, err := pin(p); err == nil {
				if live.ppid == 1 {
					pid = p
				}
				live.close()
			}
		}
		return pid != 0
	})
	return pid
}

func TestTheMainProcessOfAProtectedServiceIsProtectedAndWhatItWasMadeToRunIsNot(t *testing.T) {
	root, ok := insideGroup(t)
	if !ok {
		return
	}
	group := subgroup(t, root, "system.slice", "containerd.service")
	main, later := agenttest.Program(t, "sleep", "main"), agenttest.Program(t, "sleep", "later")
	pid := daemon(t, group, main)
	time.Sleep(3 * time.Second / userHZ) // so that the start times differ
	daemon(t, group, later)
	a := newAgent(t)
	_, err := a.Execute(t.Context(), order(bridge.TerminateProcess{Path: main}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "service: it is the main process")
	done(t, a, order(bridge.TerminateProcess{Path: later}), "ended pid ")
	if _, ok := running(t, main)[pid]; !ok {
		t.Fatal("the main process was ended")
	}
	other := subgroup(t, root, "system.slice", "evil.service")
	name := agenttest.Program(t, "sleep", "evil")
	daemon(t, other, name)
	done(t, a, order(bridge.TerminateProcess{Path: name}), "ended pid ")
	shell := filepath.Join(t.TempDir(), "dash")
	agenttest.CopyProgram(t, mustLook(t, "dash"), shell)
	empty := subgroup(t, root, "system.slice", "ssh.service")
	startIn(t, empty, exec.Command(mustLook(t, "dash"), "-c", `"$0" -c "while :; do read x < /dev/zero; done" & exit`, shell))
	agenttest.Eventually(t, "the shell runs", func() bool { return len(running(t, shell)) == 1 })
	done(t, a, order(bridge.TerminateProcess{Path: shell}), "ended pid ")
}
