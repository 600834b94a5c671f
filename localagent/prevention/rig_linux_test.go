package prevention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/safety"
)

var _ Protected = (*safety.Executables)(nil)

// settings travel from a test to its listener process.
type settings struct {
	State, Disable string
	// Only are the mount points that may be watched: file systems the test made.
	Only     []string
	Mode     Mode
	Deadline time.Duration
	Stall    time.Duration
	Workers  int
	Breaker  int
	DryRun   bool
	// Protect are files that must never be denied; by identity, digest and path.
	Protect []string
}

const settingsEnv = "PREVENTION_TEST_LISTENER"

// TestMain makes the test program its own listener process.
func TestMain(m *testing.M) {
	text := os.Getenv(settingsEnv)
	if text == "" || len(os.Args) < 2 || os.Args[1] != "listener" {
		m.Run()
		return
	}
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	if err := Listen(context.Background(), s.config(), os.NewFile(3, "agent")); err != nil {
		os.Exit(1)
	}
}

func (s settings) config() Config {
	return Config{
		State: s.State, Disable: s.Disable, Mode: s.Mode, Deadline: s.Deadline, Stall: s.Stall, Workers: s.Workers, Breaker: s.Breaker, DryRun: s.DryRun,
		Listener:  []string{"/proc/self/exe", "listener"},
		Mounts:    func(m Mount) bool { return slices.Contains(s.Only, m.Point) },
		Protected: func(context.Context) (Protected, error) { return shield(s.Protect) },
	}
}

// shielded is a list of protected files for tests.
type shielded struct {
	ids     map[files.ID]bool
	digests map[string]bool
	paths   map[string]bool
}

func shield(paths []string) (Protected, error) {
	s := &shielded{map[files.ID]bool{}, map[string]bool{}, map[string]bool{}}
	for _, p := range paths {
		id, err := files.IDOf(p)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(p)
		if err != nil {
			return nil, err
		}
		var c files.Cache
		d, err := c.Of(context.Background(), f, true, true)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		s.ids[id], s.digests[d.MD5], s.digests[d.SHA256], s.paths[p] = true, true, true, true
	}
	return s, nil
}

func (s *shielded) judge(hit bool) (bridge.Reason, string) {
	if hit {
		return bridge.ReasonProtectedPath, "shell: services run through it"
	}
	return bridge.ReasonNone, ""
}

func (s *shielded) ByID(id files.ID) (bridge.Reason, string)   { return s.judge(s.ids[id]) }
func (s *shielded) ByDigest(d string) (bridge.Reason, string)  { return s.judge(s.digests[d]) }
func (s *shielded) ByPath(path string) (bridge.Reason, string) { return s.judge(s.paths[path]) }

// rig is a running guard over a file system of its own.
type rig struct {
	*Guard

	t   testing.TB
	dir string // the mount point
	set settings
	// mu guards seen.
	mu   sync.Mutex
	seen []Denial
}

// newRig mounts a tmpfs and runs a guard that watches it and nothing else. The test runs inside a mount namespace of its own.
func newRig(t testing.TB, change func(*settings)) *rig {
	t.Helper()
	r := prepareRig(t, change)
	r.start()
	return r
}

func prepareRig(t testing.TB, change func(*settings)) *rig {
	t.Helper()
	dir := tmpfs(t)
	r := &rig{t: t, dir: dir, set: settings{
		State: filepath.Join(t.TempDir(), "state"), Disable: filepath.Join(t.TempDir(), "disable"), Only: []string{dir}, Mode: Block,
		Deadline: 5 * time.Second,
	}}
	if change != nil {
		change(&r.set)
	}
	r.renew()
	return r
}

// renew makes the guard anew, as after a restart of the agent.
func (r *rig) renew() {
	r.t.Helper()
	text, err := json.Marshal(r.set)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.Setenv(settingsEnv, string(text)); err != nil {
		r.t.Fatal(err)
	}
	cfg := r.set.config()
	cfg.Denied = func(d Denial) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, d)
	}
	if r.Guard, err = New(cfg); err != nil {
		r.t.Fatal(err)
	}
}

// start runs the guard until the returned function is called, or the test ends.
func (r *rig) start() (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	g := r.Guard
	go func() { done <- g.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("run: %v", err)
		}
	})
	r.t.Cleanup(stop)
	agenttest.Eventually(r.t, "the guard runs", func() bool {
		select {
		case err := <-done:
			done <- nil
			r.t.Fatalf("run: %v", err)
		default:
		}
		return g.Running()
	})
	return stop
}

func tmpfs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64m,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// program puts a program nobody else has into the rig.
func (r *rig) program(name string) string {
	r.t.Helper()
	return agenttest.CopyProgram(r.t, "/bin/true", filepath.Join(r.dir, name))
}

// script puts a script into the rig that prints "ran".
func (r *rig) script(name string) string {
	r.t.Helper()
	return agenttest.WriteProgram(r.t, filepath.Join(r.dir, name), fmt.Appendf(nil, "#!/bin/sh\n# %d\necho ran\n", time.Now().UnixNano()))
}

// copyOf copies a file as the agent, who may read everything.
func (r *rig) copyOf(from, name string) string {
	r.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		r.t.Fatal(err)
	}
	return agenttest.WriteProgram(r.t, filepath.Join(r.dir, name), data)
}

// sh runs a command as a grandchild of this process: what the agent itself starts is never denied. It returns the exit code.
func (r *rig) sh(line string) int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line+"\nexit $?")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		r.t.Fatalf("%s: %v %v\n%s", line, err, ctx.Err(), out)
	}
	r.t.Logf("%s: exit %d %s", line, cmd.ProcessState.ExitCode(), out)
	return cmd.ProcessState.ExitCode()
}

func (r *rig) add(task bridge.PreventExecution) bridge.Receipt {
	r.t.Helper()
	got, err := r.Add(context.Background(), "o1", task)
	if err != nil {
		r.t.Fatalf("add %+v: %v", task, err)
	}
	return got
}

func (r *rig) status() Status {
	r.t.Helper()
	s, err := r.Status(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// told waits for a denial that fits.
func (r *rig) told(what string, fits func(Denial) bool) Denial {
	r.t.Helper()
	var found Denial
	agenttest.Eventually(r.t, what, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, d := range r.seen {
			if fits(d) {
				found = d
				return true
			}
		}
		return false
	})
	return found
}

// sumOf returns the digests of a file.
func sumOf(t testing.TB, path string) files.Digests {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var c files.Cache
	d, err := c.Of(t.Context(), f, true, true)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
