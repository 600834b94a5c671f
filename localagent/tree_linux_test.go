package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// running lists the processes that run an image in one of the folders, with the letter of their state.
func running(t testing.TB, images ...string) map[int]byte {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int]byte)
	for _, dir := range dirs {
		link, err := os.Readlink(dir + "/exe")
		if err != nil {
			continue
		}
		b, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		for _, image := range images {
			if st, err := parseStat(b); err == nil && link == image {
				pid, _ := strconv.Atoi(filepath.Base(dir))
				found[pid] = st.state
			}
		}
	}
	return found
}

// bomb is a shell script that forks until some 255 processes live, and then goes on forking short-lived ones in each of them.
const bomb = `
f() { if [ "$1" -gt 0 ]; then f $(($1-1)) & f $(($1-1)) & fi; while :; do ( : ) & wait $!; done; }
f 7`

func withTree(o bridge.Order) bridge.Order {
	o.Subject.Tree = true
	return o
}

func TestATreeOf250ForkingProcessesLeavesNoSurvivor(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	shell := agenttest.Program(t, "dash", "bomb")
	for _, way := range []string{"by pid", "by path of the first"} {
		a := newAgent(t, func(c *Config) { c.MaxTargets = 4000 })
		v := start(t, exec.Command(shell, "-c", bomb))
		agenttest.Eventually(t, "250 processes fork", func() bool { return len(running(t, shell)) >= 250 })
		o := withTree(about(t, a, v))
		if way != "by pid" {
			o = withTree(order(bridge.TerminateProcess{Path: shell}))
		}
		begin := time.Now()
		r, err := a.Execute(t.Context(), o)
		if err != nil || r.State != bridge.StateDone || !strings.Contains(r.Detail, "ended pid ") {
			t.Fatalf("%s: receipt = %+v, %v", way, r, err)
		}
		t.Logf("%s: %s", way, time.Since(begin))
		if left := running(t, shell); len(left) != 0 {
			t.Errorf("%s: %d survivors: %v", way, len(left), left)
		}
	}
}

func TestATreeThatIsTooLargeGoesOn(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.MaxTargets = 5 })
	shell := agenttest.Program(t, "dash", "large")
	v := start(t, exec.Command(shell, "-c", `n=0; while [ $n -lt 10 ]; do n=$((n+1)); (while :; do read x < /dev/zero; done) & done; wait`))
	agenttest.Eventually(t, "the children run", func() bool { return len(running(t, shell)) == 11 })
	_, err := a.Execute(t.Context(), withTree(about(t, a, v)))
	wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "one order may end 5")
	agenttest.Eventually(t, "nothing is stopped", func() bool {
		all := running(t, shell)
		for _, state := range all {
			if state == 'T' {
				return false
			}
		}
		return len(all) == 11
	})
}

// family runs a shell with two children: a copy of sleep called elder and a shell with a child of its own.
func family(t *testing.T) (shell, elder string, v *victim) {
	t.Helper()
	shell, elder = agenttest.Program(t, "dash", "parent"), agenttest.Program(t, "sleep", "elder")
	v = start(t, exec.Command(shell, "-c", `"$0" 3600 & ("$0" 3600 & wait) & wait`, elder))
	agenttest.Eventually(t, "the family runs", func() bool { return len(running(t, shell)) == 2 && len(running(t, elder)) == 2 })
	return shell, elder, v
}

func TestProtectedDescendantsAreLeftRunningAndReported(t *testing.T) {
	t.Parallel()
	shell, elder, v := family(t)
	a := newAgent(t, func(c *Config) {
		c.Protected = func(image string) (bridge.Reason, string) {
			if image == elder {
				return bridge.ReasonProtectedProcess, "listed"
			}
			return bridge.ReasonNone, ""
		}
	})
	r, err := a.Execute(t.Context(), withTree(order(bridge.TerminateProcess{Path: shell})))
	if err != nil || r.State != bridge.StateDone || !strings.Contains(r.Detail, "protected and left alone: pid ") {
		t.Fatalf("receipt = %+v, %v", r, err)
	}
	if left := running(t, shell); len(left) != 0 || !v.dead() {
		t.Errorf("the shells live: %v", left)
	}
	agenttest.Eventually(t, "the protected ones run", func() bool {
		all := running(t, elder)
		for _, state := range all {
			if state == 'T' {
				return false
			}
		}
		return len(all) == 2
	})
}

func TestWhatFailsLetsTheTreeGoOn(t *testing.T) {
	t.Parallel()
	shell, elder, v := family(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	a := newAgent(t, func(c *Config) {
		c.Protected = func(image string) (bridge.Reason, string) {
			if image == elder {
				if asked++; asked == 2 {
					cancel() // by then some of the family are stopped
				}
			}
			return bridge.ReasonNone, ""
		}
	})
	_, err := a.Execute(ctx, withTree(about(t, a, v)))
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "stop the tree")
	agenttest.Eventually(t, "the family goes on", func() bool {
		all := running(t, shell, elder)
		for _, state := range all {
			if state == 'T' {
				return false
			}
		}
		return len(all) == 4
	})
	r, err := newAgent(t, func(c *Config) { c.DryRun = true }).Execute(t.Context(), withTree(about(t, a, v)))
	if err != nil || r.State != bridge.StateShadow || strings.Count(r.Detail, "pid ") != 4 {
		t.Errorf("dry run = %+v, %v, want all four", r, err)
	}
	if all := running(t, shell, elder); len(all) != 4 {
		t.Errorf("left after a dry run: %v", all)
	}
}

func TestAProcessThatWasStoppedBeforeStaysStoppedWhenItsTreeIsSpared(t *testing.T) {
	t.Parallel()
	shell, elder, v := family(t)
	for pid := range running(t, elder) {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	agenttest.Eventually(t, "the elders are stopped", func() bool {
		for _, state := range running(t, elder) {
			if state != 'T' {
				return false
			}
		}
		return true
	})
	a := newAgent(t, func(c *Config) { c.MaxTargets = 3 })
	_, err := a.Execute(t.Context(), withTree(about(t, a, v)))
	wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "one order may end 3")
	for pid, state := range running(t, elder) {
		if state != 'T' {
			t.Errorf("process %d is in state %c", pid, state)
		}
	}
	agenttest.Eventually(t, "the shells go on", func() bool {
		for _, state := range running(t, shell) {
			if state == 'T' {
				return false
			}
		}
		return true
	})
}

// orphaned is true once the script of the process has written the file that
// says: all that it started has given it up. Counting its children says less,
// since it has none between two starts either.
func orphaned(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func TestATreeWithItsOwnControlGroupTakesWhatGaveUpItsParent(t *testing.T) {
	root, ok := insideGroup(t)
	if !ok {
		return
	}
	shell := agenttest.Program(t, "dash", "daemons")
	script := `n=0; while [ $n -lt 20 ]; do n=$((n+1)); ( (while :; do read x < /dev/zero; done) & ) ; done; : > "$0"; while :; do read x < /dev/zero; done`
	told := filepath.Join(t.TempDir(), "orphaned")
	ready := func() bool { return orphaned(told) && len(running(t, shell)) == 21 }
	a := newAgent(t, func(c *Config) { c.MaxTargets = 100 })

	shared := subgroup(t, root, "shared")
	bystander := startIn(t, shared, exec.Command(agenttest.Program(t, "sleep", "bystander"), "3600"))
	time.Sleep(3 * time.Second / userHZ) // so that the bystander is the older one
	v := startIn(t, shared, exec.Command(shell, "-c", script, told))
	agenttest.Eventually(t, "the daemons run", ready)
	done(t, a, withTree(about(t, a, v)), "ended pid ")
	if bystander.dead() {
		t.Error("a bystander in a shared group was ended")
	}
	if left := running(t, shell); len(left) != 20 {
		t.Errorf("%d daemons of the shared group are left, want 20: nothing ties them to the process", len(left))
	}
	write(t, filepath.Join(shared, "cgroup.kill"), "1")
	agenttest.Eventually(t, "the daemons are dead", func() bool { return len(running(t, shell)) == 0 })

	if err := os.Remove(told); err != nil {
		t.Fatal(err)
	}
	own := subgroup(t, root, "evil.service")
	v = startIn(t, own, exec.Command(shell, "-c", script, told))
	agenttest.Eventually(t, "the daemons run", ready)
	o := withTree(about(t, a, v))
	_, err := newAgent(t, func(c *Config) { c.MaxTargets = 20 }).Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "one order may end 20")
	if b, err := os.ReadFile(filepath.Join(own, "cgroup.freeze")); err != nil || strings.TrimSpace(string(b)) != "0" {
		t.Errorf("cgroup.freeze = %q, %v after a refusal", b, err)
	}
	// A dry run counts and names what the order would end.
	_, err = newAgent(t, func(c *Config) { c.MaxTargets, c.DryRun = 20, true }).Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "one order may end 20")
	if r, err := newAgent(t, func(c *Config) { c.MaxTargets, c.DryRun = 100, true }).Execute(t.Context(), o); err != nil || !strings.Contains(r.Detail, "and 5 more") {
		t.Errorf("dry run: %+v, %v", r, err)
	}
	done(t, a, o, "and 5 more")
	if left := running(t, shell); len(left) != 0 {
		t.Errorf("%d survivors", len(left))
	}
	if b, err := os.ReadFile(filepath.Join(own, "cgroup.freeze")); err != nil || strings.TrimSpace(string(b)) != "0" {
		t.Errorf("cgroup.freeze = %q, %v after the end", b, err)
	}
}

func TestAControlGroupWithAProtectedProcessIsNotEndedAsAWhole(t *testing.T) {
	root, ok := insideGroup(t)
	if !ok {
		return
	}
	shell, elder := agenttest.Program(t, "dash", "parent"), agenttest.Program(t, "sleep", "elder")
	told := filepath.Join(t.TempDir(), "orphaned")
	group := subgroup(t, root, "mixed.service")
	v := startIn(t, group, exec.Command(shell, "-c", `("$0" 3600 &) ; ("$1" -c "while :; do read x < /dev/zero; done" &) ; : > "$2"; while :; do read x < /dev/zero; done`, elder, shell, told))
	agenttest.Eventually(t, "all run", func() bool { return orphaned(told) && len(running(t, shell)) == 2 && len(running(t, elder)) == 1 })
	a := newAgent(t, func(c *Config) {
		c.Protected = func(image string) (bridge.Reason, string) {
			if image == elder {
				return bridge.ReasonProtectedProcess, "listed"
			}
			return bridge.ReasonNone, ""
		}
	})
	done(t, a, withTree(about(t, a, v)), "ended pid ")
	if !v.dead() || len(running(t, elder)) != 1 || len(running(t, shell)) != 1 {
		t.Errorf("dead = %v, protected %v, daemon %v", v.dead(), running(t, elder), running(t, shell))
	}
}

func TestUnifiedGroupTakesOnlyGroupsInView(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0::/\n": "", "0::/system.slice/x.service\n": "/system.slice/x.service", "9:name=systemd:/x\n0::/y\n": "/y", "9:memory:/x\n": "",
		"0::/../outside\n": "", "0::/..\n": "", "0::/a/../b\n": "", "": "", "0::relative\n": "",
	} {
		if got := unifiedGroup([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for name, want := range map[string]bool{
		"/system.slice/x.service": false, "/user.slice/user-0.slice/session-1.scope": true, "/user.slice/user-0.slice/user@0.service": true,
		"/init.scope": true, "/docker/0123": false, "/system.slice": true,
	} {
		if got := sessionGroup(name); got != want {
			t.Errorf("%s: session = %v", name, got)
		}
	}
}

func TestCgroupMountsAreReadFromTheirRootOnly(t *testing.T) {
	t.Parallel()
	const text = `30 23 0:26 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 23 0:28 /.. /outside rw - cgroup2 cgroup2 rw
33 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 23 0:28 / /odd\040name rw - cgroup2 cgroup2 rw
broken line
`
	all, err := files.ParseMounts(strings.NewReader(text))
	if len(all) != 5 || !errors.Is(err, files.ErrMountsPartial) {
		t.Fatalf("mounts = %v, %v", all, err)
	}
	if got, want := fmt.Sprint(chooseCgroups(all)), "[{/sys/fs/cgroup/unified true} {/sys/fs/cgroup/systemd false}]"; got != want {
		t.Errorf("mounts = %s, want %s", got, want)
	}
}

func FuzzParseCgroups(f *testing.F) {
	f.Add("0::/system.slice/ssh.service\n")
	f.Fuzz(func(t *testing.T, text string) {
		if name := unifiedGroup([]byte(text)); name != "" && (!strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../")) {
			t.Errorf("group %q", name)
		}
		if unit, group := systemUnit([]byte(text)); unit != "" && (strings.Contains(unit, "/") || !strings.HasPrefix(group, "/system.slice/")) {
			t.Errorf("unit %q, group %q", unit, group)
		}
	})
}

func TestATreeWhoseMembersWakeEachOtherIsEnded(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	shell := agenttest.Program(t, "dash", "waker")
	v := start(t, exec.Command(shell, "-c", `P=$$; for n in 1 2; do (while :; do kill -CONT $P; done) & done; while :; do :; done`))
	agenttest.Eventually(t, "the tree runs", func() bool { return len(running(t, shell)) == 3 })
	begin := time.Now()
	r, err := a.Execute(t.Context(), withTree(about(t, a, v)))
	if err != nil || r.State != bridge.StateDone || len(running(t, shell)) != 0 {
		t.Errorf("after %s: receipt = %+v, %v; %d survivors", time.Since(begin), r, err, len(running(t, shell)))
	}
}

func TestATreeSomebodyElseKeepsWakingIsEndedAsFarAsItIsKnown(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	shell, waker := agenttest.Program(t, "dash", "tree"), agenttest.Program(t, "dash", "waker")
	v := start(t, exec.Command(shell, "-c", `(while :; do :; done) & while :; do ( : ); done`))
	agenttest.Eventually(t, "the tree runs", func() bool { return len(running(t, shell)) >= 2 })
	start(t, exec.Command(waker, "-c", `while :; do kill -CONT -- "-$0"; done`, itoa(v.pid)))
	start(t, exec.Command(waker, "-c", `while :; do kill -CONT -- "-$0"; done`, itoa(v.pid)))
	r, err := a.Execute(t.Context(), withTree(about(t, a, v)))
	if err == nil && r.State != bridge.StateDone {
		t.Errorf("receipt = %+v", r)
	}
	if err != nil {
		wantError(t, err, bridge.Unknown, bridge.ReasonNone, "keeps waking it")
	}
	if !v.dead() {
		t.Error("the tree runs on")
	}
}

func TestAProcessThatIsWokenIsStoppedAgain(t *testing.T) {
	t.Parallel()
	shell := agenttest.Program(t, "dash", "woken")
	v := start(t, exec.Command(shell, "-c", `while :; do :; done`))
	p, err := pin(v.pid)
	if err != nil {
		t.Fatal(err)
	}
	pl := &plan{targets: []*pinned{p}}
	defer pl.close()
	g := &growth{a: newAgent(t), pl: pl, seen: map[int]uint64{p.pid: p.start}, parents: childrenByParent, freeze: true}
	if err := g.stop(p); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "it stops", func() bool { return running(t, shell)[v.pid] == 'T' })
	if err := p.send(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := g.walk(t.Context()); err != nil || pl.forest.restless != nil {
		t.Errorf("walk: %v, restless %v", err, pl.forest.restless != nil)
	}
	if state := running(t, shell)[v.pid]; state != 'T' {
		t.Errorf("state %c, want it stopped", state)
	}
}
