package localagent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// groupStage says that this test program runs in a control group of its own.
const groupStage = "LOCALAGENT_TEST_GROUP"

// insideGroup runs the calling test again in namespaces of its own, with a control group the test made as the root of all control
// groups, and returns where that hierarchy is mounted. In the parents it returns false. Process 1 is a parent.
func insideGroup(t *testing.T) (string, bool) {
	t.Helper()
	if !agenttest.Inside(t, unix.CLONE_NEWNS|unix.CLONE_NEWPID) {
		return "", false
	}
	root := t.TempDir()
	if err := unix.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Skipf("this test needs control groups of version 2: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	if os.Getenv(groupStage) != "" {
		return root, true
	}
	group := filepath.Join(root, "edr-bridge-test-"+filepath.Base(filepath.Dir(root)))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(group, "cgroup.procs"), "0")
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1", "-test.timeout=50s")
	cmd.Env = append(os.Environ(), groupStage+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	write(t, filepath.Join(root, "cgroup.procs"), "0")
	_ = os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
	agenttest.Eventually(t, "the control group is gone", func() bool { removeGroups(group); return unix.Access(group, unix.F_OK) != nil })
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("in the group: %v\n%s", err, out)
	}
	return "", false
}

func removeGroups(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			removeGroups(filepath.Join(dir, e.Name()))
		}
	}
	_ = unix.Rmdir(dir)
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// subgroup makes a control group below the root of the test's hierarchy.
func subgroup(t *testing.T, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startIn runs the command in a control group from its first moment.
func startIn(t *testing.T, group string, cmd *exec.Cmd) *victim {
	t.Helper()
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return start(t, cmd)
}
