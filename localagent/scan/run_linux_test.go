package scan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// fake is an engine that does what the test says; nil = clean.
type fake struct {
	scan func(ctx context.Context, f *os.File, info FileInfo) (Verdict, error)
	// mu guards asked.
	mu    sync.Mutex
	asked []string
}

func (e *fake) Scan(ctx context.Context, f *os.File, info FileInfo) (Verdict, error) {
	e.mu.Lock()
	e.asked = append(e.asked, info.Path)
	e.mu.Unlock()
	if e.scan == nil {
		return clean(), nil
	}
	return e.scan(ctx, f, info)
}

func (e *fake) Info(context.Context) (EngineInfo, error) { return EngineInfo{Name: "fake"}, nil }

func TestF45TreeOfTrapsIsScannedOnceAndEnds(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a/b/c/good"), []byte("good"))
	write(t, filepath.Join(dir, "outside/secret"), []byte("not in the tree"))
	write(t, filepath.Join(dir, "a/infected"), eicar())
	write(t, filepath.Join(dir, "a/empty"), nil)
	root := filepath.Join(dir, "a")
	for _, err := range []error{
		os.Link(filepath.Join(root, "infected"), filepath.Join(root, "b/again")),
		os.Symlink("..", filepath.Join(root, "b/loop")),
		os.Symlink("/", filepath.Join(root, "b/root")),
		os.Symlink("self", filepath.Join(root, "self")),
		os.Symlink("../outside/secret", filepath.Join(root, "way")),
		unix.Mkfifo(filepath.Join(root, "fifo"), 0o666),
		unix.Mknod(filepath.Join(root, "disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 99))),
		unix.Mknod(filepath.Join(root, "watchdog"), unix.S_IFCHR|0o600, int(unix.Mkdev(10, 130))),
		os.MkdirAll(filepath.Join(root, "proc"), 0o755),
		os.MkdirAll(filepath.Join(root, "other"), 0o755),
		unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""),
		unix.Mount("tmpfs", filepath.Join(root, "other"), "tmpfs", 0, ""),
		os.WriteFile(filepath.Join(root, "other/elsewhere"), eicar(), 0o600),
		unix.Mount(root, filepath.Join(root, "b/c"), "", unix.MS_BIND, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := newScanner(t, Config{Engine: named{builtinWith(t, "")}})
	res, err := s.Scan(t.Context(), folder(root), nil)
	if err != nil {
		t.Fatal(err)
	}
	// infected has two names, and all three files are reached twice through the bind mount.
	if res.Infected != 1 || res.Clean != 2 || res.Truncated != "" || res.Found-total(res.Skipped) != 3 {
		t.Errorf("got %v: want one infected file, and two clean", res)
	}
	// proc and other; the bind mount shows the folders below them, which are empty.
	if len(res.Skipped) != 1 || res.Skipped[0].Reason != reasonElsewhere || total(res.Skipped) != 2 || res.Complete() {
		t.Errorf("skipped %+v, want the two filesystems mounted below", res.Skipped)
	}
	_ = unix.Unmount(filepath.Join(root, "b/c"), unix.MNT_DETACH)
	_ = unix.Unmount(filepath.Join(root, "other"), unix.MNT_DETACH)
	_ = unix.Unmount(filepath.Join(root, "proc"), unix.MNT_DETACH)
}

func TestF45LinkOnTheWayIsRefusedAndNotFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "real/f"), eicar())
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	e := &fake{}
	for _, path := range []string{filepath.Join(dir, "link"), filepath.Join(dir, "link/f"), filepath.Join(dir, "gone"), "/proc", "/dev/null"} {
		res, err := newScanner(t, Config{Engine: e}).Scan(t.Context(), folder(path), nil)
		if v := verdict.Of(err); err == nil || v.Class != bridge.Permanent || res.Objects[0].State != ObjectFailed {
			t.Errorf("%s: got %v, %v: want a permanent error", path, res, err)
		}
	}
	if len(e.asked) > 0 {
		t.Errorf("the engine was asked about %v", e.asked)
	}
	if res, err := newScanner(t, Config{Engine: e}).Scan(t.Context(), folder(filepath.Join(dir, "real/f")), nil); err != nil || res.Clean != 1 {
		t.Errorf("got %v, %v: want one file, named instead of a folder", res, err)
	}
}

func TestF45BudgetsEndTheScanAndTheResultSaysSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 40 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%02d", i)), make([]byte, 1000))
	}
	slow := &fake{scan: func(ctx context.Context, _ *os.File, _ FileInfo) (Verdict, error) {
		select {
		case <-ctx.Done():
			return Verdict{}, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
			return clean(), nil
		}
	}}
	for _, tt := range []struct {
		name  string
		cfg   Config
		want  string
		clean int64
	}{
		{"bytes", Config{Engine: &fake{}, MaxBytes: 5500}, errBytes.Error(), 5},
		{"files", Config{Engine: &fake{}, MaxFiles: 7}, errFiles.Error(), -1},
		{"time", Config{Engine: slow, MaxTime: 200 * time.Millisecond}, errTime.Error(), -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Workers = 1
			res, err := newScanner(t, tt.cfg).Scan(t.Context(), folder(dir), nil)
			if err != nil || res.Truncated != tt.want || res.Complete() || res.Clean >= 40 {
				t.Errorf("got %v, %v, want truncated %q", res, err, tt.want)
			}
			if tt.clean >= 0 && res.Clean > tt.clean {
				t.Errorf("%d files clean, want no more than %d", res.Clean, tt.clean)
			}
			if res.Objects[0].State == ObjectScanned && tt.name == "files" {
				t.Errorf("the object counts as %s", res.Objects[0].State)
			}
		})
	}
}

func TestF45CancelEndsTheScanAndKeepsWhatWasFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 2000 {
		write(t, filepath.Join(dir, fmt.Sprintf("d%d/f%04d", i%20, i)), []byte("x"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var n atomic.Int64
	e := &fake{scan: func(ctx context.Context, _ *os.File, _ FileInfo) (Verdict, error) {
		switch n.Add(1) {
		case 1:
			return Verdict{State: Infected, Signature: "First"}, nil
		case 20:
			cancel()
		}
		return clean(), nil
	}}
	var last Progress
	res, err := newScanner(t, Config{Engine: e}).Scan(ctx, folder(dir), func(p Progress) { last = p })
	if v := verdict.Of(err); !errors.Is(err, context.Canceled) || v.Class != bridge.Retry {
		t.Errorf("got %v, want a cancelled order that may be tried again", err)
	}
	if len(res.Findings) != 1 || res.Clean > 100 || res.Truncated != "it was cancelled" || res.Objects[0].State != ObjectNotReached && res.notReached() == 0 {
		t.Errorf("got %v", res)
	}
	if last.Findings != 1 || last.Done != res.Clean+1 {
		t.Errorf("last progress %+v, result %v", last, res)
	}
}

func TestF45FileThatHangsInTheKernelIsGivenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 20 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%02d", i)), []byte("x"))
	}
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	e := &fake{scan: func(_ context.Context, _ *os.File, info FileInfo) (Verdict, error) {
		if strings.HasSuffix(info.Path, "f07") {
			<-block // like a read from a server that is gone: no context reaches it
		}
		return clean(), nil
	}}
	// A clock that runs a hundred times as fast, so that nobody waits for the grace.
	began := time.Now()
	fast := func() time.Time { return began.Add(100 * time.Since(began)) }
	res, err := newScanner(t, Config{Engine: e, Workers: 1, PerFile: time.Second, Now: fast}).Scan(t.Context(), folder(dir), nil)
	if err != nil || res.Clean != 19 || total(res.Failed) != 1 || res.Failed[0].Reason != reasonHung || res.Truncated != "" {
		t.Errorf("got %v, %v: want 19 clean and one that did not answer", res, err)
	}
	if !strings.HasSuffix(res.Failed[0].Examples[0], "f07") {
		t.Errorf("got %v, want f07", res.Failed[0].Examples)
	}
}

func TestF45ScanEndsWhenEveryWorkerHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 20 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%02d", i)), []byte("x"))
	}
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	e := &fake{scan: func(context.Context, *os.File, FileInfo) (Verdict, error) {
		<-block
		return clean(), nil
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	res, err := newScanner(t, Config{Engine: e, Workers: 2}).Scan(ctx, folder(dir), nil)
	if !errors.Is(err, context.DeadlineExceeded) || res.Clean != 0 || res.Truncated == "" {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestAWalkThatHangsIsAnErrorAndNoResult(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), []byte("x"))
	write(t, filepath.Join(dir, "stuck/b"), []byte("x"))
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	began := time.Now()
	fast := func() time.Time { return began.Add(100 * time.Since(began)) }
	hangs := func(path string) bool {
		if filepath.Base(path) == "stuck" {
			<-block
		}
		return false
	}
	res, err := newScanner(t, Config{Engine: &fake{}, PerFile: time.Second, Now: fast, Exclude: hangs}).Scan(t.Context(), folder(dir), nil)
	if v := verdict.Of(err); err == nil || v.Class != bridge.Retry || !strings.Contains(err.Error(), "hangs in the kernel at "+dir+"/stuck") || res.Clean != 1 {
		t.Errorf("got %v, %v: want the error of a walk that hangs", res, err)
	}
}

func TestAnObjectThatFailedIsAnErrorAndTheOthersAreScanned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), []byte("x"))
	objects := append(folder(dir), folder(filepath.Join(dir, "gone"))...)
	res, err := newScanner(t, Config{Engine: &fake{}}).Scan(t.Context(), objects, nil)
	if v := verdict.Of(err); err == nil || v.Class != bridge.Permanent || !strings.Contains(err.Error(), "not all could be scanned") || res.Clean != 1 {
		t.Errorf("got %v, %v: want one file, and the folder that is not there as an error", res, err)
	}
}

func TestDisabledObjectsAreSkippedAndNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), []byte("x"))
	objects := folder(dir)
	objects = append(objects, bridge.ScanObject{Type: bridge.ScanEmail})
	s := newScanner(t, Config{Engine: &fake{}})
	res, err := s.Scan(t.Context(), objects, nil)
	if err != nil || res.Objects[0].State != ObjectScanned || res.Objects[0].Found != 1 || res.Objects[1].State != ObjectDisabled {
		t.Errorf("got %v, %v", res, err)
	}
	if text := res.String(); !strings.Contains(text, "Email disabled") || !strings.Contains(text, "1 files clean") {
		t.Errorf("the text does not name the disabled object: %s", text)
	}
	for _, objects := range [][]bridge.ScanObject{nil, objects[1:], {{Enabled: true, Type: 19}}, {{Enabled: true, Type: bridge.ScanFolder, Path: "../x"}}} {
		_, err := s.Scan(t.Context(), objects, nil)
		if v := verdict.Of(err); err == nil || v.Reason != bridge.ReasonInvalid || v.Class != bridge.Permanent {
			t.Errorf("%v: got %v, want invalid", objects, err)
		}
	}
}

func TestExcludedAndProtectedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "vault/blob"), eicar())
	write(t, filepath.Join(dir, "libc.so"), eicar())
	write(t, filepath.Join(dir, "large"), make([]byte, 5000))
	s := newScanner(t, Config{
		Engine: named{builtinWith(t, "")}, MaxFile: 4000,
		Exclude:   func(p string) bool { return filepath.Base(p) == "vault" },
		Protected: func(p string, f *os.File) string { return "part of the system: " + filepath.Base(p) },
	})
	res, err := s.Scan(t.Context(), folder(dir), nil)
	if err != nil || res.Infected != 1 || len(res.Findings) != 1 || total(res.Skipped) != 1 || res.Skipped[0].Reason != reasonTooLarge {
		t.Fatalf("got %v, %v", res, err)
	}
	f := res.Findings[0]
	st, err := os.Stat(filepath.Join(dir, "libc.so"))
	if err != nil {
		t.Fatal(err)
	}
	sys, _ := st.Sys().(*unixStat)
	if f.Protected != "part of the system: libc.so" || f.Kind != KindFile || f.MD5 != "44d88612fea8a8f36de82e1278abb02f" ||
		f.SHA256 != "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f" || f.Stat.Ino != sys.Ino || f.Engine != "built-in" && f.Engine != "test" {
		t.Errorf("got %+v", f)
	}
}

func TestThreadsOfAScanStepBackAndOthersDoNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), []byte("x"))
	main, err := unix.SchedGetAttr(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		priority Priority
		policy   int
		nicer    int32
		idleDisk bool
	}{{Low, unix.SCHED_NORMAL, lowNice, true}, {Idle, unix.SCHED_IDLE, 0, true}, {Normal, unix.SCHED_NORMAL, 0, false}} {
		var cpu *unix.SchedAttr
		class := -1
		e := &fake{scan: func(context.Context, *os.File, FileInfo) (Verdict, error) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			r, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, 0, 0)
			if errno != 0 {
				return Verdict{}, errno
			}
			class = int(r >> 13)
			var err error
			cpu, err = unix.SchedGetAttr(0, 0)
			return clean(), err
		}}
		res, err := newScanner(t, Config{Engine: e, Priority: tt.priority}).Scan(t.Context(), folder(dir), nil)
		if err != nil || res.Clean != 1 || int(cpu.Policy) != tt.policy || cpu.Nice != min(main.Nice+tt.nicer, 19) || (class == 3) != tt.idleDisk {
			t.Errorf("%d: got %+v, I/O class %d, %v, %v: want %+v", tt.priority, cpu, class, res, err, tt)
		}
	}
	if after, err := unix.SchedGetAttr(os.Getpid(), 0); err != nil || *after != *main {
		t.Errorf("the main thread had %+v, has %+v, %v", main, after, err)
	}
}

func TestNewRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{Clamd: "run/clamd"},
		{Clamd: "tcp:192.0.2.1:3310"},
		{Clamd: "tcp:localhost:3310"},
		{Signatures: "sigs"},
		{MaxFile: -1},
		{MaxTime: -1},
		{Workers: -1},
		{Workers: 33},
		{PerFile: -1},
		{MaxBytes: -1},
		{MaxFiles: -1},
		{ClamdMaxFile: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	if _, err := New(Config{Clamd: "/run/clamd", Signatures: "/etc/sigs"}); err != nil {
		t.Error(err)
	}
}

// silent is an engine that does not say what it leaves out.
type silent struct{ *fake }

func (e silent) Info(context.Context) (EngineInfo, error) {
	return EngineInfo{Name: "silent", Silent: true, MaxFile: 100_000, Notes: []string{"it says nothing"}}, nil
}

func TestASilentEngineVouchesForNoContainer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, head := range map[string]string{"zip": "PK\x03\x04", "gz": "\x1f\x8b\x08", "pdf": "%PDF-1.7", "mail": "Received: from"} {
		write(t, filepath.Join(dir, name), []byte(head+strings.Repeat("x", 1000)))
	}
	write(t, filepath.Join(dir, "sfx"), []byte("MZ"+strings.Repeat("x", 1000)+"PK\x05\x06"+strings.Repeat("\x00", 18)+strings.Repeat("c", 2000)))
	write(t, filepath.Join(dir, "tar"), []byte(strings.Repeat("x", 257)+"ustar"+strings.Repeat("x", 1000)))
	write(t, filepath.Join(dir, "text"), []byte("plain text"))
	write(t, filepath.Join(dir, "large"), make([]byte, 200_000))
	res, err := newScanner(t, Config{Engine: silent{&fake{}}}).Scan(t.Context(), folder(dir), nil)
	if err != nil || res.Clean != 1 || total(res.Skipped) != 7 || res.Skipped[0].Reason != reasonSilent || res.Skipped[0].Count != 6 {
		t.Errorf("got %v, %v: want the text alone clean", res, err)
	}
	if text := res.String(); !strings.Contains(text, "; it says nothing") {
		t.Errorf("%q does not say what is known of the engine", text)
	}
	if res, err := newScanner(t, Config{Engine: &fake{}}).Scan(t.Context(), folder(dir), nil); err != nil || res.Clean != 8 {
		t.Errorf("got %v, %v of an engine that speaks", res, err)
	}
}

// hung makes a file whose opening blocks until the test ends.
func hung(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), unix.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0); err == nil {
			_ = f.Close()
		}
	})
}

func TestAProcessThatHangsEndsTheWalkOfMemory(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	hung(t, m.at("proc/7/maps"))
	began := time.Now()
	fast := func() time.Time { return began.Add(100 * time.Since(began)) }
	objects := []bridge.ScanObject{{Enabled: true, Type: bridge.ScanSystemMemory}}
	res, err := newScanner(t, Config{Engine: &fake{}, Roots: m.opts, PerFile: time.Second, Now: fast}).Scan(t.Context(), objects, nil)
	if err == nil || !strings.Contains(err.Error(), "hangs in the kernel at "+m.at("proc/7/maps")) {
		t.Errorf("got %v, %v: want the process that hangs", res, err)
	}
}

func TestAProcessThatHangsDoesNotKeepTheResultBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.link(m.file("image", "x"), "proc/7/exe")
	hung(t, m.at("proc/7/stat"))
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bad"), eicar())
	res, err := newScanner(t, Config{Engine: named{builtinWith(t, "")}, Roots: m.opts}).Scan(t.Context(), folder(dir), nil)
	if err != nil || res.Infected != 1 || !strings.Contains(res.String(), "which processes run what was found is not known") {
		t.Errorf("got %v, %v: want the finding, and that its processes are not known", res, err)
	}
}
