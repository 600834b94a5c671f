package localagent

import (
	"context"
	"encoding/json"
	"errors"
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

func newLauncher(t testing.TB, change ...func(*LauncherConfig)) *Launcher {
	t.Helper()
	cfg := LauncherConfig{Dir: filepath.Join(t.TempDir(), "programs")}
	for _, c := range change {
		c(&cfg)
	}
	l, err := NewLauncher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// script writes an executable shell script.
func script(t testing.TB, body string) string {
	t.Helper()
	return agenttest.WriteProgram(t, filepath.Join(t.TempDir(), "script"), []byte("#!/bin/sh\n"+body+"\n"))
}

// started starts the program and makes sure that it does not outlive the test.
func started(t *testing.T, l *Launcher, task bridge.StartProcess, limit time.Duration) *Run {
	t.Helper()
	r, err := l.Start(t.Context(), order(task).ID, task, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p, err := l.attach(&r.note); err == nil {
			_ = unix.Kill(-r.PID, unix.SIGKILL)
			_, _ = unix.Wait4(r.PID, nil, 0, nil)
			p.close()
		}
	})
	return r
}

func exits(t *testing.T, r *Run) Exit {
	t.Helper()
	e, err := r.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func refused(t *testing.T, err error, class bridge.Class, text string) {
	t.Helper()
	v, ok := errors.AsType[*verdict.Error](err)
	if !ok || v.Class != class || !strings.Contains(v.Error(), text) {
		t.Errorf("error = %v (%T), want class %v with %q", err, err, class, text)
	}
}

func TestStartGivesAProgramExactlyWhatTheTaskSays(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	dir := t.TempDir()
	name := script(t, `for a; do echo "[$a]"; done; env | sort; pwd; cat; echo "$$ $(cut -d" " -f6 /proc/$$/stat)"; echo oops >&2; exit 7`)
	begin := time.Now()
	r := started(t, l, bridge.StartProcess{ExecutablePath: name, Arguments: `one "two  words" 'it'\''s $HOME' a\ b ;reboot $(x) *`, WorkingFolder: dir}, 0)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("start took %s", took)
	}
	if p, err := newAgent(t).ResolveProcess(t.Context(), bridge.Process{PID: r.PID}, false); err == nil && p.Start != r.Start {
		t.Errorf("start time %d, the kernel says %d", r.Start, p.Start)
	}
	md5Hex, sha256Hex := digestsOf(t, name)
	if r.Path != name || r.MD5 != md5Hex || r.SHA256 != sha256Hex || r.PID <= 1 || r.Start == 0 || r.Limit != defaultTimeLimit {
		t.Errorf("run = %+v", r)
	}
	e := exits(t, r)
	if !e.Known || e.Code != 7 || e.Signal != "" || e.TimedOut || e.Cut || len(e.Survivors) != 0 || e.Ended.IsZero() {
		t.Errorf("exit = %+v", e)
	}
	lines := strings.Split(strings.TrimSpace(content(t, e.Stdout)), "\n")
	want := []string{"[one]", "[two  words]", "[it's $HOME]", "[a b]", "[;reboot]", "[$(x)]", "[*]", "LANG=C.UTF-8", "PATH=" + programPath, "PWD=" + dir, dir}
	for i, line := range want {
		if i >= len(lines) || lines[i] != line {
			t.Errorf("output %q, want line %d to be %q", lines, i, line)
			break
		}
	}
	if last := lines[len(lines)-1]; last != itoa(r.PID)+" "+itoa(r.PID) {
		t.Errorf("pid and session = %q, want both %d", last, r.PID)
	}
	if got := content(t, e.Stderr); got != "oops\n" {
		t.Errorf("stderr = %q", got)
	}
	for _, f := range []string{e.Stdout, e.Stderr, filepath.Join(filepath.Dir(e.Stdout), fileNote)} {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", f, info.Mode(), err)
		}
	}
}

func TestAnOrderStartsItsProgramOnce(t *testing.T) {
	t.Parallel()
	count := filepath.Join(t.TempDir(), "count")
	task := bridge.StartProcess{ExecutablePath: script(t, `echo x >> "$1"`), Arguments: count}
	l := newLauncher(t)
	if _, err := l.Found("o1"); !errors.Is(err, ErrNotStarted) {
		t.Errorf("found = %v", err)
	}
	first := started(t, l, task, 0)
	results := make(chan *Run, 8)
	for range cap(results) {
		other := newLauncher(t, func(c *LauncherConfig) { c.Dir = l.cfg.Dir })
		go func() {
			r, err := other.Start(t.Context(), first.OrderID, task, 0)
			if err != nil {
				t.Error(err)
			}
			results <- r
		}()
	}
	for range cap(results) {
		if r := <-results; r != nil && (r.PID != first.PID || r.Start != first.Start) {
			t.Errorf("run = %+v, want pid %d", r, first.PID)
		}
	}
	if e := exits(t, first); !e.Known || e.Code != 0 {
		t.Errorf("exit = %+v", e)
	}
	again, err := newLauncher(t, func(c *LauncherConfig) { c.Dir = l.cfg.Dir }).Start(t.Context(), first.OrderID, task, 0)
	if err != nil {
		t.Fatal(err)
	}
	if e := exits(t, again); !e.Known || e.Code != 0 || again.PID != first.PID || again.Running() {
		t.Errorf("exit = %+v", e)
	}
	if got := content(t, count); got != "x\n" {
		t.Errorf("the program ran %d times", strings.Count(got, "x"))
	}
}

func TestOutputIsKeptUpToItsLimitAndTheProgramGoesOn(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	r := started(t, l, bridge.StartProcess{ExecutablePath: script(t, `head -c 8000000 /dev/zero; echo done >&2; exit 3`)}, 0)
	e := exits(t, r)
	if !e.Cut || e.Code != 3 || content(t, e.Stderr) != "done\n" {
		t.Errorf("exit = %+v", e)
	}
	if info, err := os.Stat(e.Stdout); err != nil || info.Size() != maxOutput {
		t.Errorf("stdout has %d bytes, %v", info.Size(), err)
	}
}

func TestAProgramWhoseTimeIsOverIsEndedWithAllItStarted(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	sleep := agenttest.Program(t, "sleep", "child")
	r := started(t, l, bridge.StartProcess{ExecutablePath: script(t, `trap "" TERM; "$1" 3600 & ("$1" 3600 &); echo on; while :; do sleep 1; done`), Arguments: sleep}, 300*time.Millisecond)
	e := exits(t, r)
	if !e.TimedOut || !e.Known || e.Signal != "SIGKILL" || len(e.Survivors) != 0 || content(t, e.Stdout) != "on\n" {
		t.Errorf("exit = %+v", e)
	}
	agenttest.Eventually(t, "what it started is dead", func() bool { return len(running(t, sleep)) == 0 })
	if text := e.String(); !strings.Contains(text, "time was over") {
		t.Errorf("text = %q", text)
	}
}

func TestAProgramCanBeEndedWithAllItStarted(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	sleep := agenttest.Program(t, "sleep", "child")
	r := started(t, l, bridge.StartProcess{ExecutablePath: script(t, `echo on; "$1" 3600 & wait`), Arguments: sleep}, 0)
	agenttest.Eventually(t, "the child runs", func() bool { return len(running(t, sleep)) == 1 })
	e, err := r.End(t.Context())
	if err != nil || e.TimedOut || e.Signal != "SIGKILL" || len(e.Survivors) != 0 || content(t, e.Stdout) != "on\n" {
		t.Errorf("exit = %+v, %v", e, err)
	}
	agenttest.Eventually(t, "the child is dead", func() bool { return len(running(t, sleep)) == 0 })
	if again, err := r.End(t.Context()); err != nil || again.Signal != "SIGKILL" {
		t.Errorf("ended again: %+v, %v", again, err)
	}
}

func TestADaemonIsNotWaitedForAndNamed(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	sleep := agenttest.Program(t, "sleep", "daemon")
	r := started(t, l, bridge.StartProcess{ExecutablePath: script(t, `("$1" 3600 &); echo started`), Arguments: sleep}, 0)
	begin := time.Now()
	e := exits(t, r)
	if took := time.Since(begin); took > 10*time.Second || !e.Known || e.Code != 0 || content(t, e.Stdout) != "started\n" {
		t.Errorf("after %s: %+v", took, e)
	}
	if len(e.Survivors) != 1 || !strings.HasPrefix(e.Survivors[0], "pid ") {
		t.Errorf("survivors = %v", e.Survivors)
	}
	agenttest.Eventually(t, "the daemon runs", func() bool { return len(running(t, sleep)) == 1 })
	for pid := range running(t, sleep) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func TestAnotherProcessOfTheAgentFindsTheProgramAndItsOutputAgain(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	gate := filepath.Join(t.TempDir(), "gate")
	r := started(t, l, bridge.StartProcess{ExecutablePath: script(t, `echo one; while [ ! -e "$1" ]; do sleep 0.02; done; echo two; exit 5`), Arguments: gate}, 0)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if e, err := r.Wait(ctx); !errors.Is(err, ErrStillRunning) || !errors.Is(err, context.Canceled) {
		t.Fatalf("wait = %+v, %v", e, err)
	}
	next := newLauncher(t, func(c *LauncherConfig) { c.Dir = l.cfg.Dir })
	found, err := next.Found(r.OrderID)
	if err != nil || found.PID != r.PID || !found.Running() {
		t.Fatalf("found = %+v, %v", found, err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := exits(t, found)
	if !e.Known || e.Code != 5 || content(t, e.Stdout) != "one\ntwo\n" {
		t.Errorf("exit = %+v, %q", e, content(t, e.Stdout))
	}
}

// TestTheExitCodeOfAProgramOfAnotherProcessIsKnown lets a process that is not the test's parent start and wait for the program.
func TestTheExitCodeOfAProgramOfAnotherProcessIsKnown(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	name := script(t, `read x; exit 9`)
	cmd := exec.Command("sh", "-c", `exec 3<&0; sh -c "read x; exit 9" <&3 & echo $!; wait $!`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	buf := make([]byte, 20)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pin(atoi(t, strings.TrimSpace(string(buf[:n]))))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	foreign := note{Order: "foreign", Path: name, PID: p.pid, Start: p.start, Boot: bootID(), Begun: time.Now(), Limit: time.Hour}
	if err := os.MkdirAll(l.folder("foreign"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.write(foreign); err != nil {
		t.Fatal(err)
	}
	r, err := l.Found("foreign")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _, _ = in.Write([]byte("\n")) })
	e := exits(t, r)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if unix.IoctlPidfdInfo(p.pidfd, &info) != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		t.Skip("this kernel does not remember how a process ended")
	}
	if !e.Known || e.Code != 9 {
		t.Errorf("exit = %+v", e)
	}
}

func TestAProgramThatEndedUnseenHasNoKnownExitCode(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, n := range map[string]note{
		"gone":           {PID: maxPID - 1, Start: 5, Boot: bootID()},
		"another one":    {PID: os.Getpid(), Start: 5, Boot: bootID()},
		"before restart": {PID: os.Getpid(), Start: 5, Boot: "another"},
	} {
		n.Order, n.Begun, n.Limit = strings.ReplaceAll(name, " ", "-"), time.Now(), time.Hour
		if err := os.MkdirAll(l.folder(n.Order), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := l.write(n); err != nil {
			t.Fatal(err)
		}
		r, err := l.Found(n.Order)
		if err != nil {
			t.Fatal(err)
		}
		if e := exits(t, r); e.Known || r.Running() || !strings.Contains(e.String(), "not known") {
			t.Errorf("%s: exit = %+v", name, e)
		}
	}
}

func TestACrashBetweenNoteAndStartIsUndecidedAndACrashAfterItIsFoundOut(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	r := started(t, l, bridge.StartProcess{ExecutablePath: script(t, `while :; do sleep 0.05; done`)}, 0)
	n := r.note
	n.PID, n.Start = 0, 0
	if err := l.write(n); err != nil {
		t.Fatal(err)
	}
	found, err := l.Found(r.OrderID)
	if err != nil || found.PID != r.PID || found.Start != r.Start {
		t.Errorf("found = %+v, %v, want pid %d", found, err, r.PID)
	}
	n.Order = "never-begun"
	if err := os.MkdirAll(l.folder(n.Order), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.write(n); err != nil {
		t.Fatal(err)
	}
	_, err = l.Found(n.Order)
	refused(t, err, bridge.Unknown, "is not known")
	_, err = l.Start(t.Context(), n.Order, bridge.StartProcess{ExecutablePath: r.Path}, 0)
	refused(t, err, bridge.Unknown, "is not known")
}

func TestNotesThatCannotBeReadAreUndecided(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	task := bridge.StartProcess{ExecutablePath: script(t, `exit`)}
	for order, text := range map[string]string{
		"junk": "{", "version": `{"version":2,"order":"version"}`, "other": `{"version":1,"order":"x"}`, "pid": `{"version":1,"order":"pid","pid":-1}`,
		"nostart": `{"version":1,"order":"nostart","pid":4}`,
	} {
		if err := os.MkdirAll(l.folder(order), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(l.folder(order), fileNote), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := l.Start(t.Context(), order, task, 0)
		refused(t, err, bridge.Unknown, "record of the program")
	}
}

func FuzzParseNote(f *testing.F) {
	f.Add(`{"version":1,"order":"o","pid":4,"start":5,"exit":{"known":true}}`)
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseNote([]byte(text), "o")
		if err != nil {
			return
		}
		if n.PID < 0 || n.PID > maxPID || n.PID != 0 && n.Start == 0 {
			t.Errorf("note %+v", n)
		}
		if _, err := json.Marshal(n); err != nil {
			t.Error(err)
		}
	})
}
