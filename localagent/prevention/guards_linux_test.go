package prevention

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func TestAFileThatChangedWhileItWasIgnoredIsAskedAboutAgain(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	dir := tmpfs(t)
	g, err := newGroup(LogOnly) // nobody waits for an answer
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	if err := g.markFilesystem(dir); err != nil {
		t.Fatal(err)
	}
	l := &listener{exec: g}
	prog := agenttest.CopyProgram(t, "/bin/true", filepath.Join(dir, "prog"))
	fd, err := unix.Open(prog, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	before, err := look(fd)
	if err != nil {
		t.Fatal(err)
	}
	asked := func() (n int) {
		if err := exec.CommandContext(t.Context(), prog).Run(); err != nil {
			t.Fatal(err)
		}
		if _, err := g.read(make([]byte, eventBuffer), func(e event) { n++; l.finish(e) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if asked() == 0 {
		t.Fatal("the kernel tells of no execution")
	}
	changed := before
	changed.Mtime.Sec-- // written to after it was judged
	if l.ignore(fd, changed); asked() == 0 {
		t.Error("a file that was written to meanwhile is ignored")
	}
	if l.ignore(fd, before); asked() != 0 {
		t.Error("a file that is what it was is not ignored")
	}
	if l.trouble.Load() != nil {
		t.Error(*l.trouble.Load())
	}
}

func TestOnlyFilesRootAloneCanWriteAreIgnored(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	for _, c := range []struct {
		uid  int
		mode os.FileMode
		want bool
	}{{0, 0o755, true}, {0, 0o500, true}, {0, 0o775, false}, {0, 0o757, false}, {1000, 0o755, false}} {
		path := filepath.Join(t.TempDir(), "file")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, c.mode), os.Chown(path, c.uid, 0)); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := look(int(f.Fd()))
		if err := errors.Join(err, f.Close()); err != nil || got.rooted != c.want {
			t.Errorf("uid %d, mode %o: %v, %v", c.uid, c.mode, got.rooted, err)
		}
	}
}

func TestWhileNobodyKnowsWhatIsProtectedNothingIsDenied(t *testing.T) {
	t.Parallel()
	var s safeguard
	r := &Rule{MD5: md5Of}
	nowhere := func(string, files.ID) bool { return false }
	if err := s.refresh(t.Context(), unprotected); err != nil || s.judge(files.ID{}, r, "/x", nowhere) != "" {
		t.Fatalf("refresh: %v", err)
	}
	s.clear(files.ID{}, "p1")
	if err := s.refresh(t.Context(), func(context.Context) (Protected, error) { return nil, unix.EIO }); !errors.Is(err, unix.EIO) {
		t.Errorf("refresh: %v", err)
	}
	if s.judge(files.ID{}, r, "/x", nowhere) == "" || s.wasCleared(files.ID{}, "p1") {
		t.Error("what was known before is believed")
	}
}

func TestAMountUnderAnotherIsNotTakenForIt(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	dir := tmpfs(t)
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	g, err := newGroup(LogOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	all, err := files.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	var got []error
	for _, m := range all {
		if m.Point == dir {
			got = append(got, markMount(g, newPlaces(all), m))
		}
	}
	if len(got) != 2 || !errors.Is(got[0], errHidden) || got[1] != nil {
		t.Errorf("got %v", got)
	}
}

func TestWhatWasAnsweredWaitsNoLonger(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, bridge.PreventExecution{Hash: evilMD5})
	b.handle(b.exec, b.asks("unknown", 7))
	b.waiting[0].answer(true)
	if b.expire(time.Now()); len(b.waiting) != 0 || b.counters.timeouts.Load() != 0 || len(b.reports) != 0 {
		t.Errorf("%d wait, %d timeouts, %d reports", len(b.waiting), b.counters.timeouts.Load(), len(b.reports))
	}
}

func TestOrphansAreNotTheAgentsOwnWhereItIsProcessOne(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "sleep 30 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	p := pending{pidfd: -1}
	for _, c := range out {
		if '0' <= c && c <= '9' {
			p.pid = p.pid*10 + int(c-'0')
		}
	}
	t.Cleanup(func() { _ = unix.Kill(p.pid, unix.SIGKILL) })
	var who Caller
	agenttest.Eventually(t, "the process is an orphan", func() bool { who, err = identify(p.pid); return err == nil && who.PPID != os.Getpid() })
	if who.PPID != 1 {
		t.Skipf("orphans go to process %d here", who.PPID)
	}
	for agent, want := range map[int]bool{1: false, 2: false} {
		l := &listener{agent: agent}
		if _, own := l.caller(&p); own != want {
			t.Errorf("the agent is process %d: own is %v", agent, own)
		}
	}
}
