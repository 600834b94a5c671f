package localagent

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// userFS is a file system one user serves with one program in it, "prog": nobody else may look (fuse(4), without allow_other).
type userFS struct {
	dev  int
	prog []byte
	// mu guards mute, which lets requests wait, and those that wait.
	mu      sync.Mutex
	mute    bool
	waiting []uint64
}

// silence lets all requests wait from now on, and answers those that wait at the end of the test.
func (u *userFS) silence(t *testing.T) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mute = true
	t.Cleanup(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.mute = false
		for _, unique := range u.waiting {
			u.answer(unique, -int32(unix.EIO), nil)
		}
	})
}

// waits keeps a request until the silence ends, and reports whether there is one.
func (u *userFS) waits(op uint32, unique uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mute && op != 18 && op != 25 { // RELEASE and FLUSH: a process could not end
		u.waiting = append(u.waiting, unique)
	}
	return u.mute && op != 18 && op != 25
}

func (u *userFS) answer(unique uint64, errno int32, out []byte) {
	le, head := binary.LittleEndian, make([]byte, 16)
	le.PutUint32(head, uint32(16+len(out)))
	le.PutUint32(head[4:], uint32(errno))
	le.PutUint64(head[8:], unique)
	_, _ = unix.Write(u.dev, append(head, out...))
}

const fsUser = 65534

func mountUserFS(t *testing.T, options string) (*userFS, string) {
	t.Helper()
	src, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("this test needs the program sleep")
	}
	prog, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("this test needs /dev/fuse: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	data := fmt.Sprintf("fd=%d,rootmode=40755,user_id=%d,group_id=%d%s", dev, fsUser, fsUser, options)
	if err := unix.Mount("user", dir, "fuse.test", 0, data); err != nil {
		t.Skipf("this test needs FUSE: %v", err)
	}
	u := &userFS{dev: dev, prog: append(prog, t.Name()...)}
	go u.serve()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH); _ = unix.Close(dev) }) // which ends every request that waits
	return u, filepath.Join(dir, "prog")
}

func (u *userFS) serve() {
	in := make([]byte, 1<<17)
	for {
		n, err := unix.Read(u.dev, in)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		le := binary.LittleEndian
		op, unique, node := le.Uint32(in[4:]), le.Uint64(in[8:]), le.Uint64(in[16:])
		if op == 2 || op == 36 || op == 42 || u.waits(op, unique) { // FORGET, INTERRUPT, BATCH_FORGET have no answer
			continue
		}
		var out []byte
		var errno int32
		switch op {
		case 26: // INIT
			out = make([]byte, 64)
			le.PutUint32(out, 7)
			le.PutUint32(out[4:], 31)
			le.PutUint32(out[20:], 1<<16)
		case 1: // LOOKUP
			if string(in[40:n-1]) != "prog" {
				errno = -int32(unix.ENOENT)
				break
			}
			out = make([]byte, 40, 128)
			le.PutUint64(out, 2)
			out = append(out, u.attr(2)...)
		case 3: // GETATTR
			out = append(make([]byte, 16, 104), u.attr(node)...)
		case 14, 27: // OPEN, OPENDIR
			out = make([]byte, 16)
		case 15: // READ
			from := min(le.Uint64(in[48:]), uint64(len(u.prog)))
			out = u.prog[from:min(from+uint64(le.Uint32(in[56:])), uint64(len(u.prog)))]
		case 18, 25: // RELEASE, FLUSH
		default:
			errno = -int32(unix.ENOSYS)
		}
		u.answer(unique, errno, out)
	}
}

func (u *userFS) attr(node uint64) []byte {
	le, a := binary.LittleEndian, make([]byte, 88)
	mode := uint32(unix.S_IFDIR | 0o755)
	if node == 2 {
		mode = unix.S_IFREG | 0o755
	}
	le.PutUint64(a, node)
	le.PutUint64(a[8:], uint64(len(u.prog)))
	le.PutUint32(a[60:], mode)
	le.PutUint32(a[64:], 1)
	le.PutUint32(a[68:], fsUser)
	le.PutUint32(a[72:], fsUser)
	return a
}

// userProcess runs the program as the user who serves it.
func userProcess(t *testing.T, image string) *victim {
	t.Helper()
	cmd := exec.Command(image, "3600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: fsUser, Gid: fsUser}}
	v := start(t, cmd)
	agenttest.Eventually(t, "it sleeps", func() bool {
		b, err := os.ReadFile("/proc/" + itoa(v.pid) + "/wchan")
		return err == nil && contains(string(b), "nanosleep")
	})
	return v
}

func TestWhatAUserServesToHimselfCanBeEndedByPathAndByPID(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	_, image := mountUserFS(t, "")
	a := newAgent(t)
	v := userProcess(t, image)
	if err := unix.Stat(image, &unix.Stat_t{}); err != unix.EACCES {
		t.Fatalf("root may look at it (%v): the test shows nothing", err)
	}
	if r, err := a.Execute(t.Context(), about(t, a, v)); err != nil || r.State != bridge.StateDone || !v.dead() {
		t.Errorf("by pid: %+v, %v", r, err)
	}
	v = userProcess(t, image)
	if r, err := a.Execute(t.Context(), order(bridge.TerminateProcess{Path: image, CaseSensitive: true})); err != nil || r.State != bridge.StateDone || !v.dead() {
		t.Errorf("by path: %+v, %v", r, err)
	}
}

func TestAFileSystemThatDoesNotAnswerHoldsNoOrderUp(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	u, image := mountUserFS(t, ",allow_other")
	a := newAgent(t)
	silent := userProcess(t, image)
	other := sleeper(t, agenttest.Program(t, "sleep", "other"))
	_, sha256Hex := digestsOf(t, other.cmd.Path)
	u.silence(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	begin := time.Now()
	if r, err := a.Execute(ctx, order(bridge.TerminateProcess{SHA256: sha256Hex})); err != nil || r.State != bridge.StateDone || !other.dead() || silent.dead() {
		t.Errorf("by digest after %s: %+v, %v", time.Since(begin), r, err)
	}
	if _, err := a.Execute(ctx, order(bridge.TerminateProcess{SHA256: sha256Hex})); !contains(fmt.Sprint(err), "does not answer") {
		t.Errorf("by digest, nothing left: %v", err)
	}
	if r, err := a.Execute(ctx, order(bridge.TerminateProcess{Path: image, CaseSensitive: true})); err != nil || r.State != bridge.StateDone || !silent.dead() {
		t.Errorf("by path: %+v, %v", r, err)
	}
}

func TestFilesOfDisksAndOfMemoryAreNear(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"/proc/self/exe", "/dev/shm"} {
		id, err := files.IDOf(name)
		if err != nil {
			t.Skip(err)
		}
		if far(id) {
			t.Errorf("%s is far", name)
		}
	}
	if id, err := files.IDOf("/proc"); err != nil || !far(id) {
		t.Errorf("what is not known is near: %v", err)
	}
}
