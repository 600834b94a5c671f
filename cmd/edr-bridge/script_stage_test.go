package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // the driver for sql

	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
	"github.com/edr-bridge/edr-bridge/kuma/kumatest"
)

// The hosts the mock KSC manages; the third one has a name of its own in two places.
const (
	hostThis  = "8910f900-3807-4b97-8a97-d49e73ec5ab1"
	hostWS014 = "1b0c7d4e-5a11-4f0e-9c55-0d5b8e2f7a14"
	hostWS015 = "1b0c7d4e-5a11-4f0e-9c55-0d5b8e2f7a15"
	hostDC01  = "5f2d9c1a-7b33-4f6f-8d20-6a1c4f0e9b01"
	hostTwin1 = "c1c1c1c1-0000-4000-8000-000000000001"
	hostTwin2 = "c1c1c1c1-0000-4000-8000-000000000002"
)

// stage is what a script plays on: the servers and processes it started.
type stage struct {
	work     string
	env      map[string]string
	ksc      *ksctest.Server
	tasks    taskPace
	recorder *recorder
	redis    *miniredis.Miniredis
	core     *kumatest.Server
	victim   *child
	children map[string]*child
	mounts   []string
	waiting  sync.WaitGroup
}

// strike ends whatever the script left running.
func (s *stage) strike() {
	for _, c := range s.children {
		_ = c.cmd.Process.Kill() // possibly gone
	}
	if s.victim != nil {
		_ = s.victim.cmd.Process.Kill()
	}
	s.waiting.Wait()
	s.unmount()
	if s.recorder != nil {
		s.recorder.Close()
	}
	if s.ksc != nil {
		s.ksc.Close()
	}
	if s.redis != nil {
		s.redis.Close()
	}
	if s.core != nil {
		s.core.Close()
	}
}

// taskPace is how the tasks of the mock KSC go on: the clock of the server, and how they end.
type taskPace struct {
	ahead  atomic.Int64 // nanoseconds
	failed atomic.Bool
}

func (p *taskPace) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

func (p *taskPace) outcome(ksctest.Task) (ksctest.HostState, string) {
	if p.failed.Load() {
		return ksctest.StateFailed, "The host said no"
	}
	return ksctest.StateOK, ""
}

// slowTask is how long each step of a task takes when the mock is started slow: until finish, none is ever done.
const slowTask = time.Hour

// mockKSC drives the mock KSC. start writes klserver.cer and sets $KSC; with slow its tasks stay unfinished until finish. refuse has tasks
// fail on their hosts. renew puts another certificate on the same address; record puts
// a recorder before the server, and posted writes the last request to AddIncident byte for byte.
func (s *stage) mockKSC(ts *testscript.TestScript, args []string) error {
	usage := errors.New("usage: mockksc start [slow]|finish|refuse|record|renew|stop|up|expire|fault KIND METHOD [stored] [count=N]|clear|incidents N|tasks N|logins N|asked METHOD|posted FILE")
	if len(args) == 0 || (s.ksc == nil) != (args[0] == "start") {
		return usage
	}
	switch verb, rest := args[0], args[1:]; {
	case verb == "start" && len(rest) == 0:
		return s.startKSC(ts, "", 0)
	case verb == "start" && len(rest) == 1 && rest[0] == "slow":
		return s.startKSC(ts, "", slowTask)
	case verb == "finish" && len(rest) == 0:
		s.tasks.ahead.Add(int64(4 * slowTask))
		s.ksc.Advance()
	case verb == "refuse" && len(rest) == 0:
		s.tasks.failed.Store(true)
	case verb == "record" && len(rest) == 0:
		return s.record(ts)
	case verb == "renew" && len(rest) == 0:
		s.ksc.Close()
		address := s.ksc.Addr()
		// A connection of another test may have the port for a moment.
		return eventually(patience, func() error { return s.startKSC(ts, address, 0) })
	case verb == "stop" && len(rest) == 0:
		s.ksc.Down()
	case verb == "up" && len(rest) == 0:
		return eventually(patience, func() error { return s.ksc.Up(context.Background()) })
	case verb == "expire" && len(rest) == 0:
		s.ksc.ExpireSessions()
	case verb == "clear" && len(rest) == 0:
		s.ksc.Faults().Clear()
	case verb == "fault" && len(rest) >= 2:
		return s.addFault(rest[0], rest[1], rest[2:])
	case verb == "incidents" && len(rest) == 1:
		return eventually(patience, func() error { return same("incidents", int(s.ksc.AddedIncidents()), rest[0]) })
	case verb == "tasks" && len(rest) == 1:
		return eventually(patience, func() error { return same("tasks", len(s.ksc.Tasks()), rest[0]) })
	case verb == "logins" && len(rest) == 1:
		return same("refused logins", int(s.ksc.FailedLogins()), rest[0])
	case verb == "asked" && len(rest) == 1:
		return eventually(patience, func() error {
			if s.ksc.Requests()[rest[0]] == 0 {
				return fmt.Errorf("nobody asked for %s", rest[0])
			}
			return nil
		})
	case verb == "posted" && len(rest) == 1:
		return s.writePosted(ts.MkAbs(rest[0]))
	default:
		return usage
	}
	return nil
}

func (s *stage) startKSC(ts *testscript.TestScript, address string, delay time.Duration) error {
	var err error
	s.ksc, err = ksctest.New(ksctest.Config{
		Address:              address,
		Accounts:             []ksctest.Account{{User: "svc-edr", Password: canaryPassword}},
		Hosts:                mockHosts(),
		BackgroundConnection: true, TaskDelay: delay, TaskOutcome: s.tasks.outcome, Now: s.tasks.now,
	})
	if err != nil {
		return err
	}
	if err := s.ksc.Start(context.Background()); err != nil {
		return err
	}
	ts.Setenv("KSC", s.ksc.Addr())
	if address != "" {
		return nil
	}
	return os.WriteFile(filepath.Join(s.work, "klserver.cer"), s.ksc.CertPEM(), 0o600)
}

// mockHosts are the hosts with names of their own and pc1 to pc8.
func mockHosts() []ksctest.Host {
	hosts := []ksctest.Host{
		mockHost(hostThis, identity().Names[0]), mockHost(hostWS014, "ws-014.corp.example"), mockHost(hostWS015, "ws-015.corp.example"), mockHost(hostDC01, "dc01.corp.example"),
		mockHost(hostTwin1, "twin.a.example"), mockHost(hostTwin2, "twin.b.example"),
	}
	for i := 1; i <= 8; i++ {
		hosts = append(hosts, mockHost(fmt.Sprintf("dddddddd-0000-4000-8000-%012d", i), fmt.Sprintf("pc%d.corp.example", i)))
	}
	return hosts
}

func (s *stage) addFault(kind, method string, options []string) error {
	f := ksctest.Fault{Method: method, Text: "No licence for the operation"}
	switch kind {
	case "reset":
		f.Kind = ksctest.FaultReset
	case "refuse":
		f.Kind = ksctest.FaultApplication
	case "unauthorized":
		f.Kind = ksctest.FaultUnauthorized
	case "slow":
		f.Kind, f.Delay = ksctest.FaultSlow, patience
	default:
		return fmt.Errorf("no fault %q", kind)
	}
	for _, o := range options {
		n, isCount := strings.CutPrefix(o, "count=")
		switch {
		case o == "stored":
			f.Stored = true
		case isCount:
			var err error
			if f.Count, err = strconv.Atoi(n); err != nil {
				return err
			}
		default:
			return fmt.Errorf("no option %q of a fault", o)
		}
	}
	_, err := s.ksc.Faults().Add(f)
	return err
}

func same(what string, got int, want string) error {
	if strconv.Itoa(got) != want {
		return fmt.Errorf("%d %s, want %s", got, what, want)
	}
	return nil
}

// useRedis start|stop|up|publish CHANNEL FILE|xadd STREAM FILE|listeners CHANNEL N|length STREAM N drives a Redis. start sets $REDIS.
func (s *stage) useRedis(ts *testscript.TestScript, args []string) error {
	usage := errors.New("usage: redis start|stop|up|publish CHANNEL FILE|xadd STREAM FILE|listeners CHANNEL N|length STREAM N")
	if len(args) == 0 || (s.redis == nil) != (args[0] == "start") {
		return usage
	}
	var err error
	switch verb, rest := args[0], args[1:]; {
	case verb == "start" && len(rest) == 0:
		if s.redis, err = miniredis.Run(); err == nil {
			ts.Setenv("REDIS", s.redis.Addr())
		}
	case verb == "stop" && len(rest) == 0:
		s.redis.Close()
	case verb == "up" && len(rest) == 0:
		err = s.redis.Restart()
	case verb == "publish" && len(rest) == 2:
		if s.redis.Publish(rest[0], ts.ReadFile(rest[1])) == 0 {
			err = fmt.Errorf("nobody listens on %s", rest[0])
		}
	case verb == "xadd" && len(rest) == 2:
		_, err = s.redis.XAdd(rest[0], "*", []string{"alert", ts.ReadFile(rest[1])})
	case verb == "listeners" && len(rest) == 2:
		err = eventually(patience, func() error { return same("listeners", s.redis.PubSubNumSub(rest[0])[rest[0]], rest[1]) })
	case verb == "length" && len(rest) == 2:
		err = eventually(patience, func() error {
			entries, err := s.redis.Stream(rest[0])
			if err != nil && !errors.Is(err, miniredis.ErrKeyNotFound) {
				return err
			}
			return same("entries", len(entries), rest[1])
		})
	default:
		return usage
	}
	return err
}

// useVictim start|alive|dead drives a harmless child of the test. start sets $VICTIM to its process id.
func (s *stage) useVictim(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 || (s.victim == nil) != (args[0] == "start") {
		return errors.New("usage: victim start, then victim alive|dead")
	}
	switch args[0] {
	case "start":
		c := &child{cmd: exec.Command("sleep", "600"), gone: make(chan struct{})}
		if err := c.cmd.Start(); err != nil {
			return err
		}
		s.victim = c
		s.reap(c)
		ts.Setenv("VICTIM", strconv.Itoa(c.cmd.Process.Pid))
		return nil
	case "alive":
		select {
		case <-s.victim.gone:
			return fmt.Errorf("the victim has ended: %s", s.victim.cmd.ProcessState)
		default:
			return nil
		}
	case "dead":
		return eventually(patience, func() error {
			select {
			case <-s.victim.gone:
				return nil
			default:
				return errors.New("the victim lives")
			}
		})
	default:
		return fmt.Errorf("a victim is not %q", args[0])
	}
}

// sql FILE STATEMENT changes a database as somebody with write access to the file would.
func (s *stage) sql(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: sql FILE STATEMENT")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	if err != nil {
		return err
	}
	res, err := db.Exec(args[1])
	if err == nil {
		var n int64
		if n, err = res.RowsAffected(); err == nil && n == 0 {
			err = errors.New("the statement changed nothing")
		}
	}
	return errors.Join(err, db.Close())
}

// expand FILE... replaces $NAME in files by variables of the script; $NOW is the time as a detector without zone writes it.
func (s *stage) expand(ts *testscript.TestScript, args []string) error {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), func(key string) string {
			if key == "NOW" {
				return time.Now().Format("2006-01-02T15:04:05.000000")
			}
			return ts.Getenv(key)
		})
		if err := os.WriteFile(ts.MkAbs(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
