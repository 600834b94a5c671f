package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/edr-bridge/edr-bridge/configs"
)

const (
	patience = 20 * time.Second // for what happens within milliseconds on an idle machine
	lookEach = 5 * time.Millisecond
)

// commands are the words the scripts have besides testscript's own.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	table := map[string]func(*stage, *testscript.TestScript, []string) error{
		"exits": (*stage).exits, "spawn": (*stage).spawn, "await": (*stage).await, "signal": (*stage).signal, "ended": (*stage).ended,
		"until": (*stage).until, "json": (*stage).json, "save": (*stage).save, "capture": (*stage).capture, "secret": (*stage).secret, "expand": (*stage).expand,
		"settings": (*stage).settings, "mockksc": (*stage).mockKSC, "mockkuma": (*stage).mockKUMA, "redis": (*stage).useRedis, "victim": (*stage).useVictim, "sql": (*stage).sql,
		"samepost": (*stage).samePost, "oneline": (*stage).oneLine, "http": (*stage).get, "small": (*stage).small, "nobody": (*stage).nobody,
		"cut": (*stage).cut, "port": (*stage).port,
	}
	out := map[string]func(*testscript.TestScript, bool, []string){}
	for name, do := range table {
		out[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("%s takes no !", name)
			}
			st, ok := ts.Value(stageKey{}).(*stage)
			if !ok {
				ts.Fatalf("%s: there is no stage", name)
			}
			if err := do(st, ts, args); err != nil {
				ts.Fatalf("%s: %v", name, err)
			}
		}
	}
	return out
}

// exits CODE PROGRAM [ARG...] runs a program to its end and wants exactly that exit code.
func (s *stage) exits(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: exits CODE PROGRAM [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		got = ee.ExitCode()
	} else if err != nil {
		return err
	}
	if err := silent(ts); err != nil {
		return err
	}
	if strconv.Itoa(got) != args[0] {
		return fmt.Errorf("exit code %d, want %s", got, args[0])
	}
	return nil
}

// silent wants no secret in the output of the last program.
func silent(ts *testscript.TestScript) error {
	for _, stream := range []string{"stdout", "stderr"} {
		if leak := canaryIn(ts.ReadFile(stream)); leak != "" {
			return fmt.Errorf("%s shows %s", stream, leak)
		}
	}
	return nil
}

// child is a program that runs beside the script; its streams are the files NAME.stdout and NAME.stderr.
type child struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

// spawn NAME PROGRAM [ARG...] starts a program beside the script.
func (s *stage) spawn(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 || s.children[args[0]] != nil {
		return errors.New("usage: spawn NAME PROGRAM [ARG...], each name once")
	}
	path, err := exec.LookPath(args[1])
	if err != nil {
		return err
	}
	c := &child{cmd: exec.Command(path, args[2:]...), gone: make(chan struct{})}
	c.cmd.Dir, c.cmd.Env = s.work, s.environ(ts)
	stdout, err := os.Create(filepath.Join(s.work, args[0]+".stdout"))
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(s.work, args[0]+".stderr"))
	if err != nil {
		return err
	}
	defer stderr.Close()
	c.cmd.Stdout, c.cmd.Stderr = stdout, stderr
	if err := c.cmd.Start(); err != nil {
		return err
	}
	s.reap(c)
	if s.children == nil {
		s.children = map[string]*child{}
	}
	s.children[args[0]] = c
	return nil
}

// reap waits for the child; strike waits for reap.
func (s *stage) reap(c *child) {
	s.waiting.Go(func() {
		_ = c.cmd.Wait() // the exit code is in ProcessState
		close(c.gone)
	})
}

// environ is the environment of the script as far as the program reads it.
func (s *stage) environ(ts *testscript.TestScript) []string {
	names := slices.Collect(maps.Keys(s.env))
	for _, v := range configs.EnvVars() {
		names = append(names, v.Name)
	}
	slices.Sort(names)
	var env []string
	for _, name := range slices.Compact(names) {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// await [-within DURATION] FILE PATTERN waits until the file has a line that fits.
func (s *stage) await(ts *testscript.TestScript, args []string) error {
	limit := patience
	if len(args) == 4 && args[0] == "-within" {
		var err error
		if limit, err = time.ParseDuration(args[1]); err != nil {
			return err
		}
		args = args[2:]
	}
	if len(args) != 2 {
		return errors.New("usage: await [-within DURATION] FILE PATTERN")
	}
	want, err := regexp.Compile("(?m)" + args[1])
	if err != nil {
		return err
	}
	var text []byte
	return eventually(limit, func() error {
		if text, err = os.ReadFile(ts.MkAbs(args[0])); err != nil || want.Match(text) {
			return err
		}
		return fmt.Errorf("no line of %s fits %s:\n%s", args[0], args[1], text)
	})
}

// capture NAME FILE PATTERN puts what the group of the pattern fits into a variable.
func (s *stage) capture(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: capture NAME FILE PATTERN")
	}
	want, err := regexp.Compile("(?m)" + args[2])
	if err != nil {
		return err
	}
	found := want.FindStringSubmatch(ts.ReadFile(args[1]))
	if len(found) != 2 {
		return fmt.Errorf("%s does not fit %s with one group", args[1], args[2])
	}
	ts.Setenv(args[0], found[1])
	return nil
}

// until PATTERN PROGRAM [ARG...] runs a program again and again until its stdout fits.
func (s *stage) until(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: until PATTERN PROGRAM [ARG...]")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return err
	}
	return eventually(patience, func() error {
		if err := errors.Join(ts.Exec(args[1], args[2:]...), silent(ts)); err != nil {
			return err
		}
		if !want.MatchString(ts.ReadFile("stdout")) {
			return fmt.Errorf("stdout never fits %s", args[0])
		}
		return nil
	})
}

// eventually asks until look has no complaint any more, or returns the last one when the time is over.
func eventually(limit time.Duration, look func() error) error {
	tick := time.NewTicker(lookEach)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for {
		err := look()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}

// signal NAME INT|TERM|HUP|KILL sends a signal to a spawned program.
func (s *stage) signal(_ *testscript.TestScript, args []string) error {
	signals := map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": os.Kill}
	if len(args) != 2 || s.children[args[0]] == nil || signals[args[1]] == nil {
		return errors.New("usage: signal NAME INT|TERM|HUP|KILL")
	}
	return s.children[args[0]].cmd.Process.Signal(signals[args[1]])
}

// ended NAME CODE waits for a spawned program and wants exactly that exit code. Its name is free again.
func (s *stage) ended(_ *testscript.TestScript, args []string) error {
	if len(args) != 2 || s.children[args[0]] == nil {
		return errors.New("usage: ended NAME CODE")
	}
	c := s.children[args[0]]
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case <-c.gone:
	case <-deadline.C:
		return fmt.Errorf("%s still runs", args[0])
	}
	delete(s.children, args[0])
	if got := strconv.Itoa(c.cmd.ProcessState.ExitCode()); got != args[1] {
		return fmt.Errorf("exit code %s, want %s; stderr:\n%s", got, args[1], s.tail(args[0]))
	}
	return nil
}

func (s *stage) tail(name string) []byte {
	f, err := os.Open(filepath.Join(s.work, name+".stderr"))
	if err != nil {
		return nil
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 8<<10))
	return bytes.TrimSpace(text)
}
