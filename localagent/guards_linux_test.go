package localagent

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// judging makes the user's list of an agent call f each time it is asked about image: that is in the middle of an order.
func judging(image string, f func(look int) bool) func(*Config) {
	looks := 0
	return func(c *Config) {
		c.Protected = func(name string) (bridge.Reason, string) {
			if name != image {
				return bridge.ReasonNone, ""
			}
			if looks++; f(looks) {
				return bridge.ReasonProtectedProcess, "listed"
			}
			return bridge.ReasonNone, ""
		}
	}
}

// turns is a script that becomes $2 as soon as the file $1 is there.
const turns = `while [ ! -e "$1" ]; do :; done; exec "$2" 3600`

// turn makes such a process change its image and waits until it has.
func turn(t *testing.T, signal string, pid func() int, into string) {
	t.Helper()
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		t.Error(err)
	}
	agenttest.Eventually(t, "it runs another image", func() bool {
		link, _ := os.Readlink("/proc/" + itoa(pid()) + "/exe")
		return link == into
	})
}

func TestATreeWhoseFirstProcessChangesItsImageIsSpared(t *testing.T) {
	t.Parallel()
	shell, elder, other := agenttest.Program(t, "dash", "root"), agenttest.Program(t, "sleep", "elder"), agenttest.Program(t, "sleep", "other")
	signal := filepath.Join(t.TempDir(), "go")
	v := start(t, exec.Command(shell, "-c", `"$0" 3600 & `+turns, elder, signal, other))
	agenttest.Eventually(t, "the child runs", func() bool { return len(running(t, elder)) == 1 })
	a := newAgent(t, judging(shell, func(int) bool {
		turn(t, signal, func() int { return v.pid }, other)
		return false
	}))
	_, err := a.Execute(t.Context(), withTree(about(t, newAgent(t), v)))
	wantError(t, err, bridge.Permanent, bridge.ReasonProcessChanged, "nothing was ended")
	if v.dead() || len(running(t, elder)) != 1 {
		t.Error("a tree whose first process had become another was ended")
	}
}

func TestAProcessOfATreeThatTurnsIntoAProtectedOneIsKept(t *testing.T) {
	t.Parallel()
	shell, child, listed := agenttest.Program(t, "dash", "root"), agenttest.Program(t, "dash", "child"), agenttest.Program(t, "sleep", "listed")
	signal := filepath.Join(t.TempDir(), "go")
	v := start(t, exec.Command(shell, "-c", `"$0" -c "$3" x "$1" "$2" & wait`, child, signal, listed, turns))
	var pid int
	agenttest.Eventually(t, "the child runs", func() bool {
		for pid = range running(t, child) {
		}
		return pid != 0
	})
	a := newAgent(t, judging(child, func(int) bool {
		turn(t, signal, func() int { return pid }, listed)
		return false
	}), func(c *Config) {
		ask := c.Protected
		c.Protected = func(name string) (bridge.Reason, string) {
			if name == listed {
				return bridge.ReasonProtectedProcess, "listed"
			}
			return ask(name)
		}
	})
	done(t, a, withTree(about(t, newAgent(t), v)), "turned into a protected process")
	if left := running(t, listed); len(left) != 1 {
		t.Errorf("the protected process was ended: %v, %v", left, running(t, child))
	}
}

func TestAGroupThatChangesWhileItIsFrozenIsNotEndedAsAWhole(t *testing.T) {
	root, ok := insideGroup(t)
	if !ok {
		return
	}
	shell, elder := agenttest.Program(t, "dash", "parent"), agenttest.Program(t, "sleep", "elder")
	for look, text := range map[int]string{2: "ended pid ", 3: "changed while it was looked at"} {
		told := filepath.Join(t.TempDir(), "orphaned")
		group := subgroup(t, root, "mixed-"+itoa(look)+".service")
		v := startIn(t, group, exec.Command(shell, "-c", `("$0" 3600 &) ; : > "$1"; while :; do read x < /dev/zero; done`, elder, told))
		agenttest.Eventually(t, "both run", func() bool { return orphaned(told) && len(running(t, elder)) == 1 && len(running(t, shell)) == 1 })
		a := newAgent(t, judging(elder, func(n int) bool { return n >= look }))
		o := withTree(about(t, a, v))
		if look == 2 { // what came in is seen before anything is taken up: the tree is ended process by process
			done(t, a, o, text)
		} else {
			_, err := a.Execute(t.Context(), o)
			wantError(t, err, bridge.Retry, bridge.ReasonNone, text)
		}
		if len(running(t, elder)) != 1 || v.dead() != (look == 2) {
			t.Errorf("look %d: protected %v, first dead %v", look, running(t, elder), v.dead())
		}
		write(t, filepath.Join(group, "cgroup.kill"), "1")
		agenttest.Eventually(t, "all are dead", func() bool { return len(running(t, elder, shell)) == 0 })
	}
}

func TestWhatBecomesProtectedDuringItsGraceIsNotKilled(t *testing.T) {
	t.Parallel()
	shell := agenttest.Program(t, "dash", "obeys")
	told := filepath.Join(t.TempDir(), "told")
	v := start(t, exec.Command(shell, "-c", `trap ': > "$0"' TERM; : > "$0.ready"; while :; do read x < /dev/zero; done`, told))
	agenttest.Eventually(t, "it listens", func() bool { return orphaned(told + ".ready") })
	a := newAgent(t, judging(shell, func(look int) bool { return look > 1 }), func(c *Config) {
		c.Grace, c.ExitDeadline = 50*time.Millisecond, 50*time.Millisecond
	})
	_, err := a.Execute(t.Context(), about(t, newAgent(t), v))
	wantError(t, err, bridge.Unknown, bridge.ReasonNone, "not seen to exit")
	if v.dead() {
		t.Error("a protected process was killed after its grace")
	}
}

func TestALaterLookThatFailsLeavesTheOrderUndecided(t *testing.T) {
	t.Parallel()
	image := agenttest.Program(t, "sleep", "many")
	first := sleeper(t, image)
	var more []*victim
	a := newAgent(t, judging(image, func(look int) bool {
		if look == 1 { // after the processes were listed
			more = append(more, sleeper(t, image), sleeper(t, image))
		}
		return false
	}), func(c *Config) { c.MaxTargets = 1 })
	_, err := a.Execute(t.Context(), order(bridge.TerminateProcess{Path: image}))
	wantError(t, err, bridge.Unknown, bridge.ReasonNone, "ended pid "+itoa(first.pid))
	for _, v := range more {
		if v.dead() {
			t.Error("more was ended than one order may end")
		}
	}
}

func TestTheSessionOfAProgramThatIsGoneIsNobodys(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	child := agenttest.Program(t, "sleep", "child")
	cmd := exec.Command(mustLook(t, "dash"), "-c", `"$0" 3600 & wait`, child)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stranger := start(t, cmd)
	t.Cleanup(func() { _ = unix.Kill(-stranger.pid, unix.SIGKILL) })
	agenttest.Eventually(t, "the child runs", func() bool { return len(running(t, child)) == 1 })
	gone := sleeper(t, agenttest.Program(t, "sleep", "gone"))
	p, err := pin(gone.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := gone.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the program has ended", p.ended)
	p.pid, p.start = stranger.pid, 1 // its number was given away
	if told := l.overtime(t.Context(), &program{p}, &note{Order: "o", PID: stranger.pid, Start: p.start}); stranger.dead() || len(running(t, child)) != 1 {
		t.Errorf("a stranger with the number of the program was ended: %v", told)
	}
}

func TestAGroupIsLeftAsOthersHaveToldIt(t *testing.T) {
	root, ok := insideGroup(t)
	if !ok {
		return
	}
	above := subgroup(t, root, "above")
	group := subgroup(t, above, "frozen.service")
	v := startIn(t, group, exec.Command(agenttest.Program(t, "sleep", "frozen"), "3600"))
	for name, c := range map[string]struct{ frozen, want string }{"the group": {group, "1\n"}, "the one above": {above, "0\n"}} {
		p, err := pin(v.pid)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(c.frozen, "cgroup.freeze"), "1")
		pl := &plan{targets: []*pinned{p}}
		g := &growth{a: newAgent(t), pl: pl, seen: make(map[int]uint64), freeze: true}
		if err := g.takeGroup(t.Context(), p); err != nil || len(pl.forest.groups) != 1 {
			t.Errorf("%s: %d groups taken, %v", name, len(pl.forest.groups), err)
		}
		pl.close()
		if b, err := os.ReadFile(filepath.Join(group, "cgroup.freeze")); err != nil || string(b) != c.want {
			t.Errorf("%s was frozen: cgroup.freeze = %q afterwards, %v", name, b, err)
		}
		write(t, filepath.Join(c.frozen, "cgroup.freeze"), "0")
	}
}

func TestAnyThreadMayKeepAProcessFromEnding(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=sleep")
	v := start(t, cmd)
	p, err := open(v.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	var threads []string
	agenttest.Eventually(t, "it has several threads", func() bool {
		if p.dir < 0 && p.readStat() != nil {
			return false
		}
		threads, _ = p.threads()
		return len(threads) > 2
	})
	runtime.LockOSThread() // whoever traces is a thread
	defer runtime.UnlockOSThread()
	tid, err := strconv.Atoi(threads[len(threads)-1])
	if err != nil || tid == v.pid {
		t.Fatalf("threads %v, %v", threads, err)
	}
	for _, request := range []int{unix.PTRACE_SEIZE, unix.PTRACE_INTERRUPT} {
		if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, 0, 0, 0); errno != 0 {
			t.Skipf("this machine lets nobody trace: %v", errno)
		}
	}
	// A thread is gone only when whoever traces it has waited for it.
	defer func() { _ = unix.PtraceDetach(tid) }()
	agenttest.Eventually(t, "a thread is held", func() bool { return p.lingers() == "held by a debugger" })
}
