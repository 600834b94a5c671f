package localagent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// heldBy runs an agent that stops the tree of v, kills it in the middle and returns its state folder.
func heldBy(t *testing.T, v *victim, image string, look int) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	state, ready := t.TempDir(), filepath.Join(t.TempDir(), "held")
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), helperEnv+"=holds-a-tree", heldEnv+"="+strings.Join([]string{state, itoa(v.pid), image, itoa(look), ready}, "\n"))
	agent := start(t, cmd)
	agenttest.Eventually(t, "the agent holds the tree", func() bool { _, err := os.Stat(ready); return err == nil || agent.dead() })
	// An order of another agent that is still at it is left alone.
	living := newAgent(t, func(c *Config) { c.State = state })
	if err := living.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := stopNotes(t, state); n != 1 {
		t.Fatalf("%d records while the order is carried out, want 1", n)
	}
	if err := agent.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the agent is dead", agent.dead)
	return state
}

func stopNotes(t *testing.T, state string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(state, dirStopped))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestWhatAKilledAgentHadStoppedGoesOn(t *testing.T) {
	t.Parallel()
	shell, elder, v := family(t)
	state := heldBy(t, v, elder, 1)
	if running(t, shell)[v.pid] != 'T' {
		t.Fatal("the killed agent had not stopped the tree")
	}
	// The number of a process that is gone may be another's by now.
	foreign := sleeper(t, agenttest.Program(t, "sleep", "foreign"))
	agenttest.Eventually(t, "it sleeps", func() bool { return stateOf(foreign.pid) == 'S' })
	if err := foreign.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "it is stopped", func() bool { return stateOf(foreign.pid) == 'T' })
	planted := bootID() + "\nprocess " + itoa(foreign.pid) + " 1\nprocess 1 1\nnonsense\n"
	if err := os.WriteFile(filepath.Join(state, dirStopped, "planted"), []byte(planted), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, func(c *Config) { c.State = state })
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the tree goes on", func() bool {
		for _, letter := range running(t, shell, elder) {
			if letter == 'T' {
				return false
			}
		}
		return true
	})
	if stateOf(foreign.pid) != 'T' {
		t.Error("a process that has the number of another was woken")
	}
	if n := stopNotes(t, state); n != 0 {
		t.Errorf("%d records are left", n)
	}
	done(t, a, withTree(about(t, a, v)), "ended pid ")
	if n := stopNotes(t, state); n != 0 {
		t.Errorf("%d records are left after an order", n)
	}
}

func TestAControlGroupAKilledAgentHadFrozenGoesOn(t *testing.T) {
	root, ok := insideGroup(t)
	if !ok {
		return
	}
	shell, elder := agenttest.Program(t, "dash", "parent"), agenttest.Program(t, "sleep", "elder")
	group := subgroup(t, root, "held.service")
	v := startIn(t, group, exec.Command(shell, "-c", `"$0" 3600 & wait`, elder))
	agenttest.Eventually(t, "both run", func() bool { return len(running(t, shell)) == 1 && len(running(t, elder)) == 1 })
	frozen := func() string {
		b, _ := os.ReadFile(filepath.Join(group, "cgroup.freeze"))
		return strings.TrimSpace(string(b))
	}
	state := heldBy(t, v, elder, 2)
	if frozen() != "1" {
		t.Fatal("the killed agent had not frozen the group")
	}
	// The order comes again: nobody else has frozen the group.
	_, err := newAgent(t, func(c *Config) { c.State, c.MaxTargets = state, 1 }).Execute(t.Context(), withTree(about(t, newAgent(t), v)))
	if err == nil || frozen() != "0" {
		t.Errorf("after a refused order: %v, frozen = %s", err, frozen())
	}
}

// stateOf is the letter of the state of a process.
func stateOf(pid int) byte {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	st, _ := parseStat(b)
	return st.state
}
