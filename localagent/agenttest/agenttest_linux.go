// Package agenttest is what the tests of the local agent share: namespaces of their own, and programs nobody else runs.
package agenttest

import (
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv says that this test program runs inside the namespaces its parent made.
const insideEnv = "LOCALAGENT_TEST_INSIDE"

// IsInside reports whether this is the child Inside made.
func IsInside() bool { return os.Getenv(insideEnv) != "" }

// Inside runs the calling test again in a child with namespaces of its own and returns true there; in the parent
// it reports what the child said and returns false.
func Inside(t *testing.T, flags uintptr) bool {
	t.Helper()
	NeedRoot(t)
	if os.Getenv(insideEnv) != "" {
		if flags&unix.CLONE_NEWNS != 0 {
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				t.Fatalf("make mounts private: %v", err)
			}
		}
		if flags&unix.CLONE_NEWPID != 0 {
			if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
				t.Fatalf("mount /proc: %v", err)
			}
		}
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	switch {
	case strings.Contains(string(out), "operation not permitted") && !strings.Contains(string(out), "=== RUN"):
		t.Skipf("the machine allows no namespaces: %s", out)
	case err != nil:
		t.Fatalf("inside: %v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP: "+t.Name()+" "):
		t.Skipf("inside: %s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()+" "):
		t.Fatalf("inside: the test did not run\n%s", out)
	}
	if testing.Verbose() {
		t.Logf("inside:\n%s", out)
	}
	return false
}

// NeedRoot skips the test for anybody else.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this test needs root")
	}
}

// Eventually waits up to 10 s for ok and fails the test after that.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// Program copies a program of the system into the test's own folder, with random bytes behind its end, so that
// neither its path nor its digest can be those of a process the test did not make.
func Program(t testing.TB, name, as string) string {
	t.Helper()
	src, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("this test needs the program %s", name)
	}
	return CopyProgram(t, src, filepath.Join(t.TempDir(), as))
}

// WriteProgram writes a script or program that can be started at once; it returns path. A child that a parallel test forks while
// the file is open for writing would make it busy for exec.
func WriteProgram(t testing.TB, path string, content []byte) string {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// CopyProgram is Program for a program and a place of the caller's choice; it returns dst.
func CopyProgram(t testing.TB, src, dst string) string {
	t.Helper()
	in, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	// As in WriteProgram.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(out, rand.Reader, 32); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return dst
}
