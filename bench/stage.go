package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

// stage is what all measurements stand on: the two programs, Redis and the mock KSC.
type stage struct {
	dir, bridge, call, bare, socket string
	redis                           *exec.Cmd
	ksc                             *ksctest.Server
	pub                             *redisbus.Publisher
	// onIncident is called for each stored incident.
	onIncident atomic.Pointer[func(ksctest.Incident)]
}

func newStage(ctx context.Context) (s *stage, err error) {
	s = &stage{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "edr-bridge-bench-"); err != nil {
		return s, err
	}
	s.bridge, s.call = filepath.Join(s.dir, "edr-bridge"), filepath.Join(s.dir, "edr-bridge-call")
	s.bare, s.socket = filepath.Join(s.dir, "bare"), filepath.Join(s.dir, "redis.sock")
	for out, pkg := range map[string]string{s.bridge: "./cmd/edr-bridge", s.call: "./cmd/edr-bridge-call", s.bare: "./bench/bare"} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return s, fmt.Errorf("build %s: %w", pkg, err)
		}
	}
	if err := s.startRedis(ctx); err != nil {
		return s, err
	}
	if err := s.startKSC(ctx, 0); err != nil {
		return s, err
	}
	s.pub, err = redisbus.NewPublisher(redisbus.PublisherConfig{Options: redisbus.Options{Addresses: []string{"unix://" + s.socket}}})
	return s, err
}

func (s *stage) close() {
	if s.pub != nil {
		_ = s.pub.Close()
	}
	if s.ksc != nil {
		s.ksc.Close()
	}
	if s.redis != nil {
		_ = s.redis.Process.Kill()
		_ = s.redis.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *stage) startRedis(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "redis-server", "--port", "0", "--unixsocket", s.socket, "--save", "", "--dir", s.dir)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server (apt-get install redis-server): %w", err)
	}
	s.redis = cmd
	for range 200 {
		if _, err := os.Stat(s.socket); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("redis-server did not open its socket")
}

// startKSC starts a fresh mock; an earlier one is closed.
func (s *stage) startKSC(ctx context.Context, latency time.Duration) (err error) {
	if s.ksc != nil {
		s.ksc.Close()
	}
	s.ksc, err = ksctest.New(ksctest.Config{
		Accounts: []ksctest.Account{{User: "lab", Password: "lab"}}, LenientHosts: true, KeepIncidents: 10_000, Latency: latency,
		OnIncident: func(i ksctest.Incident) {
			if f := s.onIncident.Load(); f != nil {
				(*f)(i)
			}
		},
	})
	if err != nil {
		return err
	}
	return s.ksc.Start(ctx)
}

// settings writes a settings directory for one contender and returns it.
func (s *stage) settings(name, source, rest, rules string) (string, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Join(dir, "credentials"), 0o700); err != nil {
		return "", err
	}
	for file, data := range map[string]string{
		"edr-bridge.yaml": fmt.Sprintf("version: 1\nmode: enforce\nsources:\n  bus: {%s, address: \"unix://%s\"}\n%s\nrules: [rules.yaml]\nlog: {level: warn}\n",
			source, s.socket, rest),
		"rules.yaml":               "rules:\n" + rules,
		"klserver.cer":             string(s.ksc.CertPEM()),
		"credentials/ksc-password": "lab",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (s *stage) kscSettings(inFlight int) string {
	return fmt.Sprintf("ksc: {address: %q, ca: klserver.cer, user: lab, in_flight: %d, tasks: {hold: 100000, per: host}}\nlimits: []\nlocal: {enabled: false, state: state}", s.ksc.Addr(), inFlight)
}

// contender is a running program.
type contender struct {
	cmd   *exec.Cmd
	ended chan struct{}
	mu    sync.Mutex // guards log
	log   strings.Builder
}

// start runs a program; when it prints a line with the word, it is ready.
func (s *stage) start(ctx context.Context, dir string, ready string, argv ...string) (*contender, error) {
	c := &contender{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), "CREDENTIALS_DIRECTORY="+filepath.Join(dir, "credentials"))
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stdout, c.cmd.Stderr = w, w
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	_ = w.Close()
	is := make(chan struct{})
	go func() {
		seen := false
		for lines := bufio.NewScanner(r); lines.Scan(); {
			c.mu.Lock()
			if c.log.Len() < 1<<16 {
				c.log.WriteString(lines.Text() + "\n")
			}
			c.mu.Unlock()
			if !seen && strings.Contains(lines.Text(), ready) {
				seen = true
				close(is)
			}
		}
		_ = r.Close()
	}()
	go func() { _ = c.cmd.Wait(); close(c.ended) }()
	if ready == "" {
		return c, nil
	}
	select {
	case <-is:
		return c, nil
	case <-c.ended:
	case <-time.After(20 * time.Second):
	}
	_ = c.stop()
	return nil, fmt.Errorf("%v did not become ready: %s", argv, c.output())
}

func (c *contender) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

func (c *contender) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
		return nil
	case <-time.After(15 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
		return errors.New("did not stop on SIGTERM")
	}
}

// peakRSS is the program's peak resident memory in MiB so far.
func (c *contender) peakRSS() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	var kib float64
	_, _ = fmt.Sscan(rest, &kib)
	return kib / 1024
}
