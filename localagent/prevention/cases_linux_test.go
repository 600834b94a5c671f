package prevention

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// What the shell and the loader answer when the kernel does not let them.
const (
	runs       = 0
	notAllowed = 126
	noLoad     = 127
)

func loader(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Skip("this test knows no loader of this machine")
	return ""
}

func TestAProgramOfAHashRuleIsNotExecutedUnderAnyName(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	for name, digest := range map[string]func(string) string{
		"sha256": func(p string) string { return sumOf(t, p).SHA256 },
		"md5":    func(p string) string { return strings.ToUpper(sumOf(t, p).MD5) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			evil, good := r.program("evil"), r.program("good")
			before := r.sh(evil)
			r.add(bridge.PreventExecution{Hash: digest(evil)})
			copied := r.copyOf(evil, "copy")
			bound := t.TempDir()
			if err := unix.Mount(r.dir, bound, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(bound, unix.MNT_DETACH) })
			ld := loader(t)
			for _, c := range []struct {
				name, line string
				want       int
			}{
				{"before", "exit " + string(rune('0'+before)), runs},
				{"direct", evil, notAllowed},
				{"again", evil, notAllowed},
				{"copy", copied, notAllowed},
				{"bind mount", filepath.Join(bound, "evil"), notAllowed},
				{"renamed", "mv " + evil + " " + evil + "2; " + evil + "2", notAllowed},
				{"hard link", "ln " + copied + " " + r.dir + "/link; " + r.dir + "/link", notAllowed},
				{"through the loader, once it was seen", ld + " " + copied, noLoad},
				{"opened, once it was seen", "cat " + copied + " >/dev/null", 1},
				{"another program", good, runs},
				{"another program again", good, runs},
				{"changed by a byte", "cp " + good + " " + r.dir + "/other; echo >>" + r.dir + "/other; " + r.dir + "/other", runs},
			} {
				if got := r.sh(c.line); got != c.want {
					t.Errorf("%s: exit %d, want %d", c.name, got, c.want)
				}
			}
			d := r.told("a denial", func(d Denial) bool { return d.Outcome == Denied && d.Path == copied && !d.Open })
			if d.SHA256 != sumOf(t, copied).SHA256 || d.Caller.PID == 0 || d.Caller.Start == 0 || !strings.Contains(d.Caller.Cmdline, copied) ||
				!strings.Contains(d.Caller.Exe, "sh") || d.Caller.UID != 0 || d.Rule == "" || d.Time.IsZero() {
				t.Errorf("the denial is %+v", d)
			}
			r.told("an open", func(d Denial) bool { return d.Outcome == Denied && d.Path == copied && d.Open })
		})
	}
}

func TestTheFileOfAPathRuleIsNeitherExecutedNorOpened(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	script, prog, doc, other := r.script("evil.sh"), r.program("prog"), r.script("doc.txt"), r.script("other.sh")
	for _, p := range []string{script, prog, doc, filepath.Join(r.dir, "later.sh")} {
		r.add(bridge.PreventExecution{Path: p, CaseSensitive: true})
	}
	for _, c := range []struct {
		name, line string
		want       int
	}{
		{"script", script, notAllowed},
		{"bash script", "bash " + script, notAllowed},
		{"sh < script", "(sh < " + script + "); exit $?", 2},
		{"program", prog, notAllowed},
		{"ld.so program", loader(t) + " " + prog, noLoad},
		{"document", "cat " + doc, 1},
		{"renamed", "mv " + script + " " + r.dir + "/moved.sh; bash " + r.dir + "/moved.sh", notAllowed},
		{"replaced", "cp " + other + " " + script + "; " + script, notAllowed},
		{"put there, directly", "cp " + other + " " + r.dir + "/later.sh; " + r.dir + "/later.sh", notAllowed},
		{"others", other + " && bash " + other, runs},
	} {
		if got := r.sh(c.line); got != c.want {
			t.Errorf("%s: exit %d, want %d", c.name, got, c.want)
		}
	}
	agenttest.Eventually(t, "an interpreter does not read the file that was put at the path", func() bool {
		return r.sh("bash "+r.dir+"/later.sh") == notAllowed
	})
	agenttest.Eventually(t, "nor the one that replaced another", func() bool { return r.sh("bash "+script) == notAllowed })
	r.sh("rm " + doc + "; cp " + other + " " + r.dir + "/x; mv " + r.dir + "/x " + doc)
	agenttest.Eventually(t, "nor the one that was moved there", func() bool { return r.sh("bash "+doc) == notAllowed })
	if _, err := os.ReadFile(prog); err != nil {
		t.Errorf("the agent itself must be able to read the file: %v", err)
	}
}

func TestPathsAreComparedByCaseWhereTheRuleSaysSo(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	exact, any := r.script("Exact.sh"), r.script("Any.sh")
	r.add(bridge.PreventExecution{Path: filepath.Join(r.dir, "exact.SH"), CaseSensitive: true})
	r.add(bridge.PreventExecution{Path: filepath.Join(r.dir, "aNY.sh")})
	// The interpreter first: an execution would mark the file.
	for _, c := range []struct {
		line string
		want int
	}{{"bash " + any, notAllowed}, {any, notAllowed}, {"bash " + exact, runs}, {exact, runs}} {
		if got := r.sh(c.line); got != c.want {
			t.Errorf("%s: exit %d, want %d", c.line, got, c.want)
		}
	}
	r.sh("mv " + exact + " " + r.dir + "/ANY.SH")
	agenttest.Eventually(t, "a name in another case is found when it comes", func() bool { return r.sh("bash "+r.dir+"/ANY.SH") == notAllowed })
}

func TestPathAndHashMustBothFit(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	evil := r.program("evil")
	elsewhere := r.copyOf(evil, "elsewhere")
	r.add(bridge.PreventExecution{Path: evil, Hash: sumOf(t, evil).SHA256})
	for line, want := range map[string]int{evil: notAllowed, loader(t) + " " + evil: noLoad, elsewhere: runs} {
		if got := r.sh(line); got != want {
			t.Errorf("%s: exit %d, want %d", line, got, want)
		}
	}
	r.sh("rm " + evil)
	r.program("evil")
	if got := r.sh(evil); got != runs {
		t.Errorf("another content at the path: exit %d", got)
	}
}

func TestAnOverlayOverAWatchedFileSystemIsCovered(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(r.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	evil := r.program("lower/evil")
	at := func(d string) string { return filepath.Join(r.dir, d) }
	if err := unix.Mount("overlay", at("merged"), "overlay", 0, "lowerdir="+at("lower")+",upperdir="+at("upper")+",workdir="+at("work")); err != nil {
		t.Skipf("this machine mounts no overlay: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at("merged"), unix.MNT_DETACH) })
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	if got := r.sh(at("merged/evil")); got != notAllowed {
		t.Errorf("exit %d, want %d", got, notAllowed)
	}
}

func TestAFileSystemThatIsMountedLaterIsWatchedToo(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	later := t.TempDir()
	r := newRig(t, func(s *settings) { s.Only = append(s.Only, later) })
	evil := r.program("evil")
	r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	if err := unix.Mount("none", later, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(later, unix.MNT_DETACH) })
	agenttest.Eventually(t, "the mount is watched", func() bool { return len(r.status().Filesystems) == 2 })
	r.dir = later
	if got := r.sh(r.copyOf(evil, "evil")); got != notAllowed {
		t.Errorf("exit %d, want %d", got, notAllowed)
	}
}

func TestWhatIsNotCoveredIsSaid(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	evil := r.script("evil.sh")
	got := r.add(bridge.PreventExecution{Hash: sumOf(t, evil).SHA256})
	for _, want := range []string{"memfd_create", "bash FILE", "processes that run already"} {
		if !strings.Contains(got.Detail, want) || !strings.Contains(strings.Join(r.status().Gaps, " "), want) {
			t.Errorf("%q is not in %q or the status", want, got.Detail)
		}
	}
	// The gap is real, and closes with the first direct execution.
	for _, c := range []struct {
		line string
		want int
	}{{"bash " + evil, runs}, {evil, notAllowed}, {"bash " + evil, notAllowed}} {
		if code := r.sh(c.line); code != c.want {
			t.Errorf("%s: exit %d, want %d", c.line, code, c.want)
		}
	}
	// A program in memory is on no file system.
	fd, err := unix.MemfdCreate("evil", 0)
	if err != nil {
		t.Fatal(err)
	}
	memory := os.NewFile(uintptr(fd), "evil")
	defer memory.Close()
	if _, err := memory.Write(mustRead(t, evil)); err != nil {
		t.Fatal(err)
	}
	if code := r.sh(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)); code != runs {
		t.Errorf("memfd: exit %d: it is blocked, and the receipt says it is not", code)
	}
}
