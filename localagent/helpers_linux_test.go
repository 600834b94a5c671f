package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

const (
	testHost = "ws01.corp.local"
	// helperEnv makes a copy of the test program play a part instead of running tests.
	helperEnv = "LOCALAGENT_TEST_HELPER"
)

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case "first-thread-exits":
		firstThreadExits()
	case "holds-a-tree":
		holdsATree()
	case "sleep":
		time.Sleep(time.Hour)
	case "listen-executions":
		if len(os.Args) < 2 || os.Args[1] != "listen-executions" {
			os.Exit(m.Run())
		}
		listenExecutions()
	}
}

// listenExecutions is the process of a guard that watches one file system of a test.
func listenExecutions() {
	mount, state, _ := strings.Cut(os.Getenv(watchedEnv), "\n")
	cfg := Config{Self: bridge.Identity{Names: []string{testHost}}, State: state}
	watching(&cfg, mount)
	if err := ListenExecutions(context.Background(), cfg, os.NewFile(3, "agent")); err != nil {
		os.Exit(1)
	}
}

// heldEnv tells holdsATree what to end, one word a line: state, pid, image at which it stops, at which look, and the file that says so.
const heldEnv = "LOCALAGENT_TEST_HELD"

// holdsATree is an agent that stops a tree and never gets further.
func holdsATree() {
	words := strings.Split(os.Getenv(heldEnv), "\n")
	pid, look := 0, 0
	_, _ = fmt.Sscan(words[1]+" "+words[3], &pid, &look)
	looks := 0
	a, err := New(Config{
		Self: bridge.Identity{Names: []string{testHost}}, State: words[0],
		Protected: func(image string) (bridge.Reason, string) {
			if image == words[2] {
				if looks++; looks == look {
					_ = os.WriteFile(words[4], nil, 0o600)
					time.Sleep(time.Hour)
				}
			}
			return bridge.ReasonNone, ""
		},
	})
	if err != nil {
		os.Exit(1)
	}
	p, err := a.ResolveProcess(context.Background(), bridge.Process{PID: pid}, false)
	if err != nil {
		os.Exit(1)
	}
	p.Tree = true
	_, _ = a.Execute(context.Background(), bridge.Order{ID: "held", Host: testHost, Task: bridge.TerminateProcess{}, Subject: p})
}

// firstThreadExits ends the first thread of the process and leaves the others running.
func firstThreadExits() {
	for {
		tid := make(chan bool)
		go func() {
			runtime.LockOSThread()
			first := unix.Gettid() == os.Getpid()
			tid <- first
			if first {
				_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
			}
			select {}
		}()
		if <-tid {
			break
		}
	}
	time.Sleep(time.Hour)
}

var orderCount atomic.Int64

// order returns an order for this machine with an id of its own.
func order(task bridge.Task) bridge.Order {
	return bridge.Order{ID: fmt.Sprintf("o%024d", orderCount.Add(1)), Host: testHost, Task: task}
}

// about returns an order to end the process v as the pipeline would make it.
func about(t testing.TB, a *Agent, v *victim) bridge.Order {
	t.Helper()
	p, err := a.ResolveProcess(t.Context(), bridge.Process{PID: v.pid}, false)
	if err != nil {
		t.Fatalf("resolve: %v", err)
	}
	o := order(bridge.TerminateProcess{})
	o.Subject = p
	return o
}

// notTheHost keeps tests from cutting off, or watching, the machine they run on: such orders are for tests in namespaces of their own.
func notTheHost(o bridge.Order) (bridge.Reason, string) {
	switch o.Task.(type) {
	case bridge.IsolateHost, bridge.PreventExecution:
		if !agenttest.IsInside() {
			return bridge.ReasonLocalTasks, "tests do this in namespaces of their own"
		}
	}
	return bridge.ReasonNone, ""
}

func newAgent(t testing.TB, change ...func(*Config)) *Agent {
	t.Helper()
	cfg := Config{Self: bridge.Identity{Names: []string{testHost}}, State: t.TempDir(), Check: notTheHost}
	for _, f := range change {
		f(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return a
}

// victim is a child of the test.
type victim struct {
	cmd *exec.Cmd
	pid int
	fd  int
}

// dead reports whether the child has exited.
func (v *victim) dead() bool { return readable(v.fd) }

// start runs a child; it is ended and collected with the test.
func start(t testing.TB, cmd *exec.Cmd) *victim {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what the child starts ends with the test as well
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	v := &victim{cmd: cmd, pid: cmd.Process.Pid, fd: -1}
	t.Cleanup(func() {
		if cmd.SysProcAttr.Setpgid {
			_ = unix.Kill(-v.pid, unix.SIGKILL)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if v.fd >= 0 {
			_ = unix.Close(v.fd)
		}
	})
	var err error
	if v.fd, err = unix.PidfdOpen(v.pid, 0); err != nil {
		t.Fatalf("pidfd_open: %v", err)
	}
	return v
}

// sleeper runs image, a copy of sleep, for as long as the test may take.
func sleeper(t testing.TB, image string) *victim {
	t.Helper()
	return start(t, exec.Command(image, "3600"))
}

// ignoresTerm runs a shell that ignores SIGTERM and says so by creating the file ready.
func ignoresTerm(t testing.TB, shell string) *victim {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	v := start(t, exec.Command(shell, "-c", `trap "" TERM; : > "$0"; while :; do read x < /dev/zero; done`, ready))
	agenttest.Eventually(t, "the child ignores SIGTERM", func() bool { _, err := os.Stat(ready); return err == nil })
	return v
}

// wantError checks class, reason and a part of the text of an executor's error.
func wantError(t *testing.T, err error, class bridge.Class, reason bridge.Reason, text string) {
	t.Helper()
	ee, ok := errors.AsType[*bridge.ExecError](err)
	if !ok {
		t.Fatalf("error = %v (%T), want *bridge.ExecError", err, err)
	}
	if ee.Class != class || ee.Reason != reason || !strings.Contains(ee.Error(), text) {
		t.Fatalf("error = class %v, reason %q, %q; want class %v, reason %q, text with %q", ee.Class, ee.Reason, ee, class, reason, text)
	}
}

func itoa(n int) string { return fmt.Sprint(n) }
