package localagent

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	wineHost   = "ws01.corp.local"
	sleeperEnv = "LOCALAGENT_TEST_SLEEPER"
)

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(sleeperEnv); ok {
		if how == "parent" {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), sleeperEnv+"=child")
			if err := child.Start(); err != nil {
				os.Exit(3)
			}
		}
		time.Sleep(time.Hour)
	}
	if slices.Contains(os.Args, "-sleep-for-a-test") {
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// copyOfTest copies the program of the test under another name, so that orders about it are about nothing else.
func copyOfTest(t *testing.T, name string) (path, sum string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, name...)
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, raw, 0o700); err != nil {
		t.Fatal(err)
	}
	digest := md5.Sum(raw)
	return path, hex.EncodeToString(digest[:])
}

// sleeper runs a copy of the test that sleeps, and ends it with the test.
func sleeper(t *testing.T, path, how string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), sleeperEnv+"="+how)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func sawEnd(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	done := make(chan struct{})
	go func() {
		_, _ = cmd.Process.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(20 * time.Second):
		return false
	}
}

// onWine reports whether the Windows the test runs on is wine.
func onWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// needCritical skips where nobody says which processes are critical: the agent then ends none.
func needCritical(t *testing.T) {
	t.Helper()
	if _, err := isCritical(windows.CurrentProcess()); err != nil {
		t.Skipf("no process can be ended here: %v", err)
	}
}

func wineAgent(t *testing.T, change func(*Config)) *Agent {
	t.Helper()
	cfg := Config{Self: bridge.Identity{Names: []string{wineHost}}, State: t.TempDir()}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func wineOrder(task bridge.Task) bridge.Order {
	return bridge.Order{ID: "o-wine", Host: wineHost, Task: task}
}

func TestTerminateProcessByPathAndDigestOnTheWindowsAPI(t *testing.T) {
	needCritical(t)
	path, sum := copyOfTest(t, "victim.exe")
	other, _ := copyOfTest(t, "bystander.exe")
	victim, bystander := sleeper(t, path, "child"), sleeper(t, other, "child")
	a := wineAgent(t, nil)
	if r, err := a.Execute(t.Context(), wineOrder(bridge.TerminateProcess{Path: path, MD5: strings.Repeat("0", 32)})); err != nil || r.State != bridge.StateDone || !strings.Contains(r.Detail, "no process") {
		t.Errorf("another digest: %+v, %v", r, err)
	}
	r, err := a.Execute(t.Context(), wineOrder(bridge.TerminateProcess{Path: strings.ToUpper(path), MD5: sum}))
	if err != nil || r.State != bridge.StateDone {
		t.Fatalf("%+v, %v", r, err)
	}
	if !sawEnd(t, victim) {
		t.Error("the process still runs")
	}
	p, err := pin(bystander.Process.Pid)
	if err != nil || p.ended() {
		t.Fatalf("a process with another image was ended: %v", err)
	}
	p.close()
	if r, err := a.Execute(t.Context(), wineOrder(bridge.TerminateProcess{Path: path})); err != nil || r.State != bridge.StateDone {
		t.Errorf("nothing left: %+v, %v", r, err)
	}
}

func TestAHandleIsNotTheNumberOfALaterProcess(t *testing.T) {
	path, _ := copyOfTest(t, "pinned.exe")
	cmd := sleeper(t, path, "child")
	p, err := pin(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if !strings.EqualFold(filepath.Base(p.image), "pinned.exe") || p.start == 0 || p.ended() {
		t.Errorf("pinned %+v", p)
	}
	if err := p.signal(sigKill); err != nil {
		t.Fatal(err)
	}
	if !p.waitExit(t.Context(), time.Now().Add(20*time.Second)) {
		t.Fatal("the exit was not seen")
	}
	if err := p.signal(sigKill); !errors.Is(err, errGone) && (err != nil || !onWine()) {
		t.Errorf("a second time: %v, want errGone", err) // wine ends what has ended without a complaint
	}
	if !sawEnd(t, cmd) {
		t.Error("it still runs")
	}
}

func TestProtectedProcessesAreRefusedOnTheWindowsAPI(t *testing.T) {
	needCritical(t)
	system, err := windows.GetSystemDirectory()
	if err != nil {
		t.Fatal(err)
	}
	a := wineAgent(t, nil)
	_, err = a.Execute(t.Context(), wineOrder(bridge.TerminateProcess{Path: filepath.Join(system, "services.exe")}))
	ee, ok := errors.AsType[*bridge.ExecError](err)
	if !ok || ee.Class != bridge.Permanent || ee.Reason != bridge.ReasonProtectedProcess {
		t.Errorf("services.exe: %v", err)
	}
	for _, pid := range []int{0, 4, os.Getpid()} {
		if err := checkPID(pid); err == nil {
			t.Errorf("process %d may be ended", pid)
		}
	}
}

func TestDryRunAndForeignHostsOnTheWindowsAPI(t *testing.T) {
	needCritical(t)
	path, _ := copyOfTest(t, "spared.exe")
	cmd := sleeper(t, path, "child")
	a := wineAgent(t, func(c *Config) { c.DryRun = true })
	if r, err := a.Execute(t.Context(), wineOrder(bridge.TerminateProcess{Path: path})); err != nil || r.State != bridge.StateShadow {
		t.Errorf("dry run: %+v, %v", r, err)
	}
	o := wineOrder(bridge.TerminateProcess{Path: path})
	o.Host = "another"
	if _, err := a.Execute(t.Context(), o); err == nil {
		t.Error("an order for another host was carried out")
	}
	p, err := pin(cmd.Process.Pid)
	if err != nil || p.ended() {
		t.Fatalf("the process was ended: %v", err)
	}
	p.close()
}

func TestTheTreeOfAProcessIsFoundAndEnded(t *testing.T) {
	needCritical(t)
	path, _ := copyOfTest(t, "tree.exe")
	root := sleeper(t, path, "parent")
	a := wineAgent(t, nil)
	var pl *plan
	for until := time.Now().Add(20 * time.Second); ; {
		p, err := pin(root.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		pl = &plan{targets: []*pinned{p}}
		if err := a.grow(t.Context(), pl); err != nil {
			t.Fatal(err)
		}
		if len(pl.targets) == 2 {
			break
		}
		pl.close()
		if time.Now().After(until) {
			t.Fatal("the child was not found")
		}
		time.Sleep(50 * time.Millisecond)
	}
	defer pl.close()
	if res := a.endAll(t.Context(), pl); len(res.running)+len(res.denied) > 0 {
		t.Errorf("left: %+v", res)
	}
	for _, p := range pl.targets {
		if !p.ended() {
			t.Errorf("process %d still runs", p.pid)
		}
	}
}

func TestAProcessIsAChildOfWhoBeganIt(t *testing.T) {
	path, _ := copyOfTest(t, "child.exe")
	child, other := sleeper(t, path, "child"), sleeper(t, path, "child")
	self, err := pin(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.close()
	p, err := pinChild(child.Process.Pid, self)
	if err != nil {
		t.Fatalf("an own child: %v", err)
	}
	defer p.close()
	// As when the number in the list had been given to another process since.
	stranger, err := pin(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.close()
	if q, err := pinChild(child.Process.Pid, stranger); !errors.Is(err, errGone) {
		q.close()
		t.Errorf("the child of another: %v", err)
	}
	younger := *self
	younger.start = p.start + 1
	if q, err := pinChild(child.Process.Pid, &younger); !errors.Is(err, errGone) {
		q.close()
		t.Errorf("a child older than its parent: %v", err)
	}
}

func TestAChildThatMayNotBeOpenedIsToldAndShieldsNobody(t *testing.T) {
	needCritical(t)
	path, _ := copyOfTest(t, "root.exe")
	root := sleeper(t, path, "child")
	p, err := pin(root.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	pl := &plan{targets: []*pinned{p}}
	defer pl.close()
	pl.forest.sealed = map[int]string{1234: "open process 1234: access is denied"}
	a := wineAgent(t, nil)
	if err := a.grow(t.Context(), pl); err != nil {
		t.Fatal(err)
	}
	res := a.endAll(t.Context(), pl)
	if len(res.ended) != 1 || len(res.denied) != 1 || !strings.Contains(res.denied[0], "1234") {
		t.Errorf("%+v", res)
	}
	if r, err := res.receipt(t.Context()); err == nil {
		t.Errorf("the order is %s although a child was left", r.State)
	}
}

func TestAProgramThatCannotBeLookedAtIsEndedBeforeItBegins(t *testing.T) {
	path, _ := copyOfTest(t, "suspended.exe")
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), sleeperEnv+"=child")
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_SUSPENDED}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if v := verdict.Of(unbegun(cmd.Process, errSealed)); v.Class != bridge.Retry {
		t.Errorf("%v: class %v, want that nothing was done", v, v.Class)
	}
	if !sawEnd(t, cmd) {
		t.Error("it still waits")
	}
}

func TestStartProcessOnTheWindowsAPI(t *testing.T) {
	needCritical(t)
	l, err := NewLauncher(LauncherConfig{Dir: filepath.Join(t.TempDir(), "started")})
	if err != nil {
		t.Fatal(err)
	}
	system, err := windows.GetSystemDirectory()
	if err != nil {
		t.Fatal(err)
	}
	shell := filepath.Join(system, "cmd.exe")
	r, err := l.Start(t.Context(), "order1", bridge.StartProcess{ExecutablePath: shell, Arguments: `/c echo "a b"& exit 7`}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if r.PID == 0 || r.Start == 0 || len(r.SHA256) != 64 {
		t.Errorf("%+v", r)
	}
	e, err := r.Wait(t.Context())
	if err != nil || !e.Known || e.Code != 7 || e.TimedOut {
		t.Fatalf("%+v, %v", e, err)
	}
	if out, err := os.ReadFile(e.Stdout); err != nil || !strings.Contains(string(out), `"a b"`) {
		t.Errorf("output %q, %v", out, err)
	}
	if again, err := l.Start(t.Context(), "order1", bridge.StartProcess{ExecutablePath: shell}, 0); err != nil || again.PID != r.PID {
		t.Errorf("the order a second time: %+v, %v", again, err)
	}
	path, _ := copyOfTest(t, "endless.exe")
	if _, err := l.Start(t.Context(), "order2", bridge.StartProcess{ExecutablePath: filepath.Join(filepath.Dir(path), "missing.exe")}, 0); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestWhatRunsTooLongIsEndedOnTheWindowsAPI(t *testing.T) {
	needCritical(t)
	l, err := NewLauncher(LauncherConfig{Dir: filepath.Join(t.TempDir(), "started")})
	if err != nil {
		t.Fatal(err)
	}
	path, _ := copyOfTest(t, "endless.exe")
	r, err := l.Start(t.Context(), "order1", bridge.StartProcess{ExecutablePath: path, Arguments: "-sleep-for-a-test"}, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Running() {
		t.Error("it does not run")
	}
	e, err := r.Wait(t.Context())
	if err != nil || !e.TimedOut || len(e.Survivors) > 0 || r.Running() {
		t.Errorf("%+v, %v, running %v", e, err, r.Running())
	}
}

func TestPrivilegesOfTheAccountAreSwitchedOn(t *testing.T) {
	EnablePrivileges()
	missing, err := missingPrivileges()
	if err != nil {
		t.Fatal(err)
	}
	if windows.GetCurrentProcessToken().IsElevated() && len(missing) > 0 {
		t.Errorf("an administrator lacks %v", missing)
	}
}

func TestTheOwnProgramIsNamedAsTheSystemNamesIt(t *testing.T) {
	own, err := new(onceFacts).get()
	if err != nil {
		t.Fatal(err)
	}
	self, err := pin(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.close()
	if own.image == "" || own.image != self.image {
		t.Errorf("own program %q, its process has the image %q", own.image, self.image)
	}
}

func TestTheProbeSaysWhatThisWindowsLacks(t *testing.T) {
	t.Parallel()
	found := map[string]Capability{}
	for _, c := range wineAgent(t, nil).Probe(context.WithoutCancel(t.Context())) {
		if c.Detail == "" {
			t.Errorf("%s says nothing", c.Name)
		}
		found[c.Name] = c
	}
	if !found["processes"].OK {
		t.Errorf("processes: %+v", found["processes"])
	}
	if onWine() && found["packet filter"].OK {
		t.Error("wine has no packet filter, and the probe says it has")
	}
}
