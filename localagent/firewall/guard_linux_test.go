package firewall

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

const nft = "/usr/sbin/nft"

// ruleset returns what nft shows of the namespace.
func ruleset(t testing.TB) string {
	t.Helper()
	return run(t, "list", "ruleset")
}

func run(t testing.TB, args ...string) string {
	t.Helper()
	if _, err := os.Stat(nft); err != nil {
		t.Skip("this test needs nft")
	}
	out, err := exec.Command(nft, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// alarms collects what Tampered is told.
type alarms struct {
	mu   sync.Mutex
	said []string
}

func (a *alarms) add(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = append(a.said, what)
}

func (a *alarms) has(text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(strings.Join(a.said, "\n"), text)
}

// start runs Run until the returned function is called, which the end of the test does as well.
func start(t testing.TB, w *Firewall) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	agenttest.Eventually(t, "Run watches", func() bool {
		w.isolation.Lock()
		defer w.isolation.Unlock()
		return w.guarding
	})
	return stop
}

// bootedAt is the uptime of a machine that was started then.
func bootedAt(start time.Time) func() (string, time.Duration) {
	return func() (string, time.Duration) { return "boot of " + start.String(), time.Since(start) }
}

func loud() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestAStrangersFlushDoesNotEndAnOwnedIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	var told alarms
	w := newWall(t, func(cfg *Config) { cfg.Tampered = told.add; cfg.Logger = loud() })
	stop := start(t, w)
	isolate(t, w, Isolation{For: time.Minute})
	if !isolated(t, w).Owned {
		if !w.platform.unownable {
			t.Fatal("the table has no owner although the kernel knows them")
		}
		t.Skip("this kernel knows no table owners")
	}
	run(t, "flush", "ruleset")
	refused(t, theirs.Addr().String())
	if out, err := exec.Command(nft, "delete", "table", "inet", isolationTable).CombinedOutput(); err == nil {
		t.Errorf("a stranger could delete the table: %s", out)
	}
	if told.has("") && len(told.said) > 0 {
		t.Errorf("alarms: %q", told.said)
	}
	stop()
	refused(t, theirs.Addr().String())
	if st := isolated(t, w); !st.On || st.Owned {
		t.Errorf("after Run has ended: %+v", st)
	}
	// The way out when nothing else works: end the agent, then delete the table.
	run(t, "delete", "table", "inet", isolationTable)
	_ = mustDial(t, nil, theirs.Addr().String())
}

func TestAStrangersFlushIsUndoneAndReportedWithoutOwner(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	for name, damage := range map[string][]string{
		"everything flushed":  {"flush", "ruleset"},
		"a chain emptied":     {"flush", "chain", "inet", isolationTable, "output"},
		"the timer cut short": {"delete", "element", "inet", isolationTable, armedSet, "{ ipv4 }"},
		"a hole":              {"insert", "rule", "inet", isolationTable, "output_body", "accept"},
	} {
		t.Run(name, func(t *testing.T) {
			var told alarms
			w := newWall(t, func(cfg *Config) { cfg.Tampered = told.add })
			w.platform.unownable = true
			stop := start(t, w)
			isolate(t, w, Isolation{For: time.Minute})
			run(t, damage...)
			agenttest.Eventually(t, "the isolation is back", func() bool { return told.has("put back") })
			refused(t, theirs.Addr().String())
			if st := isolated(t, w); !st.On || !st.Intact || time.Until(st.Until) < 30*time.Second {
				t.Errorf("state = %+v", st)
			}
			stop()
			release(t, w, "released")
		})
	}
}

func TestF40ARestartedAgentIsolatesForTheTimeThatIsLeft(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	kept := mustListen(t, &f, far4)
	dir := t.TempDir()
	config := func(cfg *Config) {
		cfg.State = dir
		cfg.Needs = []Peer{{Host: "ksc.test", Ports: portOf(kept)}}
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(far4)}, nil
		}
	}
	isolate(t, newWall(t, config), Isolation{For: time.Hour, OrderID: "o7", Who: "tester", Reason: "a test"})
	// A reboot loses every rule, and early at boot no name can be resolved.
	run(t, "flush", "ruleset")
	w := newWall(t, config, func(cfg *Config) {
		cfg.Now = func() time.Time { return time.Now().Add(20 * time.Minute) }
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no network yet") }
	})
	w.uptime = bootedAt(time.Now())
	start(t, w)
	agenttest.Eventually(t, "armed again", func() bool { return isolated(t, w).On })
	refused(t, theirs.Addr().String())
	_ = mustDial(t, nil, kept.Addr().String())
	st := isolated(t, w)
	left := st.Until.Sub(time.Now().Add(20 * time.Minute))
	if left < 39*time.Minute || left > 40*time.Minute || st.OrderID != "o7" || st.Who != "tester" || st.Reason != "a test" {
		t.Errorf("state = %+v, %s left, want 40 min of order o7", st, left)
	}
}

func TestAnIsolationWhoseTimeIsOverIsNotArmedAgain(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	dir := t.TempDir()
	isolate(t, newWall(t, func(cfg *Config) { cfg.State = dir }), Isolation{For: time.Hour})
	w := newWall(t, func(cfg *Config) { cfg.State = dir })
	// The machine slept: the kernel's timer has 1 h left, the time since the boot says it is over.
	w.uptime = func() (string, time.Duration) {
		boot, up := systemUptime()
		return boot, up + 2*time.Hour
	}
	start(t, w)
	agenttest.Eventually(t, "the isolation is ended", func() bool { return !isolated(t, w).On })
	if out := ruleset(t); out != "" {
		t.Errorf("left behind:\n%s", out)
	}
}

func TestADamagedRecordLeavesTheIsolationToTheKernelsTimer(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	for name, damage := range map[string]func(file string) error{
		"torn":            func(file string) error { return os.Truncate(file, 40) },
		"empty":           func(file string) error { return os.Truncate(file, 0) },
		"edited":          edit("o1", "o9"),
		"written by all":  func(file string) error { return os.Chmod(file, 0o666) },
		"somebody else's": func(file string) error { return os.Chown(file, 1000, 1000) },
		"of another world": func(file string) error {
			return os.WriteFile(file, []byte(`{"sha256":"","isolation":{"version":9}}`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			config := func(cfg *Config) { cfg.State = dir }
			isolate(t, newWall(t, config), Isolation{For: 2 * time.Second})
			if err := damage(filepath.Join(dir, recordName)); err != nil {
				t.Fatal(err)
			}
			w := newWall(t, config)
			stop := start(t, w)
			refused(t, theirs.Addr().String())
			if st := isolated(t, w); !st.On || !strings.Contains(st.Trouble, "damaged") {
				t.Errorf("state = %+v, want on with trouble", st)
			}
			agenttest.Eventually(t, "the kernel ends it", func() bool { return !isolated(t, w).On })
			_ = mustDial(t, nil, theirs.Addr().String())
			stop()
			isolate(t, w, Isolation{For: time.Minute})
			if st := isolated(t, newWall(t, config)); st.Trouble != "" || st.OrderID != "o1" {
				t.Errorf("after isolating anew: %+v", st)
			}
			release(t, w, "released")
		})
	}
}

func edit(old, with string) func(string) error {
	return func(file string) error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(file, bytes.ReplaceAll(b, []byte(old), []byte(with)), 0o600)
	}
}

func TestRunWritesARemovedRecordAgainAndReportsIt(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	dir := t.TempDir()
	var told alarms
	w := newWall(t, func(cfg *Config) { cfg.State = dir; cfg.Tampered = told.add })
	start(t, w)
	isolate(t, w, Isolation{For: time.Hour})
	if err := os.Remove(filepath.Join(dir, recordName)); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the record is back", func() bool { return told.has("removed") })
	if r, err := w.loadRecord(); err != nil || !r.live() {
		t.Errorf("record = %+v, %v", r, err)
	}
}

func TestAnotherProcessMayReleaseWhatARunningAgentOwns(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	dir := t.TempDir()
	config := func(cfg *Config) { cfg.State = dir }
	agent, other := newWall(t, config), newWall(t, config)
	start(t, agent)
	isolate(t, other, Isolation{For: time.Hour})
	agenttest.Eventually(t, "the agent takes it over", func() bool { return isolated(t, agent).Owned })
	isolate(t, other, Isolation{For: 3 * time.Hour}, "isolated already")
	if err := other.Extend(t.Context(), time.Now().Add(5*time.Hour)); err != nil {
		t.Error(err)
	}
	if left := time.Until(isolated(t, other).Until); left < 4*time.Hour {
		t.Errorf("%s left, want 5 h", left)
	}
	release(t, other, "released")
	_ = mustDial(t, nil, theirs.Addr().String())
	if out := ruleset(t); out != "" {
		t.Errorf("left behind:\n%s", out)
	}
}

// childEnv makes the test program isolate and wait to be killed.
const childEnv = "FIREWALL_TEST_ISOLATES"

func TestF40AKilledAgentsIsolationEndsOnTime(t *testing.T) {
	if d, err := time.ParseDuration(os.Getenv(childEnv)); err == nil {
		w := newWall(t)
		start(t, w)
		isolate(t, w, Isolation{For: d})
		if !isolated(t, w).On {
			t.Fatal("not isolated")
		}
		_, _ = os.Stderr.WriteString("isolated\n")
		select {}
	}
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childEnv+"=3s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	must(t, err)
	begin := time.Now()
	must(t, cmd.Start())
	if _, err := io.ReadFull(out, make([]byte, len("isolated\n"))); err != nil {
		t.Fatalf("the child did not isolate: %v", err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	refused(t, theirs.Addr().String())
	var c net.Conn
	agenttest.Eventually(t, "the network is back", func() bool {
		c, err = net.DialTimeout("tcp", theirs.Addr().String(), time.Second)
		return err == nil
	})
	_ = c.Close()
	if took := time.Since(begin); took < 2500*time.Millisecond {
		t.Errorf("back after %s: the agent's death ended the isolation", took)
	} else {
		t.Logf("back %s after the agent began to isolate for 3 s", took)
	}
}
