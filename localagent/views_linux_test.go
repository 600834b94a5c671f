package localagent

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestTerminateFindsAProcessByThePathBelowItsOwnRoot(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	a := newAgent(t)
	root := t.TempDir()
	for _, dir := range []string{"usr", "lib", "lib64", "bin"} {
		from, to := "/"+dir, filepath.Join(root, dir)
		if _, err := os.Stat(from); err != nil {
			continue
		}
		if err := os.Mkdir(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
	}
	for _, dir := range []string{"opt", "dev"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	agenttest.CopyProgram(t, mustLook(t, "dash"), filepath.Join(root, "opt", "dash"))
	script := filepath.Join(root, "opt", "evil.sh")
	if err := os.WriteFile(script, []byte("read x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, sum := digestsOf(t, script)
	jailed := func(args ...string) *victim {
		cmd := exec.Command("/opt/dash", args...)
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Setpgid: true, Chroot: root}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close() })
		return start(t, cmd)
	}
	for name, c := range map[string]struct {
		args []string
		task bridge.TerminateProcess
	}{
		"image below the root":  {[]string{"-c", "read x"}, bridge.TerminateProcess{Path: "/opt/dash", CaseSensitive: true}},
		"image from outside":    {[]string{"-c", "read x"}, bridge.TerminateProcess{Path: filepath.Join(root, "opt/dash")}},
		"script below the root": {[]string{"/opt/evil.sh"}, bridge.TerminateProcess{Path: "/opt/evil.sh", SHA256: sum}},
	} {
		v := jailed(c.args...)
		agenttest.Eventually(t, "the program runs", func() bool {
			b, err := os.ReadFile("/proc/" + itoa(v.pid) + "/stat")
			return err == nil && contains(string(b), ") S ")
		})
		done(t, a, order(c.task), "ended pid "+itoa(v.pid))
		if !v.dead() {
			t.Errorf("%s: the process lives", name)
		}
	}
}
