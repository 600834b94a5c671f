package localagent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestPruneRemovesProgramsThatEndedLongAgoAndNoOthers(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLauncher(t, func(c *LauncherConfig) { c.Now = func() time.Time { return now } })
	quick, slow := script(t, "echo done"), script(t, "while :; do sleep 0.05; done")
	run := func(name string) *Run { return started(t, l, bridge.StartProcess{ExecutablePath: name}, 0) }
	change := func(r *Run, with func(*note)) {
		t.Helper()
		n := r.note
		with(&n)
		if err := l.write(n); err != nil {
			t.Fatal(err)
		}
	}
	ended := run(quick)
	exits(t, ended)
	live, unended, forged := run(slow), run(slow), run(slow)
	unknown := run(slow)
	change(forged, func(n *note) { n.Ended, n.Exit = now, &Exit{Survivors: []string{"it"}} })
	change(unknown, func(n *note) { n.PID, n.Start = 0, 0 })
	change(unended, func(n *note) { n.Boot = "another" }) // of an earlier run of the kernel, and nobody saw its end
	plant := func(id, text string) {
		t.Helper()
		if err := os.MkdirAll(l.folder(id), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(l.folder(id), fileNote), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plant("damaged", "{")
	plant("not.an.order", "{")
	elsewhere := t.TempDir()
	plantedLink := filepath.Join(l.cfg.Dir, "link")
	if err := errors.Join(os.Symlink(elsewhere, plantedLink), os.Mkdir(filepath.Join(l.cfg.Dir, "empty"), 0o700)); err != nil {
		t.Fatal(err)
	}
	// What a crash left of an earlier removal.
	if err := os.MkdirAll(filepath.Join(l.cfg.Dir, prunedPrefix+"old", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	left := func() []string {
		t.Helper()
		entries, err := os.ReadDir(l.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".prune-lock") {
				names = append(names, e.Name())
			}
		}
		return names
	}
	keep := []string{"damaged", "empty", "link", "not.an.order"}
	expect := func(when string, removed int, runs ...*Run) {
		t.Helper()
		// A child of another test that is forked at this moment has the lock of the last Prune until it begins its own program.
		syscall.ForkLock.RLock()
		syscall.ForkLock.RUnlock() //nolint:staticcheck // it is only waited for
		n, err := l.Prune(time.Hour)
		if err == nil || !strings.Contains(err.Error(), "damaged") || n != removed {
			t.Errorf("%s: removed %d, %v, want %d and the damaged record named", when, n, err, removed)
		}
		want := slices.Clone(keep)
		for _, r := range runs {
			want = append(want, r.OrderID)
		}
		slices.Sort(want)
		if got := left(); !slices.Equal(got, want) {
			t.Errorf("%s: left %v, want %v", when, got, want)
		}
	}
	expect("at once", 0, ended, live, unended, forged, unknown)
	now = now.Add(time.Hour + time.Minute)
	expect("an hour later", 1, live, unended, forged, unknown)
	now = now.Add(time.Hour)
	expect("after its limit", 1, live, forged, unknown)
	now = now.Add(1000 * time.Hour)
	expect("long after", 0, live, forged, unknown)
	if _, err := l.Found(ended.OrderID); !errors.Is(err, ErrNotStarted) {
		t.Errorf("found = %v", err)
	}
	if _, err := l.Prune(-1); err == nil {
		t.Error("a negative time is taken")
	}
	if n, err := newLauncher(t).Prune(0); n != 0 || err != nil {
		t.Errorf("without a folder: %d, %v", n, err)
	}
}
