package localagent

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// planted writes the record of a program that is the process v, as somebody would who wants v to be ended.
func planted(t *testing.T, l *Launcher, v *victim, id string) {
	t.Helper()
	p, err := open(v.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.readStat(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.folder(id), 0o700); err != nil {
		t.Fatal(err)
	}
	n := note{Order: id, Path: "/bin/x", PID: v.pid, Start: p.start, Boot: bootID(), Begun: time.Now(), Limit: time.Millisecond}
	if err := l.write(n); err != nil {
		t.Fatal(err)
	}
}

func TestAPlantedRecordEndsNoProtectedProcess(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	sleep := agenttest.Program(t, "sleep", "child")
	// It runs the program of this agent, which protects it, and has a child, which nothing protects.
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLeaderChild$", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), "LOCALAGENT_TEST_LEADER="+sleep)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	v := start(t, cmd)
	t.Cleanup(func() { _ = unix.Kill(-v.pid, unix.SIGKILL) })
	agenttest.Eventually(t, "the child runs", func() bool { return len(running(t, sleep)) == 1 })
	planted(t, l, v, "planted")
	r, err := l.Found("planted")
	if err != nil {
		t.Fatal(err)
	}
	goesOn(t, l, r, "own program")
	if v.dead() || len(running(t, sleep)) != 1 {
		t.Error("a record made the agent end a protected process or its child")
	}
}

// TestLeaderChild is no test of its own: it is a process that runs the program of the agent.
func TestLeaderChild(t *testing.T) {
	if sleep := os.Getenv("LOCALAGENT_TEST_LEADER"); sleep != "" {
		_ = exec.Command(sleep, "100").Run()
	}
}

func TestAPlantedRecordEndsNobodyElsesProcess(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	v := start(t, exec.Command(agenttest.Program(t, "sleep", "victim"), "100"))
	planted(t, l, v, "planted")
	r, err := l.Found("planted")
	if err != nil {
		t.Fatal(err)
	}
	goesOn(t, l, r, "session")
	if v.dead() {
		t.Error("a record made the agent end a process it had not started")
	}
}

// goesOn checks that the time of a program is over, that it goes on because of what text says, and that its record does not call it ended.
func goesOn(t *testing.T, l *Launcher, r *Run, text string) {
	t.Helper()
	if e, err := r.Wait(t.Context()); !errors.Is(err, ErrStillRunning) || !strings.Contains(err.Error(), text) {
		t.Errorf("wait = %+v, %v; want %q", e, err, text)
	}
	if n, err := l.read(r.OrderID); err != nil || !n.Ended.IsZero() {
		t.Errorf("record = %+v, %v", n, err)
	}
}

func TestAProgramThatChangesItsImageAllTheTimeEndsWithItsTime(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	one, two := agenttest.Program(t, "dash", "one"), agenttest.Program(t, "dash", "two")
	again := script(t, `exec "$2" "$0" "$2" "$1"`)
	for range 5 {
		r := started(t, l, bridge.StartProcess{ExecutablePath: one, Arguments: again + " " + one + " " + two}, 50*time.Millisecond)
		if e := exits(t, r); !e.TimedOut || e.Signal != "SIGKILL" || len(e.Survivors) != 0 {
			t.Errorf("exit = %+v", e)
		}
		if left := running(t, one, two); len(left) != 0 {
			t.Fatalf("it runs on: %v", left)
		}
	}
}

func TestWhatATreeThatIsTooLargeLeavesIsTold(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	l.trees.cfg.MaxTargets = 3
	sleep := agenttest.Program(t, "sleep", "child")
	body := `n=0; while [ $n -lt 8 ]; do n=$((n+1)); setsid "$1" 3600 & done; wait`
	r := started(t, l, bridge.StartProcess{ExecutablePath: script(t, body), Arguments: sleep}, time.Second)
	t.Cleanup(func() {
		for pid := range running(t, sleep) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	agenttest.Eventually(t, "the children run", func() bool { return len(running(t, sleep)) == 8 })
	if e := exits(t, r); !e.TimedOut || len(e.Survivors) == 0 && len(running(t, sleep)) != 0 {
		t.Errorf("exit = %+v, and %d processes run on", e, len(running(t, sleep)))
	}
}

func TestTheTimeOfAProgramGoesByTheClockNobodySets(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	r := started(t, l, bridge.StartProcess{ExecutablePath: script(t, `sleep 0.3; exit 4`)}, time.Minute)
	l.cfg.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if e := exits(t, r); e.TimedOut || e.Code != 4 {
		t.Errorf("exit = %+v", e)
	}
}

func TestRecordsWithImpossibleFieldsAreUndecidedOrGone(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for id, fields := range map[string]string{
		"first":    `"pid":1,"start":5,"begun":"2026-01-01T00:00:00Z"`,
		"huge":     `"pid":4194305,"start":5,"begun":"2026-01-01T00:00:00Z"`,
		"no-pid":   `"start":5,"begun":"2026-01-01T00:00:00Z"`,
		"no-begin": `"pid":4,"start":5`,
		"limit":    `"pid":4,"start":5,"begun":"2026-01-01T00:00:00Z","limit":-1`,
		"long":     `"pid":4,"start":5,"begun":"2026-01-01T00:00:00Z","limit":86400000000001`,
		"group":    `"pid":4,"start":5,"begun":"2026-01-01T00:00:00Z","group":"/sys/fs/cgroup/system.slice"`,
		"up":       `"pid":4,"start":5,"begun":"2026-01-01T00:00:00Z","group":"/sys/fs/cgroup/x/../edr-bridge-program-up"`,
		"relative": `"pid":4,"start":5,"begun":"2026-01-01T00:00:00Z","group":"edr-bridge-program-relative"`,
	} {
		if err := os.MkdirAll(l.folder(id), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, l.folder(id)+"/"+fileNote, `{"version":1,"order":"`+id+`",`+fields+`}`)
		if err := os.Chmod(l.folder(id)+"/"+fileNote, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := l.Found(id)
		t.Run(id, func(t *testing.T) { refused(t, err, bridge.Unknown, "record of the program") })
	}
	// A record without the run of the kernel it is about names nobody.
	v := start(t, exec.Command(agenttest.Program(t, "sleep", "victim"), "100"))
	p, err := pin(v.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := l.attach(&note{Order: "o", PID: p.pid, Start: p.start}); err == nil {
		t.Error("a record without a run of the kernel names a process")
	}
}
