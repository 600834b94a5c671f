package localagent

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestAProgramThatRunsAnotherOneInItsPlaceIsNotTakenForASwappedFile(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	wrapper, sleep := agenttest.Program(t, "env", "wrapper"), agenttest.Program(t, "sleep", "inner")
	p, err := l.prepare(t.Context(), bridge.StartProcess{ExecutablePath: wrapper})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	v := start(t, exec.Command(wrapper, sleep, "3600"))
	agenttest.Eventually(t, "the inner program runs", func() bool { return len(running(t, sleep)) == 1 })
	live, err := pin(v.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer live.close()
	if p.swapped(live) {
		t.Error("the program went on by itself, and counts as swapped")
	}
	if err := os.Rename(agenttest.Program(t, "env", "other"), wrapper); err != nil {
		t.Fatal(err)
	}
	if !p.swapped(live) {
		t.Error("another file is in its place, and nobody sees it")
	}
}

func TestAFileSwappedWhileItIsStartedIsEndedAndTheReasonIsKept(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	program, other := agenttest.Program(t, "sleep", "judged"), agenttest.Program(t, "sleep", "other")
	task := bridge.StartProcess{ExecutablePath: program, Arguments: "3600"}
	p, err := l.prepare(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := os.Rename(other, program); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = l.begin(t.Context(), p, note{Order: "swapped", Path: p.path, Args: p.args, Limit: defaultTimeLimit})
	refused(t, err, bridge.Permanent, "another file was put in the place")
	if left := running(t, program); len(left) != 0 {
		t.Errorf("it runs on: %v", left)
	}
	_, err = l.Start(t.Context(), "swapped", task, 0)
	refused(t, err, bridge.Permanent, "another file was put in the place")
	if err := unix.Access(filepath.Join(l.folder("swapped"), fileNote), unix.F_OK); err != nil {
		t.Errorf("record: %v", err)
	}
}

func TestAProgramIsNotSparedLikeTheAgentWhenMemoryRunsOut(t *testing.T) {
	agenttest.NeedRoot(t)
	// A folder stands for the one in /proc: to be spared takes CAP_SYS_RESOURCE.
	for given, want := range map[string]string{"-500\n": "0500\n", "0\n": "0\n", "300\n": "300\n"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "oom_score_adj")
		write(t, file, given)
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unspare(&pinned{dir: fd})
		_ = unix.Close(fd)
		if got := content(t, file); err != nil || got != want {
			t.Errorf("%q became %q, %v; want %q", given, got, err, want)
		}
	}
	const own = "/proc/self/oom_score_adj"
	before := content(t, own)
	if os.WriteFile(own, []byte("-5"), 0) != nil {
		return
	}
	t.Cleanup(func() { write(t, own, before) })
	r := started(t, newLauncher(t), bridge.StartProcess{ExecutablePath: "/bin/sleep", Arguments: "100"}, 0)
	if got := content(t, "/proc/"+itoa(r.PID)+"/oom_score_adj"); got != "0\n" {
		t.Errorf("oom_score_adj = %q", got)
	}
}
