package prevention

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// serveNothing mounts a FUSE file system over the folder whose server never answers.
func serveNothing(t *testing.T, dir string) {
	t.Helper()
	serve(t, dir, "fuse.stranger")
}

func serve(t *testing.T, dir, kind string) {
	t.Helper()
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no FUSE: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev.Fd())
	if err := unix.Mount("stranger", dir, kind, 0, options); err != nil {
		_ = dev.Close()
		t.Skipf("this machine mounts no FUSE: %v", err)
	}
	t.Cleanup(func() { _ = dev.Close(); _ = unix.Unmount(dir, unix.MNT_DETACH) }) // who waits for it goes on
}

// within fails the test when do does not return: a thread that waits for a server cannot be called back.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s waits for a server that does not answer", what)
	}
}

func TestAPathOnAFileSystemSomebodyServesIsRefusedWithoutAskingTheServer(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	for _, d := range []string{"served", "Folder"} {
		if err := os.Mkdir(filepath.Join(r.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../served", filepath.Join(r.dir, "Folder/link")); err != nil {
		t.Fatal(err)
	}
	serveNothing(t, filepath.Join(r.dir, "served"))
	for _, name := range []string{"served/evil", "served/sub/evil", "SERVED/evil", "Folder/link/evil", "folder/link/sub/evil"} {
		for _, exact := range []bool{false, true} {
			if exact && (strings.HasPrefix(name, "SERVED") || strings.HasPrefix(name, "folder")) {
				continue // nothing is there
			}
			within(t, "a rule about "+name, func() {
				_, err := r.Add(context.Background(), "o1", bridge.PreventExecution{Path: filepath.Join(r.dir, name), CaseSensitive: exact})
				if v := verdict.Of(err); err == nil || v.Class != bridge.Permanent || v.Reason != bridge.ReasonUnsupported || !strings.Contains(err.Error(), "any user may serve") {
					t.Errorf("%s, exact %v: %v", name, exact, err)
				}
			})
		}
	}
	if rules, err := r.Rules(t.Context()); err != nil || len(rules) != 0 {
		t.Errorf("stored are %v, %v", rules, err)
	}
}

func TestAFileSystemServedOverTheFolderOfARuleIsNotAsked(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	for _, d := range []string{"a/b", "c"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	evil, good := r.program("c/evil"), r.program("good")
	for _, name := range []string{"a/b/evil", "c/evil"} {
		r.add(bridge.PreventExecution{Path: filepath.Join(r.dir, name)})
	}
	serveNothing(t, filepath.Join(r.dir, "a"))
	agenttest.Eventually(t, "the listener has seen it", func() bool { return strings.Contains(r.status().LastError, "never looked at") })
	within(t, "the guard", func() {
		for line, want := range map[string]int{evil: notAllowed, good: runs} {
			if got := r.sh(line); got != want {
				t.Errorf("%s: exit %d, want %d", line, got, want)
			}
		}
		for _, rule := range mustRules(t, r) {
			if err := r.Remove(t.Context(), rule.ID); err != nil {
				t.Error(err)
			}
		}
	})
	if s := r.status(); s.Restarts != 0 {
		t.Errorf("the listener was restarted: %+v", s)
	}
}

func mustRules(t *testing.T, r *rig) []Rule {
	t.Helper()
	rules, err := r.Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestAFolderIsFoundInTheCaseItHas(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, nil)
	if err := os.MkdirAll(filepath.Join(r.dir, "Opt/Tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	evil := r.script("Opt/Tools/Evil.sh")
	got := r.add(bridge.PreventExecution{Path: filepath.Join(r.dir, "opt/TOOLS/evil.sh")})
	for _, line := range []string{"cat " + evil, "bash " + evil, evil} { // the interpreter first: an execution would mark the file
		if r.sh(line) == runs {
			t.Errorf("%s went on", line)
		}
	}
	if !strings.Contains(got.Detail, "in another case") {
		t.Errorf("the receipt is %q", got.Detail)
	}
}

func TestPlacesThatAreServedAreKnownByTheListOfMounts(t *testing.T) {
	t.Parallel()
	p := newPlaces([]Mount{
		{ID: 1, Point: "/", Type: "ext4"},
		{ID: 2, Point: "/net", Type: "autofs"},
		{ID: 3, Point: "/home", Type: "autofs"},
		{ID: 4, Point: "/home", Type: "ext4"},
		{ID: 5, Point: "/mnt/s", Type: "fuse.sshfs"},
		{ID: 6, Point: "/mnt/s/in", Type: "tmpfs"},
		{ID: 7, Point: "/run/snap/7/fs", Type: "fuse.rawBridge"},
		{ID: 8, Point: "/c/absolute", Type: "overlay", SuperOptions: "rw,lowerdir=/ok:/run/snap/7/fs,upperdir=/u,workdir=/w"},
		{ID: 9, Point: "/c/relative", Type: "overlay", SuperOptions: "rw,lowerdir=7/fs:8/fs"},
		{ID: 10, Point: "/c/onto", Type: "overlay", SuperOptions: "rw,lowerdir+=/c/absolute/x,lowerdir+=/ok"},
		{ID: 11, Point: "/c/fine", Type: "overlay", SuperOptions: "rw,lowerdir=/ok:9/fs,upperdir=/u,workdir=/w"},
		{ID: 12, Point: "/srv", Type: "nfs4"},
	})
	for name, want := range map[string]bool{
		"/": true, "/bin/sh": true, "/networks": true, "/mnt": true, "/mnt/sx": true, "/c/fine/bin/sh": true, "/run/snap/7": true,
		"/net/host/x": false, "/home/u": false, "/mnt/s": false, "/mnt/s/x": false, "/mnt/s/in/x": false, "/c/absolute/x": false,
		"/c/relative": false, "/c/onto/x": false, "/srv/x": false,
	} {
		if why := p.why(name); (why == "") != want {
			t.Errorf("%s: %q", name, why)
		}
	}
	served := newPlaces([]Mount{{ID: 1, Point: "/", Type: "nfs"}, {ID: 2, Point: "/var", Type: "xfs"}})
	if served.why("/bin/sh") == "" || served.why("/var/x") != "" {
		t.Error("a served / counts for what is on it, and for nothing else")
	}
}
