package sensor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program of a fake process.
type fakeProcess struct {
	stat
	path string
	args []string
	// unread says that the image cannot be read any more although the process is still listed; long that its path is too long.
	unread, long bool
}

// fakeWorld is a system in memory. Times of events are in ticks.
type fakeWorld struct {
	t         *testing.T
	processes map[int]*fakeProcess
}

func newFakeWorld(t *testing.T) *fakeWorld {
	t.Helper()
	return &fakeWorld{t: t, processes: map[int]*fakeProcess{}}
}

// run makes a process, or lets one run another program.
func (w *fakeWorld) run(pid, ppid int, start uint64, path string, args ...string) {
	if len(args) == 0 {
		args = []string{filepath.Base(path)}
	}
	w.processes[pid] = &fakeProcess{stat: stat{ppid: ppid, start: start, name: filepath.Base(path)}, path: path, args: args}
}

func (w *fakeWorld) pids() ([]int, error) {
	var list []int
	for pid := range w.processes {
		list = append(list, pid)
	}
	return list, nil
}

func (w *fakeWorld) stat(pid int) (stat, error) {
	p := w.processes[pid]
	if p == nil {
		return stat{}, errGone
	}
	return p.stat, nil
}

func (w *fakeWorld) image(pid int) (string, bool, error) {
	p := w.processes[pid]
	if p == nil || p.unread {
		return "", false, errGone
	}
	if p.long {
		return "", false, errors.New("name too long")
	}
	return p.path, false, nil
}

func (w *fakeWorld) commandLine(pid, limit int) ([]byte, error) {
	p := w.processes[pid]
	if p == nil || p.unread {
		return nil, errGone
	}
	line := strings.Join(p.args, "\x00") + "\x00"
	return []byte(line[:min(len(line), limit)]), nil
}

func (w *fakeWorld) open(pid int) (*os.File, error) {
	p := w.processes[pid]
	if p == nil || p.unread {
		return nil, errGone
	}
	name := filepath.Join(w.t.TempDir(), "image")
	if err := os.WriteFile(name, []byte(p.path), 0o600); err != nil {
		return nil, err
	}
	return os.Open(name)
}

func (w *fakeWorld) after(start, when uint64) bool { return when != 0 && start > when }

func (w *fakeWorld) program() string { return "/usr/bin/edr-bridge" }

func (w *fakeWorld) isOurs(pid int) bool { return w.processes[pid].uid == 0 }

func (w *fakeWorld) boot() string { return "fake" }

// observing is an observer of a fake world and what it would send.
type observing struct {
	*observer
	w *fakeWorld
}

func observe(t *testing.T, cfg Config) *observing {
	t.Helper()
	cfg.Name = "sensor"
	if cfg.Self == 0 {
		cfg.Self = -1 // a number of the test may be that of this process
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := newFakeWorld(t)
	s.world = w
	return &observing{s.observer(), w}
}

// child makes a process that runs a program, and looks at it.
func (o *observing) child(parent, pid int, path string, args ...string) {
	o.forked(parent, pid)
	o.w.run(pid, parent, 9, path, args...)
	o.executed(pid, 9)
}

// alerts returns what was found since it was asked last.
func (o *observing) alerts() []document {
	var list []document
	for len(o.s.sightings) > 0 {
		x := <-o.s.sightings
		o.s.digest(context.Background(), &x)
		list = append(list, x.document)
	}
	return list
}

func (o *observing) one(t *testing.T) document {
	t.Helper()
	list := o.alerts()
	if len(list) != 1 {
		t.Fatalf("%d alerts, want 1: %+v", len(list), list)
	}
	return list[0]
}

func (o *observing) none(t *testing.T) {
	t.Helper()
	if list := o.alerts(); len(list) != 0 {
		t.Fatalf("%d alerts, want none: %+v", len(list), list)
	}
}
