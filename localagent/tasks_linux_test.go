package localagent

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/ioc"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
)

// run starts Run of a resident agent and ends it with the test, or when stop is called.
func run(t *testing.T, a *Agent) (stop func()) {
	t.Helper()
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// shell is the shell of the system by its own name: startProcess follows no links.
func shell(t *testing.T) string {
	t.Helper()
	path, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// settle waits until the agent tells the end of an accepted order.
func settle(t *testing.T, a *Agent, o bridge.Order) bridge.Progress {
	t.Helper()
	var last bridge.Progress
	agenttest.Eventually(t, "the end of "+o.ID, func() bool {
		told, err := a.Follow(t.Context(), []bridge.Order{o})
		if err != nil {
			t.Fatalf("follow: %v", err)
		}
		if len(told) == 1 {
			last = told[0]
		}
		return last.State == bridge.StateDone || last.State == bridge.StateFailed
	})
	return last
}

func TestResidentAgentAcceptsProgramsAndTellsTheirEnd(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	a := newAgent(t, func(c *Config) { c.Resident = true })
	o := order(bridge.StartProcess{ExecutablePath: shell(t), Arguments: `-c "exit 3"`})
	r, err := a.Execute(t.Context(), o)
	if err != nil || r.State != bridge.StateAccepted || r.Ref != o.ID || !strings.Contains(r.Detail, "started pid") {
		t.Fatalf("receipt %+v, %v, want accepted with the pid", r, err)
	}
	if p := settle(t, a, o); p.State != bridge.StateDone || !strings.Contains(p.Detail, "exit code 3") {
		t.Errorf("ended as %+v, want done with its exit code", p)
	}
	again, err := a.Execute(t.Context(), o)
	if err != nil || again.State != bridge.StateDone || !strings.Contains(again.Detail, "exit code 3") {
		t.Errorf("the same order again: %+v, %v, want what became of it", again, err)
	}
}

func TestProgramOutlivesTheAgentAndIsFoundAgain(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir := t.TempDir()
	flag := filepath.Join(dir, "go")
	resident := func(c *Config) { c.Resident, c.State = true, filepath.Join(dir, "state") }
	a := newAgent(t, resident)
	o := order(bridge.StartProcess{ExecutablePath: shell(t), Arguments: `-c "while [ ! -e ` + flag + ` ]; do sleep 0.05; done; exit 4"`})
	if _, err := a.Execute(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b := newAgent(t, resident)
	if err := b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told, err := b.Follow(t.Context(), []bridge.Order{o}); err != nil || len(told) != 1 || told[0].State != bridge.StateRunning {
		t.Errorf("after the restart: %+v, %v, want running", told, err)
	}
	write(t, flag, "")
	if p := settle(t, b, o); p.State != bridge.StateDone {
		t.Errorf("ended as %+v, want done", p)
	}
}

func TestCancelledProgramIsEnded(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	a := newAgent(t, func(c *Config) { c.Resident = true })
	image := agenttest.Program(t, "sleep", "long")
	if err := os.Chmod(filepath.Dir(image), 0o755); err != nil {
		t.Fatal(err)
	}
	o := order(bridge.StartProcess{ExecutablePath: image, Arguments: "3600"})
	if _, err := a.Execute(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := a.CancelJob(o.ID); err != nil {
		t.Fatal(err)
	}
	if p := settle(t, a, o); p.State != bridge.StateFailed || !strings.Contains(p.Detail, "cancelled") {
		t.Errorf("ended as %+v, want cancelled", p)
	}
	done(t, a, order(bridge.TerminateProcess{Path: image}), "no process matched")
}

func TestFindingsOfAScanAreTakenAwayWhenTheSettingsSaySo(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "eicar.com")
	write(t, bad, `X5O!P%@AP[4\PZX54(P^)7CC)7}`+`$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`)
	write(t, filepath.Join(dir, "good"), "good")
	scan := bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Type: bridge.ScanFolder, Path: dir, Recursive: true}}}
	for _, take := range []bool{false, true} {
		a := newAgent(t, func(c *Config) { c.QuarantineFindings, c.Scan.Clamd = take, "" })
		r, err := a.Execute(t.Context(), order(scan))
		if err != nil || r.State != bridge.StateDone {
			t.Fatalf("scan: %+v, %v", r, err)
		}
		_, err = os.Stat(bad)
		if gone := errors.Is(err, os.ErrNotExist); gone != take {
			t.Errorf("taken away: %v, want %v (%s)", gone, take, r.Detail)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "good")); err != nil {
		t.Errorf("a clean file: %v", err)
	}
}

// indicator is an OpenIOC document that looks for a file by its digest, in an archive as the task carries it.
func indicator(t *testing.T, sha256 string) string {
	t.Helper()
	return archived(t, `<IndicatorItem id="t" condition="is"><Context document="FileItem" search="FileItem/Sha256sum" type="mir"/>
<Content type="string">`+sha256+`</Content></IndicatorItem>`)
}

// archived is an archive with one OpenIOC document that has the term.
func archived(t *testing.T, term string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("a.ioc")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(`<?xml version="1.0" encoding="utf-8"?>
<ioc xmlns="http://schemas.mandiant.com/2010/ioc" id="6d2a1b03-b216-4cd8-9a9e-8827af6ebf93"><short_description>a lab file</short_description>
<definition><Indicator operator="OR" id="i">` + term + `</Indicator></definition></ioc>`))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func TestWhatAnIOCScanFindsIsTakenAwayAndTheMachineIsolatedOnlyWhenAllowed(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	write(t, bad, "lab malware "+dir)
	_, sum := digestsOf(t, bad)
	a := newAgent(t, func(c *Config) { c.IOC = ioc.Config{Scope: ioc.ScopeCustom, Roots: []string{dir}} })
	r, err := a.Execute(t.Context(), order(bridge.IOCScan{IOC: indicator(t, sum), QuarantineObject: true, IsolateHost: true}))
	if err != nil || r.State != bridge.StateDone {
		t.Fatalf("scan: %+v, %v", r, err)
	}
	for _, want := range []string{"1 of 1 documents match", "a lab file", "not isolated: tests do this in namespaces"} {
		if !strings.Contains(r.Detail, want) {
			t.Errorf("receipt %q does not say %q", r.Detail, want)
		}
	}
	if _, err := os.Stat(bad); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v (%s)", err, r.Detail)
	}
	items, err := a.Vault().List(t.Context())
	if err != nil || len(items) != 1 || items[0].SHA256 != sum {
		t.Errorf("quarantine holds %v, %v", items, err)
	}
}

func TestAgentIsolatesForTheLeaseAndReleases(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	a := newAgent(t)
	o := order(bridge.IsolateHost{Action: bridge.IsolationOn})
	o.For, o.Rule = time.Minute, "office"
	done(t, a, o, "isolated")
	st, err := a.Isolated(t.Context())
	if err != nil || !st.On || st.Permanent || st.Who != "rule office" || time.Until(st.Until) > 2*time.Minute {
		t.Fatalf("isolated as %+v, %v", st, err)
	}
	if on, err := a.KeepIsolated(t.Context(), time.Now().Add(time.Hour)); err != nil || !on {
		t.Fatal(on, err)
	}
	if st, err = a.Isolated(t.Context()); err != nil || time.Until(st.Until) < 50*time.Minute {
		t.Errorf("a longer lease: until %s, %v", st.Until, err)
	}
	done(t, a, order(bridge.IsolateHost{Action: bridge.IsolationOff}), "")
	if st, err = a.Isolated(t.Context()); err != nil || st.On {
		t.Errorf("released, and it is %+v, %v", st, err)
	}
	done(t, a, order(bridge.IsolateHost{Action: bridge.IsolationOff}), "not isolated")
	for _, until := range []time.Time{time.Now().Add(time.Hour), {}} {
		if on, err := a.KeepIsolated(t.Context(), until); err != nil || on {
			t.Errorf("a lease of a machine that was released: on %v, %v", on, err)
		}
	}
	o = order(bridge.IsolateHost{Action: bridge.IsolationOn})
	o.For = time.Minute
	done(t, a, o, "isolated")
	if on, err := a.KeepIsolated(t.Context(), time.Time{}); err != nil || !on {
		t.Errorf("a lease without an end: on %v, %v", on, err)
	}
	if st, err = a.Isolated(t.Context()); err != nil || !st.Permanent {
		t.Errorf("a lease without an end left %+v, %v", st, err)
	}
	done(t, a, order(bridge.IsolateHost{Action: bridge.IsolationOff}), "")
	o = order(bridge.IsolateHost{Action: bridge.IsolationOn})
	o.For = -1
	done(t, a, o, "")
	if st, err = a.Isolated(t.Context()); err != nil || !st.On || !st.Permanent {
		t.Errorf("permanent: %+v, %v", st, err)
	}
	if r, err := a.Release(t.Context()); err != nil || r.State != bridge.StateDone {
		t.Errorf("release by hand: %+v, %v", r, err)
	}
}

// watchedEnv names the only file system a listener of these tests may watch.
const watchedEnv = "LOCALAGENT_TEST_WATCHED"

// watching is the settings of an agent whose guard watches one mount point and nothing else, and of its listener.
func watching(c *Config, mount string) {
	c.Prevention = prevention.Config{
		Mode: prevention.Block, Listener: []string{"/proc/self/exe", "listen-executions"}, Disable: filepath.Join(filepath.Dir(mount), "disable"),
		Mounts: func(m prevention.Mount) bool { return m.Point == mount },
	}
}

func TestExecutionsArePreventedFromTheFirstRuleOnUntilItIsRemoved(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	mount := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	state := t.TempDir()
	t.Setenv(helperEnv, "listen-executions")
	t.Setenv(watchedEnv, mount+"\n"+state)
	name, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	image, copied := agenttest.CopyProgram(t, name, filepath.Join(mount, "evil")), agenttest.CopyProgram(t, name, filepath.Join(mount, "good"))
	// Through a shell that stays: what the agent starts itself is never denied.
	try := func(path string) error {
		cmd := exec.Command("/bin/sh", "-c", `"$0"; exit $?`, path)
		cmd.Env = []string{}
		return cmd.Run()
	}
	forbidden := func(when string, err error) {
		t.Helper()
		if ee, ok := errors.AsType[*exec.ExitError](err); !ok || ee.ExitCode() != 126 {
			t.Errorf("%s: %v, want 126: operation not permitted", when, err)
		}
	}
	a := newAgent(t, func(c *Config) { c.Resident, c.State = true, state; watching(c, mount) })
	stop := run(t, a)
	if a.guard.Running() {
		t.Error("the guard watches although there is no rule")
	}
	if err := try(image); err != nil {
		t.Fatalf("before: %v", err)
	}
	o := order(bridge.PreventExecution{Path: image})
	done(t, a, o, "")
	forbidden("the rule holds", try(image))
	if err := try(copied); err != nil {
		t.Errorf("another program: %v", err)
	}
	// A shell lies elsewhere, and its digest is protected.
	sh, err := os.Open("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	d, err := a.digests.Of(t.Context(), sh, false, true)
	if err := errors.Join(err, sh.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = a.Execute(t.Context(), order(bridge.PreventExecution{Hash: d.SHA256}))
	if ee, ok := errors.AsType[*bridge.ExecError](err); !ok || ee.Class != bridge.Permanent || ee.Reason == bridge.ReasonNone {
		t.Errorf("the shell: %v, want a refusal", err)
	}

	// A restart keeps the rule, and watches at once.
	stop()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := try(image); err != nil {
		t.Errorf("without an agent: %v, want that everything goes on", err)
	}
	b := newAgent(t, func(c *Config) { c.Resident, c.State = true, state; watching(c, mount) })
	run(t, b)
	agenttest.Eventually(t, "the guard of the next agent", b.guard.Running)
	forbidden("after a restart", try(image))
	rules, err := b.Rules(t.Context())
	if err != nil || len(rules) != 1 || rules[0].Order != o.ID {
		t.Fatalf("rules %v, %v", rules, err)
	}
	if err := b.RemoveRule(t.Context(), rules[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := try(image); err != nil {
		t.Errorf("after the rule was removed: %v", err)
	}
}

func TestDryRunOfEachTaskHasNoEffect(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "content")
	a := newAgent(t, func(c *Config) { c.DryRun, c.Check = true, nil })
	before, _ := exec.Command("nft", "list", "ruleset").Output()
	_, sum := digestsOf(t, file)
	for _, task := range []bridge.Task{
		bridge.GetFile{Path: file},
		bridge.QuarantineFile{Path: file},
		bridge.DeleteFile{Path: file},
		bridge.IOCScan{IOC: indicator(t, sum), QuarantineObject: true},
		bridge.StartProcess{ExecutablePath: shell(t), Arguments: "-c 'rm " + file + "'"},
		bridge.IsolateHost{Action: bridge.IsolationOn},
		bridge.PreventExecution{Path: file},
		bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Type: bridge.ScanFolder, Path: dir}}},
		bridge.BlockAddress{Address: "203.0.113.7"},
		bridge.TerminateProcess{Path: file},
	} {
		r, err := a.Execute(t.Context(), order(task))
		if err != nil || r.State != bridge.StateShadow || !strings.HasPrefix(r.Detail, "dry run: ") {
			t.Errorf("%s: %+v, %v, want shadow", task.Kind(), r, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "content" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if after, _ := exec.Command("nft", "list", "ruleset").Output(); !bytes.Equal(before, after) {
		t.Errorf("the packet filter changed:\n%s", after)
	}
	if jobs, err := a.Jobs(); err != nil || len(jobs) != 0 {
		t.Errorf("jobs %v, %v", jobs, err)
	}
}

func TestStatusTellsWhatWasDone(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	a := newAgent(t, func(c *Config) { c.Resident = true })
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "content")
	done(t, a, order(bridge.QuarantineFile{Path: file}), "")
	o := order(bridge.StartProcess{ExecutablePath: "/usr/bin/true"})
	if _, err := a.Execute(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	settle(t, a, o)
	st := a.Status(t.Context())
	if !st.Resident || st.Isolation.On || st.QuarantineFiles != 1 || st.QuarantineBytes <= 0 || st.Jobs != 1 || st.JobsRunning != 0 {
		t.Errorf("status %+v", st)
	}
	if !slices.ContainsFunc(st.Capabilities, func(c Capability) bool { return c.Name == "fanotify" }) {
		t.Errorf("capabilities %v", st.Capabilities)
	}
}
