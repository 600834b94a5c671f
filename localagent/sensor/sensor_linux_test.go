package sensor

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// catcher is what a sensor under test publishes to.
type catcher struct {
	mu   sync.Mutex // guards docs, at and err
	docs []document
	at   []time.Time
	err  error
}

func (c *catcher) emit(_ context.Context, doc []byte) error {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	var d document
	if err := json.Unmarshal(doc, &d); err != nil {
		return err
	}
	c.docs, c.at = append(c.docs, d), append(c.at, now)
	return nil
}

func (c *catcher) emits() map[string]Emit { return map[string]Emit{"catcher": c.emit} }

func (c *catcher) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// of returns the alerts whose process ran the file or whose rule has that name.
func (c *catcher) of(what string) []document {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []document
	for _, d := range c.docs {
		if d.Exe == what || d.Rule == what || d.Script == what {
			list = append(list, d)
		}
	}
	return list
}

// startSensor runs a sensor until the test ends, and waits until it watches.
func startSensor(t testing.TB, cfg Config, change ...func(*Sensor)) *Sensor {
	t.Helper()
	if cfg.Self == 0 {
		cfg.Self = -1
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the sensor did not end")
		}
	})
	t.Cleanup(stop)
	select {
	case <-s.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("the sensor ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the sensor does not watch")
	}
	return s
}

// needEvents skips where the kernel sends none.
func needEvents(t testing.TB) {
	t.Helper()
	agenttest.NeedRoot(t)
	if method, err := Probe(context.Background()); method != MethodEvents {
		t.Skipf("no process events here: %v", err)
	}
}

func noLimits(c Config) Config {
	c.Rate, c.RuleRate, c.Dedupe = Rate{PerSecond: -1}, Rate{PerSecond: -1}, -1
	return c
}

// script writes a program of the shell.
func script(t testing.TB, name, text string) string {
	t.Helper()
	return agenttest.WriteProgram(t, filepath.Join(t.TempDir(), name), []byte("#!/bin/sh\n"+text+"\n"))
}

// helperEnv tells this program to start that many children one after the other instead of running tests.
const helperEnv = "SENSOR_TEST_HELPER"

func TestMain(m *testing.M) {
	if n := os.Getenv(helperEnv); n != "" {
		spawn(n)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// spawn starts os.Args[1] so many times and writes every number.
func spawn(n string) {
	count, _ := strconv.Atoi(n)
	pause, _ := time.ParseDuration(os.Getenv(helperEnv + "_PAUSE"))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for range count {
		p, err := os.StartProcess(os.Args[1], os.Args[1:], &os.ProcAttr{Env: []string{}})
		if err != nil {
			panic(err)
		}
		began := time.Now()
		if _, err := p.Wait(); err != nil {
			panic(err)
		}
		fmt.Fprintf(out, "%d %d\n", p.Pid, time.Since(began).Microseconds())
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

func program(t testing.TB, name, as string) string {
	t.Helper()
	return agenttest.Program(t, name, as)
}

func parentProgram(t testing.TB, name string) string {
	t.Helper()
	return agenttest.CopyProgram(t, "/proc/self/exe", filepath.Join(t.TempDir(), name))
}

func TestNoChildIsMissedThatLivesHalfAMillisecond(t *testing.T) {
	needEvents(t)
	var c catcher
	cfg := noLimits(Config{Emit: c.emits()})
	s := startSensor(t, cfg)
	parent, child := parentProgram(t, "winword.exe"), program(t, "true", "powershell.exe")
	const children = 1000
	cmd := exec.Command(parent, child)
	cmd.Env = []string{helperEnv + "=" + strconv.Itoa(children)}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]bool{}
	var lives []int
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pid, _ := strconv.Atoi(f[0])
		us, _ := strconv.Atoi(f[1])
		want[pid] = true
		lives = append(lives, us)
	}
	if len(lives) != children {
		t.Fatalf("%d children, want %d", len(lives), children)
	}
	missed := func() int {
		seen := map[int]bool{}
		for _, d := range c.of("office-starts-shell") {
			if d.PPID == cmd.Process.Pid {
				seen[d.PID] = true
			}
		}
		n := 0
		for pid := range want {
			if !seen[pid] {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(20 * time.Second); missed() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := missed(); n != 0 {
		t.Errorf("%d of %d children were missed", n, children)
	}
	named := 0
	for _, d := range c.of("office-starts-shell") {
		if d.Exe == child {
			named++
		}
		if d.ParentExe != parent || d.Exited == (d.ActionablePID != 0) {
			t.Fatalf("alert %+v: want parent %s, and a pid to act on only while the process lives", d, parent)
		}
	}
	st := s.Status()
	t.Logf("median life %d µs, %d of %d named, status %+v", median(lives), named, children, st)
	if st.Method != MethodEvents || st.Lost != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestLargeImagesDelayNoAlertBehindThem(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 2<<30); err != nil { // it has no blocks, but takes long to hash
		t.Fatal(err)
	}
	const many = 50
	for i := range many {
		// Each has a new time of change, so that none is known.
		if err := os.Chmod(name, os.FileMode(0o600+i%2)); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		s.handOver(sighting{document: document{Title: strconv.Itoa(i)}, file: f, opened: time.Now()})
	}
	began := time.Now()
	close(s.sightings)
	s.finishAll(t.Context())
	if took := time.Since(began); took > many*digestTime/4 {
		t.Errorf("%d alerts took %s, want little more than %s", many, took, digestTime)
	}
	if n := s.Status().Waiting; n != many {
		t.Errorf("%d alerts, want %d", n, many)
	}
}

func median(list []int) int {
	sorted := append([]int(nil), list...)
	for i := range sorted {
		for j := i; j > 0 && sorted[j] < sorted[j-1]; j-- {
			sorted[j], sorted[j-1] = sorted[j-1], sorted[j]
		}
	}
	return sorted[len(sorted)/2]
}
