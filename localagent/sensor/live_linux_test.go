package sensor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// logbook keeps what is logged.
type logbook struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logbook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// startChain runs a program called child by one called parent, and returns the two files and what to end them with.
func startChain(t *testing.T, parentName, childName, seconds string) (parent, child string) {
	t.Helper()
	parent, child = parentProgram(t, parentName), program(t, "sleep", childName)
	cmd := exec.Command(parent, child, seconds)
	cmd.Env = []string{helperEnv + "=1"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	return parent, child
}

func TestChainOfTheSeedMakesAnAlertToActOn(t *testing.T) {
	needEvents(t)
	var c catcher
	s := startSensor(t, noLimits(Config{Emit: c.emits(), Host: "lab"}))
	parent, child := startChain(t, "winword.exe", "powershell.exe", "1")
	agenttest.Eventually(t, "an alert", func() bool { return len(c.of(child)) == 1 })
	d := c.of(child)[0]
	st, err := system{}.stat(d.ActionablePID)
	if err != nil {
		t.Fatal(err)
	}
	if d.StartTicks != st.start || d.StartTicks == 0 || d.PPID != st.ppid || d.ParentExe != parent || len(d.SHA256) != 64 || d.UID == nil ||
		*d.UID != int64(os.Geteuid()) || d.Host != "lab" || d.Method != MethodEvents || d.Cmdline != child+" 1" || d.ParentTicks == 0 {
		t.Errorf("alert %+v, process %+v", d, st)
	}
	if when, err := time.Parse(time.RFC3339Nano, d.Timestamp); err != nil || time.Since(when).Abs() > time.Minute {
		t.Errorf("timestamp %s: %v", d.Timestamp, err)
	}
	if s.Status().Events == 0 || s.Err() != nil || !s.Connected() {
		t.Errorf("status %+v", s.Status())
	}
}

func TestScriptsCountByTheirNames(t *testing.T) {
	needEvents(t)
	var c catcher
	startSensor(t, noLimits(Config{Emit: c.emits()}))
	child := script(t, "powershell.exe", "read line")
	parent := script(t, "winword.exe", child+" -enc x; true")
	cmd := exec.Command(parent)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	agenttest.Eventually(t, "an alert", func() bool { return len(c.of(child)) == 1 })
	d := c.of(child)[0]
	if d.Rule != "office-starts-shell" || !strings.HasPrefix(d.Description, "parent 'winword.exe' ") || d.ActionablePID == 0 ||
		!strings.HasSuffix(d.Cmdline, child+" -enc x") || len(d.Parents) == 0 || d.Parents[0].Script != parent {
		t.Errorf("alert %+v", d)
	}
}

func TestProcessBehindADecoyMakesItsAlertWhileItLives(t *testing.T) {
	needEvents(t)
	var c catcher
	startSensor(t, Config{Emit: c.emits()})
	child := program(t, "sleep", "powershell.exe")
	cmd := exec.Command(script(t, "winword.exe", child+" 0.01; "+child+" 0.01; "+child+" 60"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	agenttest.Eventually(t, "an alert of the living one", func() bool {
		return slices.ContainsFunc(c.of(child), func(d document) bool { return d.Cmdline == child+" 60" && d.ActionablePID != 0 })
	})
	if n := len(c.of(child)); n != 2 {
		t.Errorf("%d alerts, want one of the decoys and one of the living", n)
	}
}

func TestProgramBelowALongPathIsAlertedWhileItLives(t *testing.T) {
	needEvents(t)
	var c catcher
	startSensor(t, noLimits(Config{Emit: c.emits()}))
	part := strings.Repeat("d", 200)
	cmd := exec.Command(script(t, "winword.exe", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do mkdir "+part+
		"; cd -P "+part+"; done; cp "+program(t, "sleep", "x")+" innocent; exec ./innocent 60"))
	cmd.Dir = t.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A shell that runs it in its place is the child of this program, which counts by its name.
	cmd.Path, cmd.Args = parentProgram(t, "winword.exe"), append([]string{"winword.exe"}, cmd.Args...)
	cmd.Env = []string{helperEnv + "=1", "PATH=/bin:/usr/bin"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	find := func() (d document) {
		for _, d := range c.of("office-starts-shell") {
			if strings.Contains(d.Description, "'innocent'") {
				return d
			}
		}
		return d
	}
	agenttest.Eventually(t, "an alert", func() bool { return find().ID != "" })
	d := find()
	if st, err := (system{}).stat(d.ActionablePID); err != nil || d.StartTicks != st.start || len(d.SHA256) != 64 || d.Cmdline != "./innocent 60" || d.Exited {
		t.Errorf("alert %+v", d)
	}
}

func TestDoubleForkDoesNotHideTheParent(t *testing.T) {
	needEvents(t)
	var c catcher
	startSensor(t, noLimits(Config{Emit: c.emits()}))
	child := program(t, "sleep", "powershell.exe")
	// The shell between the two ends at once: the child belongs to another process when it begins.
	parent := script(t, "winword.exe", "( ( sleep 0.2; exec "+child+" 1 ) & )\nsleep 1")
	cmd := exec.Command(parent)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "an alert", func() bool { return len(c.of(child)) == 1 })
	d := c.of(child)[0]
	found := false
	for _, p := range d.Parents {
		found = found || p.PID == cmd.Process.Pid && p.Script == parent
	}
	if !found || d.PPID == 1 {
		t.Errorf("alert %+v does not name %d among the parents", d, cmd.Process.Pid)
	}
}

func TestImageRemovedAtOnceIsStillHashed(t *testing.T) {
	needEvents(t)
	var c catcher
	var child atomic.Value
	cfg := noLimits(Config{Emit: c.emits()})
	cfg.Ignore = func(int) bool { // is asked before the image is opened
		if name, ok := child.Load().(string); ok {
			_ = os.Remove(name)
		}
		return false
	}
	startSensor(t, cfg)
	parent := parentProgram(t, "winword.exe")
	file := program(t, "sleep", "powershell.exe")
	child.Store(file)
	cmd := exec.Command(parent, file, "1")
	cmd.Env = []string{helperEnv + "=1"}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "an alert", func() bool { return len(c.of(file)) == 1 })
	if d := c.of(file)[0]; len(d.SHA256) != 64 || d.ActionablePID == 0 {
		t.Errorf("alert %+v", d)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the image was not removed")
	}
}

func TestOverrunIsCountedAndWhatItHidIsFound(t *testing.T) {
	needEvents(t)
	var c catcher
	cfg := noLimits(Config{Emit: c.emits()})
	// A reader that stalls, with the smallest buffer the kernel gives.
	stall := make(chan struct{})
	var once sync.Once
	cfg.Ignore = func(int) bool { once.Do(func() { <-stall }); return false }
	s := startSensor(t, cfg, func(s *Sensor) { s.buffer = 1 })
	first := parentProgram(t, "winword.exe")
	quick := program(t, "true", "powershell.exe")
	run := func() {
		cmd := exec.Command(first, quick)
		cmd.Env = []string{helperEnv + "=100"}
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
	}
	run() // the reader stands still from the first alert on
	_, child := startChain(t, "winword.exe", "powershell.exe", "5")
	run()
	close(stall)
	agenttest.Eventually(t, "an overrun", func() bool { return s.Status().Overruns > 0 })
	agenttest.Eventually(t, "the child that was born meanwhile", func() bool { return len(c.of(child)) > 0 })
	d := c.of(child)[0]
	if d.ActionablePID == 0 || d.StartTicks == 0 {
		t.Errorf("alert %+v", d)
	}
	// And events go on.
	_, next := startChain(t, "winword.exe", "powershell.exe", "0.5")
	agenttest.Eventually(t, "a child after it", func() bool { return len(c.of(next)) > 0 })
}

func TestThreadsDoNotWakeTheSensor(t *testing.T) {
	needEvents(t)
	c, err := openConnector(t.Context(), receiveBuffer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	var hold, begun sync.WaitGroup
	hold.Add(1)
	for range 30 {
		begun.Add(1)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine
			begun.Done()
			hold.Wait()
		}()
	}
	begun.Wait()
	hold.Done()
	if err := exec.Command("/bin/true").Run(); err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]int{}
	for end := time.Now().Add(20 * time.Second); seen[eventExec] == 0 || seen[eventFork] == 0 || seen[eventExit] == 0; {
		if time.Now().After(end) {
			t.Fatalf("events %v", seen)
		}
		if _, err := c.next(t.Context(), kinPause, func(e event) {
			seen[e.kind]++
			if e.pid != e.thread {
				t.Errorf("event of a thread: %+v", e)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEventsAnotherProgramSendsAreNotRead(t *testing.T) {
	needEvents(t)
	c, err := openConnector(t.Context(), receiveBuffer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_CONNECTOR)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const forged = 1 << 30 // no kernel has such a number
	if err := unix.Sendto(fd, message(eventExec, forged, forged), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: c.starts.port}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	found := false
	for end := time.Now().Add(20 * time.Second); !found && time.Now().Before(end); {
		if _, err := c.next(t.Context(), kinPause, func(e event) {
			found = found || e.kind == eventExec && e.pid == cmd.Process.Pid
			if e.pid == forged {
				t.Errorf("event %+v", e)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Error("no event of the kernel")
	}
}

func TestWhatWasSeenIsFinishedAtTheEnd(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	s.sightings <- sighting{document: document{Title: "x"}, file: f, opened: time.Now().Add(time.Minute)} // for a slow machine
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if list := s.waiting(t); len(list) != 1 || len(list[0].SHA256) != 64 {
		t.Errorf("alerts %+v", list)
	}
}

func TestForksAndEndsDoNotWakeTheSensor(t *testing.T) {
	needEvents(t)
	c, err := openConnector(t.Context(), receiveBuffer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.kin.file.SetReadDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
		t.Errorf("the poller watches their socket: %v", err)
	}
	if err := c.starts.file.SetReadDeadline(time.Now()); err != nil {
		t.Errorf("the poller does not watch that of starts: %v", err)
	}
}

func TestUserChangeIsTold(t *testing.T) {
	needEvents(t)
	c, err := openConnector(t.Context(), receiveBuffer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	found := false
	for end := time.Now().Add(20 * time.Second); !found && time.Now().Before(end); {
		if _, err := c.next(t.Context(), kinPause, func(e event) {
			found = found || e.kind == eventUID && e.pid == cmd.Process.Pid && e.uid == 54321
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Error("no event of the user's change")
	}
}

func TestSpoolIsReplayedAfterARestart(t *testing.T) {
	needEvents(t)
	dir := t.TempDir()
	var c catcher
	c.fail(errors.New("redis is down"))
	cfg := noLimits(Config{Emit: c.emits(), Spool: Spool{Dir: dir}})
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Self = -1
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	_, child := startChain(t, "winword.exe", "powershell.exe", "0.2")
	agenttest.Eventually(t, "an alert that waits", func() bool { return s.Status().Waiting > 0 && s.Status().EmitError != nil })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(c.of(child)) != 0 {
		t.Fatal("received although the receiver is down")
	}
	c.fail(nil)
	startSensor(t, cfg)
	agenttest.Eventually(t, "the alert from before", func() bool { return len(c.of(child)) == 1 })
}

func TestRunEndsOnce(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Name: "s", Preset: "python-edr", Spool: Spool{Dir: filepath.Join(t.TempDir(), "a", "b")}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	if err := s.Run(ctx); err == nil {
		t.Error("it runs twice")
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("run did not end")
	}
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if s.Status().Waiting != 0 {
		t.Errorf("status %+v", s.Status())
	}
}

func TestOursIsWhatRootRunsOfTheSameFile(t *testing.T) {
	agenttest.NeedRoot(t)
	for _, tt := range []struct {
		name, file string
		uid        uint32
		want       bool
	}{
		{"the same", "/proc/self/exe", 0, true},
		{"of another user", "/proc/self/exe", 54321, false},
		{"a copy", parentProgram(t, "copy"), 0, false},
	} {
		cmd := exec.Command(tt.file, "/bin/true")
		cmd.Env = []string{helperEnv + "=1", helperEnv + "_PAUSE=1m"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.uid, Gid: tt.uid}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if got := (system{}).isOurs(cmd.Process.Pid); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func TestParseStatReadsBehindTheLastParenthesis(t *testing.T) {
	t.Parallel()
	rest := " 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 "
	for _, tt := range []struct {
		text string
		want stat
		ok   bool
	}{
		{"12 (a b) S" + rest + "1 0 555 0", stat{ppid: 7, start: 555, name: "a b"}, true},
		{"12 (x) Z 9 (evil) S" + rest + "1 0 555", stat{ppid: 7, start: 555, name: "x) Z 9 (evil"}, true},
		{"12 (z) Z" + rest + "1 0 555", stat{ppid: 7, start: 555, name: "z", dead: true}, true},
		{"12 (first thread ended) Z" + rest + "3 0 555", stat{ppid: 7, start: 555, name: "first thread ended"}, true},
		{"12 (a) S" + rest + "1 0", stat{}, false},
		{"12 a S" + rest + "1 0 555", stat{}, false},
		{"12 (a) S x" + rest + "1 0 555", stat{}, false},
		{"", stat{}, false},
	} {
		got, err := parseStat([]byte(tt.text))
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("%q: %+v, %v", tt.text, got, err)
		}
	}
	if _, err := (system{}).stat(1 << 30); !errors.Is(err, errGone) {
		t.Errorf("no such process: %v", err)
	}
	if st, err := (system{}).stat(os.Getpid()); err != nil || st.ppid != os.Getppid() || st.dead {
		t.Errorf("%+v, %v", st, err)
	}
}
