package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// memory is a folder on another filesystem than t.TempDir, where a sync costs nothing.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "files-test-") //nolint:usetesting // it has to be in memory
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func pinned(t testing.TB, path string) *Pinned {
	t.Helper()
	p, err := Pin(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func staged(t testing.TB, p *Pinned, own string) *Stage {
	t.Helper()
	s, err := p.Stage(own)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTakenFileIsOutOfReachAndComesBackOrGoes(t *testing.T) {
	t.Parallel()
	own, path := t.TempDir(), fill(t, filepath.Join(t.TempDir(), "f"), "text")
	_ = os.Chmod(own, 0o700)
	p := pinned(t, path)
	s := staged(t, p, own)
	defer s.Close()
	taken, err := p.Take(s, "name")
	if err != nil || taken.At() != filepath.Join(own, "name") || !holdsText(t, taken.At(), "text") || holdsText(t, path, "text") {
		t.Fatalf("got %+v, %v", taken, err)
	}
	if err := taken.PutBack(); err != nil || !holdsText(t, path, "text") {
		t.Fatalf("put back: %v", err)
	}
	if taken, err = p.Take(s, "name"); err != nil {
		t.Fatal(err)
	}
	fill(t, path, "another")
	if err := taken.PutBack(); !errors.Is(err, ErrExists) || !holdsText(t, path, "another") || !holdsText(t, taken.At(), "text") {
		t.Errorf("put back onto another file: %v", err)
	}
	if err := taken.Unlink(); err != nil || holdsText(t, taken.At(), "text") || !holdsText(t, path, "another") {
		t.Errorf("unlink: %v", err)
	}
	var stray *StrayError
	if taken, err := p.Take(s, "again"); !errors.Is(err, ErrSwapped) || errors.As(err, &stray) {
		t.Errorf("take of a name that leads to another file, which is not to be moved at all: %v, %v", taken, err)
	}
}

// withoutNoReplace makes renameat2(2) with flags answer EINVAL for the thread of the caller, as filesystems without RENAME_NOREPLACE
// do (seccomp(2)). The thread ends with the caller's goroutine.
func withoutNoReplace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
		number = 0        // seccomp_data.nr
		fifth  = 16 + 4*8 // seccomp_data.args[4], its lower half
		allow  = 0x7fff0000
		deny   = 0x00050000 | uint32(unix.EINVAL)
	)
	filter := []unix.SockFilter{
		{Code: load, K: number},
		{Code: equal, K: unix.SYS_RENAMEAT2, Jt: 0, Jf: 2},
		{Code: load, K: fifth},
		{Code: equal, K: unix.RENAME_NOREPLACE, Jt: 1, Jf: 0},
		{Code: answer, K: allow},
		{Code: answer, K: deny},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Skipf("no seccomp here: %v", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		t.Skipf("no seccomp here: %v", err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, "/none", unix.AT_FDCWD, "/none2", unix.RENAME_NOREPLACE); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("the filter lets it through: %v", err)
	}
}

func TestFlagsComeBackWithTheFile(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	own := t.TempDir()
	_ = os.Chmod(own, 0o700)
	path := fill(t, filepath.Join(t.TempDir(), "f"), "text")
	p := pinned(t, path)
	if err := SetFlags(p.File, flagImmutable); err != nil {
		t.Skipf("no inode flags here: %v", err)
	}
	t.Cleanup(func() { _, _ = clearFlags(int(p.File.Fd())) })
	s := staged(t, p, own)
	defer s.Close()
	has := func() bool {
		flags, err := Flags(p.File)
		return err == nil && flags&holdingFlags == flagImmutable
	}
	taken, err := p.Take(s, "name")
	if err != nil || has() {
		t.Fatalf("taken with its flag: %v, %v", has(), err)
	}
	if err := taken.PutBack(); err != nil || !has() {
		t.Errorf("put back with its flag: %v, %v", has(), err)
	}
	if taken, err = p.Take(s, "name"); err != nil {
		t.Fatal(err)
	}
	again := pinned(t, taken.At())
	if err := again.MoveTo(path, flagImmutable); err != nil || !has() {
		t.Errorf("moved with its flag: %v, %v", has(), err)
	}
}

func TestA8TakeNeverKeepsAnotherFile(t *testing.T) {
	t.Parallel()
	t.Run("", takeSwapped)
	t.Run("filesystem without RENAME_NOREPLACE", func(t *testing.T) {
		withoutNoReplace(t)
		takeSwapped(t)
	})
}

func takeSwapped(t *testing.T) {
	root := memory(t)
	own := filepath.Join(root, "stage")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	a, b := fill(t, filepath.Join(root, "d", "a"), "one"), fill(t, filepath.Join(root, "d", "b"), "two")
	ids := map[string]ID{}
	for _, path := range []string{a, b} {
		id, err := IDOf(path)
		if err != nil {
			t.Fatal(err)
		}
		ids[path] = id
	}
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	})
	var right, swapped int
	for i := range 3000 {
		p, err := Pin(a)
		if err != nil {
			t.Fatal(err)
		}
		s := staged(t, p, own)
		taken, err := p.Take(s, fmt.Sprint(i))
		var stray *StrayError
		switch {
		case err == nil:
			right++
			st, _, statErr := statAt(s.fd, taken.name)
			if statErr != nil || st.ID != p.Stat.ID {
				t.Errorf("try %d: another file was taken (%v)", i, statErr)
			}
			if err := taken.PutBack(); err != nil {
				t.Fatal(err)
			}
		case errors.As(err, &stray) && stray.Back, errors.Is(err, ErrSwapped) && stray == nil:
			swapped++
		default:
			t.Fatalf("try %d: %v", i, err)
		}
		_ = s.Close()
		_ = p.Close()
	}
	close(stop)
	done.Wait()
	t.Logf("3000 takes: %d of the pinned file, %d swaps seen", right, swapped)
	left, _ := os.ReadDir(own)
	one, _ := IDOf(a)
	two, _ := IDOf(b)
	if len(left) > 0 || one == two || one != ids[a] && one != ids[b] || two != ids[a] && two != ids[b] {
		t.Errorf("left in the stage %v; %v and %v became %v and %v", left, ids[a], ids[b], one, two)
	}
	if right == 0 || swapped == 0 {
		t.Error("the swapper and the takes did not meet")
	}
}

func TestStrayFileWhoseNameIsTakenIsKeptBesideIt(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := fill(t, filepath.Join(root, "f"), "meant")
	own := filepath.Join(root, "stage")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	p := pinned(t, path)
	s := staged(t, p, own)
	defer s.Close()
	// What a swap in the last moment leads to: the stage holds a stray, and its name belongs to a third file.
	fill(t, filepath.Join(own, "name"), "stray")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	fill(t, path, "third")
	_, err := p.check(&Taken{p: p, stage: s, name: "name"})
	var stray *StrayError
	if !errors.As(err, &stray) || stray.Back || !errors.Is(err, ErrSwapped) || filepath.Dir(stray.At) != root {
		t.Fatalf("got %v", err)
	}
	if !holdsText(t, stray.At, "stray") || !holdsText(t, path, "third") || !strings.Contains(err.Error(), stray.At) {
		t.Errorf("the stray is not at %s", stray.At)
	}
}

func TestTakenFileThatCannotBeLookedAtIsNotCalledUntouched(t *testing.T) {
	t.Parallel()
	own := t.TempDir()
	_ = os.Chmod(own, 0o700)
	p := pinned(t, fill(t, filepath.Join(t.TempDir(), "f"), "text"))
	s := staged(t, p, own)
	defer s.Close()
	_, err := p.check(&Taken{p: p, stage: s, name: "none"})
	var stray *StrayError
	if !errors.As(err, &stray) || stray.Back || stray.At != filepath.Join(own, "none") {
		t.Errorf("got %v", err)
	}
}

func TestStageIsNeverOverwritten(t *testing.T) {
	t.Parallel()
	take := func(t *testing.T) {
		own := t.TempDir()
		_ = os.Chmod(own, 0o700)
		path := fill(t, filepath.Join(t.TempDir(), "f"), "text")
		held := fill(t, filepath.Join(own, "name"), "held")
		p := pinned(t, path)
		s := staged(t, p, own)
		defer s.Close()
		if taken, err := p.Take(s, "name"); err == nil {
			t.Errorf("got %v", taken)
		}
		if !holdsText(t, held, "held") || !holdsText(t, path, "text") {
			t.Error("a file is gone")
		}
	}
	t.Run("", take)
	t.Run("filesystem without RENAME_NOREPLACE", func(t *testing.T) {
		withoutNoReplace(t)
		take(t)
	})
}

func TestStageOnAnotherFilesystemGoesWhenNobodyUsesIt(t *testing.T) {
	t.Parallel()
	dir := memory(t)
	own := t.TempDir()
	_ = os.Chmod(own, 0o700)
	p := pinned(t, fill(t, filepath.Join(dir, "f"), "text"))
	one, two := staged(t, p, own), staged(t, p, own)
	if one.Path() != "/dev/shm/.edr-bridge-stage" || two.Path() != one.Path() {
		t.Errorf("stages %s and %s", one.Path(), two.Path())
	}
	_ = one.Close()
	DropStage(two.Path())
	if taken, err := p.Take(two, "x"); err != nil {
		t.Errorf("the stage went below its user: %v", err)
	} else if err := taken.PutBack(); err != nil {
		t.Error(err)
	}
	_ = two.Close()
	near, err := p.NearStage()
	if err != nil || filepath.Dir(near.Path()) != dir {
		t.Fatalf("got %v, %v", near, err)
	}
	fi, err := os.Stat(near.Path())
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	_ = near.Close()
	if _, err := os.Stat(near.Path()); err == nil {
		t.Error("the stage stays")
	}
}

func TestAMountThatIsNoneHasNoPoint(t *testing.T) {
	t.Parallel()
	if point, err := mountPoint(1 << 60); err == nil {
		t.Errorf("a mount that is none: %s", point)
	}
}

func TestDraftHasNoNameBeforeCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := NewDraft(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.File.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("the folder holds %v", entries)
	}
	for _, name := range []string{"", ".", "..", "a/b"} {
		if err := d.Commit(name); err == nil {
			t.Errorf("%q was taken for a name", name)
		}
	}
	path := fill(t, filepath.Join(dir, "taken"), "mine")
	if err := d.Commit("taken"); !errors.Is(err, ErrExists) || !holdsText(t, path, "mine") {
		t.Errorf("over another file: %v", err)
	}
	if err := d.Commit("f"); err != nil || !holdsText(t, filepath.Join(dir, "f"), "text") {
		t.Errorf("commit: %v", err)
	}
	if err := d.Close(); err != nil || !holdsText(t, filepath.Join(dir, "f"), "text") {
		t.Errorf("close: %v", err)
	}
}

func TestDraftOfAFilesystemThatNeedsNamesOverwritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fd, err := openPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newNamedDraft(dir, fd)
	if err != nil {
		t.Fatal(err)
	}
	path := fill(t, filepath.Join(dir, "taken"), "mine")
	if err := d.Commit("taken"); !errors.Is(err, ErrExists) || !holdsText(t, path, "mine") {
		t.Errorf("over another file: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the folder holds %v", entries)
	}
}

func TestDraftWhoseNameWasSwappedIsNotCalledNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fd, err := openPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newNamedDraft(dir, fd)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Rename(fill(t, filepath.Join(dir, "mine"), "mine"), filepath.Join(dir, d.temp)); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit("f"); !errors.Is(err, ErrSwapped) {
		t.Errorf("got %v", err)
	}
}

func TestFileMountedFromElsewhereLeavesNoStageBehind(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	own, there, below := t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{there, below} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
	at := fill(t, filepath.Join(there, "f"), "x")
	if err := unix.Mount(fill(t, filepath.Join(below, "f"), "text"), at, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	p := pinned(t, at)
	if s, err := p.Stage(own); !errors.Is(err, ErrNoStage) {
		t.Errorf("got %+v, %v", s, err)
	}
	if entries, _ := os.ReadDir(there); len(entries) != 1 {
		t.Errorf("left are %v", entries)
	}
}

func TestHoldersAreToldApart(t *testing.T) {
	t.Parallel()
	program := agenttest.Program(t, "sleep", "holder")
	data := fill(t, filepath.Join(t.TempDir(), "data"), "text")
	start := func(stdin, stdout *os.File) int {
		cmd := exec.Command(program, "1000")
		cmd.Stdin, cmd.Stdout = stdin, stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd.Process.Pid
	}
	r, err := os.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := os.OpenFile(data, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	reader, writer := start(r, nil), start(nil, w)
	libc, err := filepath.EvalSymlinks("/lib/x86_64-linux-gnu/libc.so.6")
	if err != nil {
		libc = ""
	}
	for _, tt := range []struct {
		path string
		pid  int
		how  string
	}{{program, reader, "runs"}, {program, writer, "runs"}, {data, reader, "reads"}, {data, writer, "writes"}, {libc, reader, "maps"}} {
		if tt.path == "" {
			continue
		}
		id, err := IDOf(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		agenttest.Eventually(t, fmt.Sprintf("pid %d %s %s", tt.pid, tt.how, tt.path), func() bool {
			holders, err := Holders(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range holders {
				if h.PID == tt.pid && h.How == tt.how && h.Name == "holder" {
					return true
				}
			}
			// A busy machine may have more processes with libc than are named.
			return tt.how == "maps" && len(holders) == maxHolders
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Holders(gone, ID{1, 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: %v", err)
	}
}

func TestAttributesThatAreTooManyAreToldAndNotAnError(t *testing.T) {
	t.Parallel()
	dir := memory(t)
	path := fill(t, filepath.Join(dir, "f"), "text")
	for i := range 20 {
		if err := unix.Setxattr(path, fmt.Sprint("user.big", i), make([]byte, 60<<10), 0); err != nil {
			t.Skipf("no large attributes here: %v", err)
		}
	}
	p := pinned(t, path)
	a, lost, err := AttributesOf(p.File)
	size := 0
	for _, x := range a.Xattrs {
		size += len(x.name()) + len(x.Value)
	}
	if err != nil || len(lost) != 1 || size == 0 || size > maxXattrs {
		t.Errorf("%d bytes kept, lost %v, %v", size, lost, err)
	}
}
