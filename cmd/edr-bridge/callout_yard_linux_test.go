package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// yard is a folder with the built programs, settings, and a bridge that comes and goes.
type yard struct {
	t   *testing.T
	dir string
	mu  sync.Mutex // guards bridge
	// bridge is the running one.
	bridge *exec.Cmd
}

const yardSettings = `version: 1
mode: enforce
limits: []
max_age: {terminateProcess: 15m}
local: {enabled: true, dry_run: true, state: state}
sources:
  calls: {type: kuma-script, socket: kuma.sock, spool: spool, mode: enforce}
`

// newYard builds both programs as they are shipped and puts the nine names in place.
func newYard(t *testing.T) *yard {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	y := &yard{t: t, dir: t.TempDir()}
	// -race keeps its own build of everything; the programs under test are the shipped ones, and flags as in the Makefile find its cache.
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", y.dir+"/bin/", ".", "../edr-bridge-call")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, dir := range []string{"spool", "scripts", "state"} {
		if err := os.MkdirAll(filepath.Join(y.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(y.path("edr-bridge.yaml"), []byte(yardSettings), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.stop(syscall.SIGKILL) })
	return y
}

func (y *yard) path(name string) string { return filepath.Join(y.dir, name) }

// program is a call of the built edr-bridge with the settings of the yard.
func (y *yard) program(args ...string) *exec.Cmd {
	cmd := exec.Command(y.path("bin/edr-bridge"), append(args, "-c", y.path("edr-bridge.yaml"))...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + y.dir, "TMPDIR=" + os.TempDir()}
	return cmd
}

// do runs the built edr-bridge to its end and returns its stdout.
func (y *yard) do(args ...string) []byte {
	y.t.Helper()
	cmd := y.program(args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		y.t.Fatalf("edr-bridge %v: %v\n%s%s", args, err, &out, &words)
	}
	return out.Bytes()
}

func (y *yard) install(flags ...string) {
	y.t.Helper()
	y.do(append([]string{"kuma", "install", "--dir", y.path("scripts"), "--user", y.user(), "-o", "json"}, flags...)...)
}

func (y *yard) user() string {
	y.t.Helper()
	name := currentUser()
	if name == "" {
		y.t.Skip("this process has no user name")
	}
	return name
}

// start starts a bridge; it is ready at some time.
func (y *yard) start() {
	y.t.Helper()
	log, err := os.OpenFile(y.path("bridge.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		y.t.Fatal(err)
	}
	defer log.Close()
	y.mu.Lock()
	defer y.mu.Unlock()
	y.bridge = y.program("run")
	y.bridge.Stderr = log
	if err := y.bridge.Start(); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) runs() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.bridge != nil
}

func (y *yard) stop(how syscall.Signal) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.bridge == nil {
		return
	}
	_ = y.bridge.Process.Signal(how)
	_ = y.bridge.Wait() // its end is what was asked for
	y.bridge = nil
}

// answers waits until the bridge listens for calls.
func (y *yard) answers() {
	y.t.Helper()
	err := eventually(patience, func() error {
		_, err := os.Stat(y.path("kuma.sock"))
		return err
	})
	if err != nil {
		log, _ := os.ReadFile(y.path("bridge.log"))
		y.t.Fatalf("the bridge does not listen: %v\n%s", err, log)
	}
}

// made is what one call came to.
type made struct {
	killed bool
	exit   int
	state  string
}

// call runs a script; kill > 0 ends it by SIGKILL after that time.
func (y *yard) call(kill time.Duration, script string, args ...string) (made, error) {
	cmd := exec.Command(y.path("scripts/"+script), args...)
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Env = []string{} // KUMA documents none
	if err := cmd.Start(); err != nil {
		return made{}, err
	}
	if kill > 0 {
		end := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		defer end.Stop()
	}
	err := cmd.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return made{}, err
	}
	m := made{exit: cmd.ProcessState.ExitCode()}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		m.killed = true
		return m, nil
	}
	var line struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil && script != "isolateHost.py" {
		return m, fmt.Errorf("exit %d, line %q: %w", m.exit, out.Bytes(), err)
	}
	m.state = line.State
	return m, nil
}
