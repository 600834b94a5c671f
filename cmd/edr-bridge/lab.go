package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	labHost = "8910f900-3807-4b97-8a97-d49e73ec5ab1"
	labWait = 20 * time.Second // for one act of the story
)

func (a *app) labCommand() *cobra.Command {
	var dryRun, keep bool
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "See the whole road in one terminal, nothing outside is touched",
		Long: `Run an embedded Redis, a mock KSC and the bridge with its local agent in one process, start a harmless child process as victim,
publish an alert about it and tell what happens: first with KSC, then with KSC stopped, when the local agent ends the
victim for real. Nothing but that child is touched and everything is gone at the end.`,
		Example: `  edr-bridge lab
  edr-bridge lab --dry-run
  edr-bridge lab --keep`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A reader that goes away (`lab | head`) must not end the lab before it has taken its victim down.
			signal.Ignore(syscall.SIGPIPE)
			l := &lab{app: a, dryRun: dryRun, keep: keep, story: &story{app: a, started: time.Now(), seen: make(chan bridge.Order, 64)}}
			return l.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "the local agent only says what it would do")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave everything running for `edr-bridge emit`, until Ctrl-C")
	return cmd
}

// lab is the stage of the story.
type lab struct {
	app          *app
	dryRun, keep bool
	story        *story
	dir          string
	redis        *miniredis.Miniredis
	ksc          *ksctest.Server
	victim       *exec.Cmd
	gone         chan struct{} // closed when the victim has ended
}

func (l *lab) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := l.build(ctx); err != nil {
		l.strike()
		return err
	}
	defer l.strike()
	w, err := l.open()
	if err != nil {
		return err
	}
	defer w.close()
	served := make(chan error, 1)
	go func() { served <- w.serve(ctx, func(st bridge.Store) bridge.Store { return &told{st, l.story} }) }()
	err = l.tell(ctx, served)
	if err == nil && l.keep {
		l.invite(ctx)
		<-ctx.Done()
	}
	cancel()
	if serr := <-served; serr != nil && err == nil {
		err = serr
	}
	return err
}

// build puts up Redis, KSC, victim and settings; strike takes down whatever stands.
func (l *lab) build(ctx context.Context) (err error) {
	if l.dir, err = os.MkdirTemp("", "edr-bridge-lab-"); err != nil {
		return err
	}
	if l.redis, err = miniredis.Run(); err != nil {
		return fmt.Errorf("start redis: %w", err)
	}
	name := identity().Names[0]
	l.ksc, err = ksctest.New(ksctest.Config{
		Accounts: []ksctest.Account{{User: mockAccount, Password: mockAccount}}, Hosts: []ksctest.Host{mockHost(labHost, name)},
		BackgroundConnection: true, TaskDelay: 50 * time.Millisecond,
		OnIncident: func(i ksctest.Incident) { l.story.tell("ksc", "incident %d for host %s", i.ID, i.Host) },
		OnTask:     func(t ksctest.Task) { l.story.tell("ksc", "console shows task %q: %s", t.Name, t.State) },
	})
	if err != nil {
		return err
	}
	if err := l.ksc.Start(ctx); err != nil {
		return fmt.Errorf("start mock KSC: %w", err)
	}
	if err := l.startVictim(ctx); err != nil {
		return err
	}
	return l.settings()
}

func (l *lab) strike() {
	if l.victim != nil {
		_ = l.victim.Process.Kill() // our own child, possibly gone
		<-l.gone
	}
	if l.ksc != nil {
		l.ksc.Close()
	}
	if l.redis != nil {
		l.redis.Close()
	}
	if l.dir != "" {
		if err := os.RemoveAll(l.dir); err != nil {
			l.app.say("%s could not be removed: %v", l.dir, err)
		}
	}
}

func (l *lab) startVictim(ctx context.Context) error {
	name, args := "sleep", []string{"600"}
	if runtime.GOOS == "windows" {
		name, args = "ping", []string{"-n", "600", "127.0.0.1"}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("the lab needs a harmless program as victim: %w", err)
	}
	// The victim must outlive a cancelled context until strike, so that it is always waited for.
	l.victim = exec.CommandContext(context.WithoutCancel(ctx), path, args...) //nolint:gosec // a fixed program
	if err := l.victim.Start(); err != nil {
		l.victim = nil
		return fmt.Errorf("start victim: %w", err)
	}
	l.gone = make(chan struct{})
	go func() { _ = l.victim.Wait(); close(l.gone) }()
	return nil
}

// labSettings and labRules are what a user would write; the lab reads them like any others.
const labSettings = `version: 1
mode: enforce
sources:
  lab: {type: redis-pubsub, address: %q, channel: high_severity_alerts, preset: python-edr}
ksc: {address: %q, ca: klserver.cer, user: lab, password: "secret:ksc/password", timeout: 2s, settle_time: 2s}
fallback: local
local: {enabled: true, dry_run: %t, state: state}
rules: [rules.yaml]
log: {level: error}
`

const labRules = `rules:
  - name: office-spawns-shell
    mode: enforce
    match: {level: [HIGH, CRITICAL], "title|contains": process chain}
    do:
      - {task: terminateProcess, subject: process}
    dedupe: {for: 0s}
`

func (l *lab) settings() error {
	credentials := filepath.Join(l.dir, "credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		return err
	}
	for name, data := range map[string]string{
		"edr-bridge.yaml":          fmt.Sprintf(labSettings, l.redis.Addr(), l.ksc.Addr(), l.dryRun),
		"rules.yaml":               labRules,
		"klserver.cer":             string(l.ksc.CertPEM()),
		"credentials/ksc-password": mockAccount,
	} {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(data), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// open wires a bridge from the lab's settings; the password comes the way systemd hands out credentials.
func (l *lab) open() (*wiring, error) {
	inner := *l.app
	inner.config = filepath.Join(l.dir, "edr-bridge.yaml")
	inner.env = func(name string) (string, bool) {
		if name == "CREDENTIALS_DIRECTORY" {
			return filepath.Join(l.dir, "credentials"), true
		}
		return "", false
	}
	return inner.openServing()
}

// tell plays the acts.
func (l *lab) tell(ctx context.Context, served <-chan error) error {
	s := l.story
	s.tell("lab", "Redis on %s, mock KSC on %s, victim: %s with pid %d", l.redis.Addr(), l.ksc.Addr(), filepath.Base(l.victim.Path), l.victim.Process.Pid)
	if err := l.awaitSubscriber(ctx, served); err != nil {
		return err
	}
	s.act("1. an alert with KSC: the bridge replaces the pid by path and hash and KSC gets a task")
	first, err := l.alert(ctx)
	if err != nil {
		return err
	}
	if first.State != bridge.StateAccepted {
		return fmt.Errorf("the order should have been accepted by KSC and is %s: %s", first.State, first.Detail)
	}
	if err := l.awaitTask(ctx); err != nil {
		return err
	}
	s.tell("note", "accepted is not done: the mock has no endpoints, pid %d still lives", l.victim.Process.Pid)
	s.act("2. the same alert with KSC stopped: nothing left this machine, the host is this machine, so the local agent acts")
	l.ksc.Down()
	s.tell("ksc", "stopped")
	second, err := l.alert(ctx)
	if err != nil {
		return err
	}
	return l.curtain(ctx, second)
}

func (l *lab) curtain(ctx context.Context, o bridge.Order) error {
	want := bridge.StateDone
	if l.dryRun {
		want = bridge.StateShadow
	}
	if o.State != want {
		return fmt.Errorf("the order should be %s and is %s: %s", want, o.State, o.Detail)
	}
	if !l.dryRun {
		select {
		case <-l.gone:
			l.story.tell("victim", "pid %d is gone: %s", l.victim.Process.Pid, l.victim.ProcessState)
		case <-time.After(labWait):
			return errors.New("the order is done and the victim lives")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !l.keep {
		l.story.tell("next", "`edr-bridge lab --keep` leaves it running for `edr-bridge emit`; README.md goes on with your own Redis and KSC")
	}
	return nil
}

func (l *lab) invite(ctx context.Context) {
	if err := l.ksc.Up(ctx); err == nil {
		l.story.tell("ksc", "started again")
	}
	l.story.tell("next", "in a second terminal: sleep 600 & edr-bridge emit office-shell --redis %s --pid $!   (Ctrl-C ends the lab)", l.redis.Addr())
}

// alert publishes the sample about the victim and waits until its order stands still.
func (l *lab) alert(ctx context.Context) (bridge.Order, error) {
	doc, err := json.Marshal(newOfficeShellAlert(l.victim.Process.Pid, time.Now()))
	if err != nil {
		return bridge.Order{}, err
	}
	pub, err := redisbus.NewPublisher(redisbus.PublisherConfig{Options: redisbus.Options{Addresses: []string{l.redis.Addr()}}})
	if err != nil {
		return bridge.Order{}, err
	}
	defer func() { _ = pub.Close() }()
	l.story.tell("alert", "published on high_severity_alerts: %s", doc)
	if _, err := pub.Publish(ctx, "high_severity_alerts", doc); err != nil {
		return bridge.Order{}, err
	}
	deadline := time.NewTimer(labWait)
	defer deadline.Stop()
	for {
		select {
		case o := <-l.story.seen:
			if !o.State.Pending() {
				return o, nil
			}
		case <-deadline.C:
			return bridge.Order{}, errors.New("nothing came of the alert")
		case <-ctx.Done():
			return bridge.Order{}, context.Cause(ctx)
		}
	}
}

func (l *lab) awaitSubscriber(ctx context.Context, served <-chan error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(labWait)
	for {
		select {
		case err := <-served:
			return fmt.Errorf("the bridge ended: %w", err)
		case <-deadline:
			return errors.New("the bridge does not listen")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if l.redis.PubSubNumSub("high_severity_alerts")["high_severity_alerts"] > 0 {
				l.story.tell("bridge", "listens on high_severity_alerts")
				return nil
			}
		}
	}
}

func (l *lab) awaitTask(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(labWait)
	for {
		select {
		case <-deadline:
			return errors.New("KSC made no task of the incident")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if tasks := l.ksc.Tasks(); len(tasks) > 0 && tasks[0].State == ksctest.StateOK {
				return nil
			}
		}
	}
}
