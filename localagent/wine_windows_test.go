package localagent

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
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

func ended(t *testing.T, cmd *exec.Cmd) bool {
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

func wineAgent(t *testing.T, change func(*Config)) *Agent {
	t.Helper()
	cfg := Config{Self: bridge.Identity{Names: []string{wineHost}}}
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
	if !ended(t, victim) {
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
	if err := p.signal(sigKill); !errors.Is(err, errGone) {
		t.Errorf("a second time: %v, want errGone", err)
	}
	if !ended(t, cmd) {
		t.Error("it still runs")
	}
}

func TestProtectedProcessesAreRefusedOnTheWindowsAPI(t *testing.T) {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		t.Fatal(err)
	}
	a := wineAgent(t, nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, task := range map[string]bridge.TerminateProcess{
		"services.exe": {Path: filepath.Join(system, "services.exe")},
		"this program": {Path: self},
	} {
		_, err := a.Execute(t.Context(), wineOrder(task))
		ee, ok := errors.AsType[*bridge.ExecError](err)
		if !ok || ee.Class != bridge.Permanent || ee.Reason != bridge.ReasonProtectedProcess {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkPID(4); err == nil {
		t.Error("the system process may be ended")
	}
}

func TestDryRunAndForeignHostsOnTheWindowsAPI(t *testing.T) {
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
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil && found["packet filter"].OK {
		t.Error("wine has no packet filter, and the probe says it has")
	}
}
