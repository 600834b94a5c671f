package localagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestTheControlGroupOfProgramsIsFoundWhereOnlyRootCanMakeIt(t *testing.T) {
	root, ok := insideGroup(t)
	if !ok {
		return
	}
	l := newLauncher(t, func(c *LauncherConfig) { c.FindGroup = true })
	task := bridge.StartProcess{ExecutablePath: script(t, "cat /proc/self/cgroup")}
	run := func(l *Launcher) (*Run, string) {
		t.Helper()
		r := started(t, l, task, 0)
		return r, content(t, exits(t, r).Stdout)
	}
	for range 2 { // once it is made, once it is there
		if r, out := run(l); len(r.Notes) != 0 || !strings.Contains(out, "/"+groupFolder+"/"+groupPrefix+r.OrderID) {
			t.Errorf("run = %+v, %q", r, out)
		}
	}
	if r, out := run(newLauncher(t)); len(r.Notes) != 1 || strings.Contains(out, groupPrefix) {
		t.Errorf("without FindGroup: run = %+v, %q", r, out)
	}
	at := filepath.Join(root, groupFolder)
	none := func(what string, change, back func() error) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if r, _ := run(l); len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "no control group of its own") {
			t.Errorf("%s: notes = %v", what, r.Notes)
		}
		if err := back(); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{root, at} {
		procs := filepath.Join(dir, "cgroup.procs")
		none("folder of another user", func() error { return os.Chown(dir, 12345, 0) }, func() error { return os.Chown(dir, 0, 0) })
		none("processes of another user", func() error { return os.Chown(procs, 12345, 0) }, func() error { return os.Chown(procs, 0, 0) })
		none("a group may write", func() error { return os.Chmod(dir, 0o775) }, func() error { return os.Chmod(dir, 0o755) })
	}
	none("read-only", func() error {
		return unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}, func() error { return unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND, "") })
	if r, _ := run(l); len(r.Notes) != 0 {
		t.Errorf("at the end: notes = %v", r.Notes)
	}
}
