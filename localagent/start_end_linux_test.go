package localagent

import (
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
	n := note{Order: id, Path: "/bin/x", PID: v.pid, Start: p.start, Boot: bootID(), Begun: time.Now().Add(-2 * time.Hour), Limit: time.Hour}
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
	e := exits(t, r)
	if text := e.String(); !strings.Contains(text, "own program") {
		t.Errorf("text = %q", text)
	}
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
	if e := exits(t, r); !strings.Contains(e.String(), "session") || v.dead() {
		t.Errorf("exit = %s, the process is dead: %v", &e, v.dead())
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
