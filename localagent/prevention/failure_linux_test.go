package prevention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// started runs a program as a grandchild without waiting for it.
func started(t *testing.T, program string) (exited <-chan int) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", program+"\nexit $?")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan int, 1)
	go func() {
		_ = cmd.Wait()
		done <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return done
}

// halt stops a process and waits until its last thread has stopped.
func halt(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "all threads have stopped", func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err != nil || !strings.Contains(string(b[strings.LastIndexByte(string(b), ')'):]), ") T ") {
				return false
			}
		}
		return len(tasks) > 0
	})
}

func TestAStoppedListenerIsKilledByTheKernelAndTheHostKeepsRunning(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, func(s *settings) { s.Stall = 2 * time.Second })
	evil, good := r.program("evil"), r.program("good")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	first := r.status().PID
	halt(t, first)
	began := time.Now()
	done := started(t, good)
	select {
	case code := <-done:
		t.Fatalf("a stopped listener answered: exit %d", code)
	case <-time.After(200 * time.Millisecond):
	}
	select {
	case code := <-done:
		t.Logf("went on after %s", time.Since(began))
		if code != runs {
			t.Errorf("exit %d, want %d", code, runs)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the execution still waits for a stopped listener")
	}
	agenttest.Eventually(t, "another listener runs", func() bool { s := r.status(); return s.Running && s.PID != first })
	if got := r.sh(evil); got != notAllowed {
		t.Errorf("after the restart: exit %d, want %d", got, notAllowed)
	}
	if s := r.status(); s.Restarts != 1 {
		t.Errorf("restarts: %d, want 1", s.Restarts)
	}
}

func TestAKilledListenerFailsOpenAndComesBack(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, func(s *settings) { s.Stall = time.Minute })
	evil, good := r.program("evil"), r.program("good")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	pid := r.status().PID
	halt(t, pid)
	done := started(t, good)
	select {
	case code := <-done:
		t.Fatalf("a stopped listener answered: exit %d", code)
	case <-time.After(200 * time.Millisecond):
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-done:
		if code != runs {
			t.Errorf("exit %d, want %d", code, runs)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the execution still waits for a dead listener")
	}
	agenttest.Eventually(t, "the guard knows", func() bool { return !r.Running() })
	if got := r.sh(evil); got != runs {
		t.Errorf("while no listener runs: exit %d, want %d", got, runs)
	}
	_, err := r.Add(t.Context(), "o2", bridge.PreventExecution{Hash: sumOf(t, good).SHA256})
	if v := verdict.Of(err); err == nil || v.Class != bridge.Retry || !strings.Contains(err.Error(), "not stored") {
		t.Errorf("add while nothing is enforced: %v", err)
	}
	if rules, err := r.Rules(t.Context()); err != nil || len(rules) != 1 {
		t.Errorf("the rules are %v, %v: what failed must not be stored", rules, err)
	}
	agenttest.Eventually(t, "another listener runs", r.Running)
	if got := r.sh(evil); got != notAllowed {
		t.Errorf("after the restart: exit %d, want %d", got, notAllowed)
	}
}

// TestAStoppedAgentLeavesTheHostRunning: the listener is a process of its own, so the agent may hang as long as it likes.
func TestAStoppedAgentLeavesTheHostRunning(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	if os.Getenv("PREVENTION_TEST_AGENT") != "" {
		r := &rig{t: t, dir: os.Getenv("PREVENTION_TEST_AGENT")}
		r.set = settings{State: os.Getenv("PREVENTION_TEST_STATE"), Disable: "/nonexistent/disable", Only: []string{r.dir}, Mode: Block}
		r.renew()
		r.start()
		r.add(bridge.PreventExecution{Hash: sumOf(t, filepath.Join(r.dir, "evil")).SHA256})
		if err := os.WriteFile(filepath.Join(r.dir, "ready"), fmt.Appendf(nil, "%d", r.status().PID), 0o600); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	r := prepareRig(t, nil)
	evil, good := r.program("evil"), r.program("good")
	agent := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	agent.Env = append(os.Environ(), "PREVENTION_TEST_AGENT="+r.dir, "PREVENTION_TEST_STATE="+t.TempDir())
	agent.Stdout, agent.Stderr = os.Stdout, os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	var listener int
	agenttest.Eventually(t, "the agent guards", func() bool {
		b, err := os.ReadFile(filepath.Join(r.dir, "ready"))
		return err == nil && len(b) > 0 && func() bool { _, err := fmt.Sscan(string(b), &listener); return err == nil }()
	})
	if err := agent.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if got := r.sh(good); got != runs {
			t.Fatalf("exit %d, want %d", got, runs)
		}
		if got := r.sh(evil); got != notAllowed {
			t.Fatalf("exit %d, want %d", got, notAllowed)
		}
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the listener ends with its agent", func() bool { return errors.Is(unix.Kill(listener, 0), unix.ESRCH) })
	if got := r.sh(evil); got != runs {
		t.Errorf("without an agent: exit %d, want %d", got, runs)
	}
}

func TestAFileThatTakesTooLongToHashGoesOnAndIsReported(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, func(s *settings) { s.Deadline = 20 * time.Millisecond })
	big := r.program("big")
	if err := os.Truncate(big, 512<<20); err != nil { // holes: no memory
		t.Fatal(err)
	}
	r.add(bridge.PreventExecution{Hash: sumOf(t, big).SHA256})
	if got := r.sh(big); got != runs {
		t.Errorf("exit %d, want %d: nobody waits longer than the deadline", got, runs)
	}
	d := r.told("what was let go", func(d Denial) bool { return d.Outcome == Undecided && d.Path == big && d.Rule == "" })
	if d.Why == "" || r.status().Timeouts == 0 {
		t.Errorf("the report is %+v, the status %+v", d, r.status())
	}
	r.told("that a rule was about it", func(d Denial) bool { return d.Outcome == Undecided && d.Path == big && d.Rule != "" })
	if got := r.sh(big); got != notAllowed {
		t.Errorf("once it is known: exit %d, want %d", got, notAllowed)
	}
}

func TestTheListenerGuardsAsItsAgentDoesWhateverTheSettingsSayNow(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	evil := r.program("evil")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	edited := r.set
	edited.Mode, edited.Deadline, edited.State = LogOnly, time.Hour, t.TempDir()
	text, err := json.Marshal(edited)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(settingsEnv, string(text))
	first := r.status().PID
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "another listener runs", func() bool { s := r.status(); return s.Running && s.PID != first })
	if got := r.sh(evil); got != notAllowed {
		t.Errorf("exit %d, want %d", got, notAllowed)
	}
}

func TestUnderDryRunStoredRulesDenyNothingAndCanBeRemoved(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := prepareRig(t, nil)
	stop := r.start()
	evil := r.program("evil")
	rule := r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	stop()
	r.set.DryRun = true
	r.renew()
	r.start()
	if got := r.sh(evil); got != runs {
		t.Errorf("exit %d, want %d", got, runs)
	}
	r.told("the execution", func(d Denial) bool { return d.Outcome == Logged && d.Path == evil })
	if s := r.status(); s.Mode != LogOnly {
		t.Errorf("the mode is %s", s.Mode)
	}
	if err := r.Remove(t.Context(), rule.Ref); err != nil || len(mustRules(t, r)) != 0 {
		t.Errorf("removed: %v, there are %v", err, mustRules(t, r))
	}
}

func TestTheNameOfAProtectedFileProtectsNoOther(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := prepareRig(t, nil)
	shell, byDigest, byPath := r.program("shell"), r.program("byDigest"), r.program("byPath")
	r.set.Protect = []string{shell}
	r.renew()
	r.start()
	r.add(bridge.PreventExecution{Hash: sumOf(t, byDigest).SHA256})
	r.add(bridge.PreventExecution{Path: byPath})
	for _, evil := range []string{byDigest, byPath} {
		// In a mount namespace of his own anybody calls his file as he likes.
		if got := r.sh("unshare -m sh -c 'mount --bind " + evil + " " + shell + " && exec " + shell + "'"); got != notAllowed {
			t.Errorf("%s: exit %d, want %d", evil, got, notAllowed)
		}
	}
	if got := r.sh(shell); got != runs {
		t.Errorf("the protected file: exit %d", got)
	}
}

// TestThreadsThatReadTheMemoryOfOthersHoldNoGroup: they may hang for as long as a stranger likes, and nothing may hang with them.
func TestThreadsThatReadTheMemoryOfOthersHoldNoGroup(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	evil := r.program("evil")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	for range 20 {
		if got := r.sh(evil); got != notAllowed {
			t.Fatalf("exit %d, want %d", got, notAllowed)
		}
	}
	r.told("the command line", func(d Denial) bool { return strings.Contains(d.Caller.Cmdline, evil) })
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", r.status().PID))
	if err != nil {
		t.Fatal(err)
	}
	var without int
	for _, task := range tasks {
		fds, err := filepath.Glob(task + "/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		groups, sockets := 0, 0
		for _, fd := range fds {
			switch to, err := os.Readlink(fd); {
			case err != nil:
			case strings.Contains(to, "fanotify"):
				groups++
			case strings.HasPrefix(to, "socket:"):
				sockets++
			}
		}
		if groups == 0 && sockets == 0 && len(fds) > 0 {
			without++
			if filepath.Base(task) == fmt.Sprint(r.status().PID) {
				t.Error("the first thread is one of them, and /proc/self/fd is its table")
			}
		}
	}
	if without != tellers {
		t.Errorf("%d of %d threads hold no group, want %d", without, len(tasks), tellers)
	}
}

func TestNamesAndKindsOfMountsDoNotEndTheGuard(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	var strange []string
	for range 60 {
		dir := t.TempDir()
		kind, point := "fuse."+strings.Repeat("A", 3900), filepath.Join(dir, strings.Repeat("\x01<", 120))
		if err := os.Mkdir(point, 0o755); err != nil {
			t.Fatal(err)
		}
		serve(t, point, kind)
		strange = append(strange, point)
	}
	r := newRig(t, func(s *settings) { s.Only = append(s.Only, strange...) })
	evil := r.program("evil")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	if got := r.sh(evil); got != notAllowed {
		t.Errorf("exit %d, want %d", got, notAllowed)
	}
	if s := r.status(); len(s.Skipped) < 60 || s.Restarts != 0 {
		t.Errorf("skipped are %d, restarts %d", len(s.Skipped), s.Restarts)
	}
}

func TestTheEmergencySwitchOpensEverything(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	evil := r.program("evil")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	if got := r.sh("> " + r.set.Disable); got != 0 {
		t.Fatal("the switch cannot be set")
	}
	agenttest.Eventually(t, "the guard opens", func() bool { return !r.Running() })
	if got := r.sh(evil); got != runs {
		t.Errorf("exit %d, want %d", got, runs)
	}
	if s := r.status(); !s.Disabled || s.Restarts != 0 {
		t.Errorf("the status is %+v", s)
	}
	if _, err := r.Add(t.Context(), "o2", bridge.PreventExecution{Path: evil}); err == nil || !strings.Contains(err.Error(), r.set.Disable) {
		t.Errorf("add while disabled: %v", err)
	}
	if err := os.Remove(r.set.Disable); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the guard is back", r.Running)
	if got := r.sh(evil); got != notAllowed {
		t.Errorf("exit %d, want %d", got, notAllowed)
	}
}

func TestAPersonStopsTheRulesAndResumesThem(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	evil := r.program("evil")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	if err := r.Disable(); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the guard opens", func() bool { return !r.Running() })
	if got := r.sh(evil); got != runs {
		t.Errorf("exit %d, want %d", got, runs)
	}
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.sh(evil); got != notAllowed {
		t.Errorf("exit %d right after it was resumed, want %d", got, notAllowed)
	}
}

func TestProtectedFilesAreRefusedAndNeverDenied(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := prepareRig(t, nil)
	shell := r.program("shell")
	r.set.Protect = []string{shell}
	r.renew()
	stop := r.start()
	sums := sumOf(t, shell)
	link := filepath.Join(r.dir, "link")
	if err := os.Link(shell, link); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "folder")
	if err := os.Symlink(r.dir, folder); err != nil {
		t.Fatal(err)
	}
	for name, task := range map[string]bridge.PreventExecution{
		"sha256":            {Hash: sums.SHA256},
		"md5":               {Hash: strings.ToUpper(sums.MD5)},
		"path":              {Path: shell},
		"hard link":         {Path: link},
		"through a folder":  {Path: filepath.Join(folder, "shell")},
		"in another case":   {Path: filepath.Join(r.dir, "SHELL")},
		"path and any hash": {Path: shell, Hash: strings.Repeat("a", 64)},
	} {
		_, err := r.Add(t.Context(), "o1", task)
		if v := verdict.Of(err); err == nil || v.Class != bridge.Permanent || v.Reason != bridge.ReasonProtectedPath || !strings.Contains(err.Error(), "services run through it") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A rule that is stored all the same, because the table was shorter when it came, denies nothing.
	stop()
	old := r.set.Protect
	r.set.Protect = nil
	r.renew()
	stop = r.start()
	r.add(bridge.PreventExecution{Hash: sums.SHA256})
	r.add(bridge.PreventExecution{Path: shell})
	if got := r.sh(shell); got != notAllowed {
		t.Errorf("exit %d, want %d", got, notAllowed)
	}
	stop()
	r.set.Protect = old
	r.renew()
	r.start()
	if got := r.sh(shell); got != runs {
		t.Errorf("a protected file was denied: exit %d", got)
	}
	r.told("that a rule is about a protected file", func(d Denial) bool { return d.Outcome == Shielded && d.Path == shell })
}

func TestRulesOutliveARestartAndGoAway(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := prepareRig(t, nil)
	stop := r.start()
	evil := r.program("evil")
	got := r.add(bridge.PreventExecution{Path: evil, Hash: sumOf(t, evil).MD5})
	again := r.add(bridge.PreventExecution{Path: evil, Hash: strings.ToUpper(sumOf(t, evil).MD5)})
	if got.State != bridge.StateDone || got.Ref == "" || again.Ref != got.Ref || !strings.Contains(again.Detail, "already") {
		t.Errorf("receipts %+v and %+v", got, again)
	}
	stop()
	if got := r.sh(evil); got != runs {
		t.Errorf("without a guard: exit %d, want %d", got, runs)
	}
	r.renew()
	r.start()
	if got := r.sh(evil); got != notAllowed {
		t.Errorf("after a restart: exit %d, want %d", got, notAllowed)
	}
	if err := r.Remove(t.Context(), got.Ref); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{evil, loader(t) + " " + evil} {
		if got := r.sh(line); got != runs {
			t.Errorf("after the rule went, %s: exit %d, want %d", line, got, runs)
		}
	}
	if err := r.Remove(t.Context(), got.Ref); !errors.Is(err, ErrNoRule) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestWhatTheAgentItselfStartsIsNeverDenied(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	evil := r.program("evil")
	r.add(bridge.PreventExecution{Path: evil})
	if err := exec.CommandContext(t.Context(), evil).Run(); err != nil {
		t.Errorf("own child: %v", err)
	}
	r.told("that a rule was about it", func(d Denial) bool { return d.Outcome == Own && d.Path == evil && d.Caller.PPID == os.Getpid() })
	if got := r.sh(evil); got != notAllowed {
		t.Errorf("a stranger: exit %d, want %d", got, notAllowed)
	}
}

func TestAFolderThatIsRenamedBringsItsFilesToThePathsOfRules(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	if err := os.MkdirAll(filepath.Join(r.dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := r.script("a/b/evil.sh")
	r.add(bridge.PreventExecution{Path: filepath.Join(r.dir, "z/b/evil.sh")})
	for _, line := range []string{script, "bash " + script, script} {
		if got := r.sh(line); got != runs {
			t.Fatalf("%s: exit %d, want %d", line, got, runs)
		}
	}
	r.sh("mv " + r.dir + "/a " + r.dir + "/z")
	for _, line := range []string{"bash " + r.dir + "/z/b/evil.sh", r.dir + "/z/b/evil.sh"} {
		agenttest.Eventually(t, line, func() bool { return r.sh(line) == notAllowed })
	}
}

func TestLogOnlyReportsAndBlocksNothing(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, func(s *settings) { s.Mode = LogOnly })
	evil := r.program("evil")
	got := r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	if got.State != bridge.StateShadow || !strings.Contains(got.Detail, "not blocked") {
		t.Errorf("the receipt is %+v", got)
	}
	if code := r.sh(evil); code != runs {
		t.Errorf("exit %d, want %d", code, runs)
	}
	r.told("the execution", func(d Denial) bool { return d.Outcome == Logged && d.Path == evil && d.SHA256 == sumOf(t, evil).SHA256 })
	if s := r.status(); s.Denials != 0 || s.Spared == 0 {
		t.Errorf("the status is %+v", s)
	}
}

func TestAFileChangedAfterItWasFoundGoodIsAskedAboutAgain(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	evil, good := r.program("evil"), r.program("good")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	for range 3 {
		if got := r.sh(good); got != runs {
			t.Fatalf("exit %d, want %d", got, runs)
		}
	}
	before := r.status().Decided
	for range 20 {
		r.sh(good)
	}
	if after := r.status().Decided; after != before {
		t.Errorf("the kernel asked %d times more about a file known to be good", after-before)
	}
	if got := r.sh("cat " + evil + " >" + good + "; " + good); got != 1 && got != notAllowed {
		t.Errorf("exit %d", got)
	}
	data, err := os.ReadFile(evil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(good, data, 0o755); err != nil { // the same inode
		t.Fatal(err)
	}
	if got := r.sh(good); got != notAllowed {
		t.Errorf("exit %d, want %d: its content is forbidden now", got, notAllowed)
	}
}

func TestRulesReachFilesTheKernelAsksNoMoreAbout(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	file := r.program("file")
	r.add(bridge.PreventExecution{Hash: sumOf(t, r.program("other")).SHA256})
	for range 3 {
		r.sh(file)
	}
	r.add(bridge.PreventExecution{Hash: sumOf(t, file).MD5})
	if got := r.sh(file); got != notAllowed {
		t.Errorf("exit %d, want %d", got, notAllowed)
	}
}

// TestTheAgentMayStartProgramsWhileItGuards: in one process this hangs within some hundred starts, because the garbage collector
// waits for the start, the start for the answer, and the answer for the garbage collector.
func TestTheAgentMayStartProgramsWhileItGuards(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	r.add(bridge.PreventExecution{Hash: strings.Repeat("a", 64)})
	for i := range 300 {
		p := r.copyOf("/bin/true", fmt.Sprintf("p%d", i%8))
		if err := os.WriteFile(p, append(mustRead(t, p), byte(i)), 0o755); err != nil {
			t.Fatal(err)
		}
		garbage := make([][]byte, 64)
		for j := range garbage {
			garbage[j] = make([]byte, 64<<10)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := exec.CommandContext(ctx, p).Run(); err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		cancel()
	}
	if s := r.status(); s.Restarts != 0 {
		t.Errorf("the listener was restarted %d times: %s", s.Restarts, s.LastError)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
