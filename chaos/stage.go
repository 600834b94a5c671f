package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	streamName = "alerts"
	startPause = 20 * time.Millisecond
	stopWithin = 20 * time.Second
)

// stage is the world a bridge runs in: its settings and state, a Redis and a mock KSC of its own.
type stage struct {
	dir, bin string
	redis    *exec.Cmd
	ksc      *ksctest.Server
	pub      *redisbus.Publisher
}

// build makes the program that is tested.
func build(ctx context.Context, dir string, tags string) (string, error) {
	bin := filepath.Join(dir, "edr-bridge")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-o", bin, "./cmd/edr-bridge")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	return bin, nil
}

// newStage starts Redis and the mock and writes the settings; kscSettings, rest and rules are YAML. The caller closes it.
func newStage(ctx context.Context, dir, bin string, mock ksctest.Config, kscSettings, rest, rules string) (s *stage, err error) {
	s = &stage{dir: dir, bin: bin}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := os.MkdirAll(filepath.Join(dir, "credentials"), 0o700); err != nil {
		return s, err
	}
	if err := s.startRedis(ctx); err != nil {
		return s, err
	}
	mock.Accounts = []ksctest.Account{{User: "lab", Password: "lab"}}
	if s.ksc, err = ksctest.New(mock); err != nil {
		return s, err
	}
	if err := s.ksc.Start(ctx); err != nil {
		return s, err
	}
	s.pub, err = redisbus.NewPublisher(redisbus.PublisherConfig{Options: redisbus.Options{Addresses: []string{"unix://" + s.socket()}}})
	if err != nil {
		return s, err
	}
	return s, s.write(kscSettings, rest, rules)
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
}

func (s *stage) socket() string { return filepath.Join(s.dir, "redis.sock") }

func (s *stage) state() string { return filepath.Join(s.dir, "state") }

func (s *stage) startRedis(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "redis-server", "--port", "0", "--unixsocket", s.socket(), "--save", "", "--dir", s.dir)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server (install it: apt-get install redis-server): %w", err)
	}
	s.redis = cmd
	for range 250 {
		if _, err := os.Stat(s.socket()); err == nil {
			return nil
		}
		time.Sleep(startPause)
	}
	return errors.New("redis-server did not open its socket")
}

func (s *stage) write(kscSettings, rest, rules string) error {
	settings := fmt.Sprintf(`version: 1
mode: enforce
sources:
  bus: {type: redis-stream, address: "unix://%s", stream: %s, group: edr-bridge, consumer: chaos, preset: generic}
ksc: {address: %q, ca: klserver.cer, user: lab, %s}
local: {enabled: false, state: state}
rules: [rules.yaml]
log: {level: warn}
%s`, s.socket(), streamName, s.ksc.Addr(), kscSettings, rest)
	for name, data := range map[string]string{
		"edr-bridge.yaml":          settings,
		"rules.yaml":               "rules:\n" + rules,
		"klserver.cer":             string(s.ksc.CertPEM()),
		"credentials/ksc-password": "lab",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(data), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// command is a call of the program under test with the settings of the stage.
func (s *stage) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.bin, append(args, "-c", filepath.Join(s.dir, "edr-bridge.yaml"))...)
	cmd.Env = append(os.Environ(), "CREDENTIALS_DIRECTORY="+filepath.Join(s.dir, "credentials"))
	return cmd
}

// open opens the store of the stage to look at it, while the bridge runs or after it.
func (s *stage) open(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, store.Config{Dir: s.state(), Owner: store.OwnerSend})
}

// running is a bridge that was started.
type running struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of its end; read it after ended was closed
}

// run starts a bridge; crash is the value of EDR_BRIDGE_CRASH, empty for none.
func (s *stage) run(ctx context.Context, crash string) (*running, error) {
	log, err := os.OpenFile(filepath.Join(s.dir, "bridge.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	r := &running{cmd: s.command(ctx, "run"), ended: make(chan struct{})}
	r.cmd.Env = append(r.cmd.Env, "EDR_BRIDGE_CRASH="+crash)
	r.cmd.Stderr = log
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { r.err = r.cmd.Wait(); close(r.ended) }()
	return r, nil
}

// wait waits for the end of the bridge and reports whether it came within the time.
func (r *running) wait(ctx context.Context, within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-r.ended:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// kill ends the bridge by SIGKILL.
func (r *running) kill() {
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// killed reports whether the bridge that has ended died of SIGKILL, its own or ours.
func (r *running) killed() bool {
	status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// stop ends the bridge by SIGTERM, as an operator does.
func (r *running) stop(ctx context.Context) error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the bridge: %w", err)
	}
	if !r.wait(ctx, stopWithin) {
		r.kill()
		return fmt.Errorf("the bridge did not stop within %s", stopWithin)
	}
	if r.err != nil {
		return fmt.Errorf("the bridge did not end cleanly: %w", r.err)
	}
	return nil
}
