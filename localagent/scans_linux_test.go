package localagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/ioc"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/scan"
)

// engine finds what has "lab malware" in it.
type engine struct {
	// before is called with each path; its error is the engine's.
	before func(path string) error
	// mu guards asked.
	mu    sync.Mutex
	asked []string
}

func (e *engine) Info(context.Context) (scan.EngineInfo, error) {
	return scan.EngineInfo{Name: "fake"}, nil
}

func (e *engine) Scan(_ context.Context, f *os.File, info scan.FileInfo) (scan.Verdict, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, info.Path)
	if e.before != nil {
		if err := e.before(info.Path); err != nil {
			return scan.Verdict{}, err
		}
	}
	b := make([]byte, 4096)
	n, _ := f.ReadAt(b, 0)
	if strings.Contains(string(b[:n]), "lab malware") {
		return scan.Verdict{State: scan.Infected, Signature: "Lab"}, nil
	}
	return scan.Verdict{State: scan.Clean}, nil
}

// infected makes a folder with n infected files, which are returned.
func infected(t *testing.T, n int) (dir string, bad []string) {
	t.Helper()
	dir = t.TempDir()
	for i := range n {
		bad = append(bad, filepath.Join(dir, fmt.Sprintf("bad%02d", i)))
		write(t, bad[i], "lab malware "+bad[i])
	}
	return dir, bad
}

func scanOf(dir string) bridge.OnDemandScan {
	return bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Type: bridge.ScanFolder, Path: dir, Recursive: true}}}
}

// named is an OpenIOC document that looks for files by a part of their names, in an archive as the task carries it.
func named(t *testing.T, part string) string {
	t.Helper()
	return archived(t, `<IndicatorItem id="t" condition="contains"><Context document="FileItem" search="FileItem/FileName" type="mir"/>`+
		`<Content type="string">`+part+`</Content></IndicatorItem>`)
}

// left counts the files that are still there.
func left(paths []string) int {
	n := 0
	for _, p := range paths {
		if _, err := os.Lstat(p); err == nil {
			n++
		}
	}
	return n
}

// resultOf reads what the job of the order found.
func resultOf(t *testing.T, a *Agent, o bridge.Order) scanned {
	t.Helper()
	r, err := a.Job(o.ID)
	if err != nil {
		t.Fatal(err)
	}
	var found scanned
	if err := json.Unmarshal(r.Result, &found); err != nil {
		t.Fatalf("result of the job: %v in %q", err, r.Result)
	}
	return found
}

func TestWhatFollowsFromAScanPassesTheGuards(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	for name, c := range map[string]struct {
		files  int
		change func(*Config)
		want   string
	}{
		"more than max_targets": {65, func(*Config) {}, "65 files would be taken away, one order may take 64"},
		"the hold is on":        {2, func(c *Config) { c.Held = func() bool { return true } }, "is left alone: the hold is on"},
		"the task is not allowed here": {2, func(c *Config) {
			c.Check = func(o bridge.Order) (bridge.Reason, string) {
				if o.Task.Kind() == bridge.KindQuarantineFile {
					return bridge.ReasonLocalTasks, "not in local.tasks"
				}
				return bridge.ReasonNone, ""
			}
		}, "is left alone: not in local.tasks"},
		"the never-touch list": {2, func(c *Config) {
			c.ProtectedPath = func(string) (bridge.Reason, string) { return bridge.ReasonProtectedPath, "listed by the user" }
		}, "listed by the user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, bad := infected(t, c.files)
			a := newAgent(t, func(cfg *Config) {
				cfg.QuarantineFindings, cfg.Scan.Engine = true, &engine{}
				cfg.IOC = ioc.Config{Scope: ioc.ScopeCustom, Roots: []string{dir}}
				c.change(cfg)
			})
			for _, task := range []bridge.Task{scanOf(dir), bridge.IOCScan{IOC: named(t, "bad"), QuarantineObject: true}} {
				done(t, a, order(task), c.want)
				if n := left(bad); n != c.files {
					t.Errorf("%s: %d of %d files are left", task.Kind(), n, c.files)
				}
			}
		})
	}
}

func TestFilesAreTakenAwayWhateverTheirNamesHold(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	for _, task := range []func(dir string) bridge.Task{
		func(dir string) bridge.Task { return scanOf(dir) },
		func(string) bridge.Task { return bridge.IOCScan{IOC: named(t, "bad"), QuarantineObject: true} },
	} {
		dir := t.TempDir()
		bad := []string{dir + "/bad\x01", dir + "/bad\xe9", dir + "/bad\\back", dir + "/bad\nline"}
		for _, path := range bad {
			write(t, path, "lab malware "+path)
		}
		a := newAgent(t, func(cfg *Config) {
			cfg.QuarantineFindings, cfg.Scan.Engine = true, &engine{}
			cfg.IOC = ioc.Config{Scope: ioc.ScopeCustom, Roots: []string{dir}}
		})
		o := order(task(dir))
		if _, err := a.Execute(t.Context(), o); err != nil || left(bad) != 0 {
			t.Errorf("%s: %d of %d files are left: %v", o.Task.Kind(), left(bad), len(bad), err)
		}
	}
}

func TestAFileThatIsNotTakenAwayThoughAllowedFailsTheScan(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir, bad := infected(t, 2)
	write(t, bad[0], "lab malware "+strings.Repeat("x", 2000))
	a := newAgent(t, func(cfg *Config) {
		cfg.QuarantineFindings, cfg.Scan.Engine, cfg.Quarantine.MaxFile = true, &engine{}, 1000
	})
	o := order(scanOf(dir))
	_, err := a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonNone, "not all that was asked for has happened")
	found := resultOf(t, a, o)
	if len(found.Followed) != 2 || !strings.Contains(found.Followed[0], "is left alone") || len(found.Scan.Findings) != 2 || left(bad) != 1 {
		t.Errorf("result %+v, %d files left: want both findings, and what became of each", found, left(bad))
	}
}

func TestScansThatDidNotHappenFailAndKeepTheirResult(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir, bad := infected(t, 20)
	for name, c := range map[string]struct {
		task   bridge.Task
		change func(*Config)
		want   string
	}{
		"the engine goes away": {scanOf(dir), func(c *Config) {
			n := 0
			c.QuarantineFindings, c.Scan.Workers = true, 1
			c.Scan.Engine = &engine{before: func(string) error {
				if n++; n > 3 {
					return scan.ErrEngineGone
				}
				return nil
			}}
		}, "the engine does not answer; 0 files clean, 3 infected"},
		"the roots are not there": {
			bridge.IOCScan{IOC: named(t, "bad")},
			func(c *Config) { c.IOC.Roots = []string{dir + "/gone"} },
			"FileItem: 1 of 1 folders could not be looked at; 0 of 1 documents match",
		},
		"the engine of a follow-up goes away": {bridge.IOCScan{IOC: named(t, "bad19"), ScanCriticalAreas: true}, func(c *Config) {
			c.Scan.Engine = &engine{before: func(string) error { return scan.ErrEngineGone }}
		}, "not all that was asked for has happened: 1 of 1 documents match"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, func(cfg *Config) {
				cfg.IOC = ioc.Config{Scope: ioc.ScopeCustom, Roots: []string{dir}}
				c.change(cfg)
			})
			o := order(c.task)
			_, err := a.Execute(t.Context(), o)
			wantError(t, err, bridge.Permanent, bridge.ReasonNone, c.want)
			if found := resultOf(t, a, o); found.Scan == nil && found.IOC == nil {
				t.Error("the job has no result")
			}
		})
	}
	if n := left(bad); n != 17 {
		t.Errorf("%d files are left, want that what had been found until then was taken away", n)
	}
}

func TestReceiptOfAnIOCScanSaysWhatWasLeftOut(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir, bad := infected(t, 2)
	_, sum := digestsOf(t, bad[0])
	if err := os.Symlink("/", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, func(c *Config) { c.IOC = ioc.Config{Scope: ioc.ScopeCustom, Roots: []string{dir}, MaxFile: 1} })
	done(t, a, order(bridge.IOCScan{IOC: indicator(t, sum)}), "left out: not hashed: it is larger than max_file (2), links are not followed (1)")
	process := archived(t, `<IndicatorItem id="t" condition="is"><Context document="ProcessItem" search="ProcessItem/pid" type="mir"/><Content type="int">`+
		itoa(os.Getpid())+`</Content></IndicatorItem>`)
	done(t, a, order(bridge.IOCScan{IOC: process, QuarantineObject: true}), "no file takes part in a match")
}

func TestCriticalAreasAfterAMatchLeaveRecordsAndTakeAwayWhatIsFound(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir, _ := infected(t, 1)
	machine := t.TempDir()
	cron := filepath.Join(machine, "root/etc/crontab")
	for _, d := range []string{"root/etc", "proc", "sys/block", "dev"} {
		if err := os.MkdirAll(filepath.Join(machine, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	a := newAgent(t, func(c *Config) {
		c.IOC = ioc.Config{Scope: ioc.ScopeCustom, Roots: []string{dir}}
		c.QuarantineFindings, c.Scan.Engine = true, &engine{}
		c.Scan.Roots = scan.Roots{Root: machine + "/root", Proc: machine + "/proc", Sys: machine + "/sys", Dev: machine + "/dev", MountInfo: machine + "/mounts"}
	})
	for _, take := range []bool{true, false} {
		write(t, cron, "# lab malware "+cron)
		_, sum := digestsOf(t, cron)
		a.cfg.QuarantineFindings = take
		o := order(bridge.IOCScan{IOC: named(t, "bad"), ScanCriticalAreas: true})
		done(t, a, o, "critical areas: 0 files clean, 1 infected")
		found := resultOf(t, a, o)
		if found.Scan == nil || len(found.Scan.Findings) != 1 || found.Scan.Findings[0].SHA256 != sum || found.IOC == nil || len(found.IOC.Matches) != 1 {
			t.Errorf("result %+v, want the match and the finding", found)
		}
		if gone := left([]string{cron}) == 0; gone != take {
			t.Errorf("taken away: %v, want %v (%q)", gone, take, found.Followed)
		}
	}
	done(t, a, order(bridge.IOCScan{IOC: named(t, "absent"), ScanCriticalAreas: true}), "0 of 1 documents match")
	if left([]string{cron}) != 1 {
		t.Error("critical areas were scanned although nothing matched")
	}
}

func TestScansLeaveTheQuarantineOut(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	e := &engine{}
	state := t.TempDir()
	a := newAgent(t, func(c *Config) {
		c.State, c.Scan.Engine = state, e
		c.IOC = ioc.Config{Scope: ioc.ScopeCustom, Roots: []string{state}}
	})
	hidden := filepath.Join(a.Vault().Dir(), "bad")
	if err := os.MkdirAll(filepath.Dir(hidden), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, hidden, "lab malware")
	done(t, a, order(scanOf(state)), "0 infected")
	done(t, a, order(bridge.IOCScan{IOC: named(t, "bad")}), "0 of 1 documents match")
	for _, path := range e.asked {
		if path == hidden {
			t.Error("the engine was asked about a file of the quarantine")
		}
	}
}

func TestAResultTooLongForItsJobIsShortenedAndSaysSo(t *testing.T) {
	t.Parallel()
	long := ioc.Text("/" + strings.Repeat("\u00fc", 200))
	found := scanned{IOC: &ioc.Result{}, Scan: &scan.Result{Infected: 1500}, Followed: []string{"isolated until tomorrow"}}
	for range 3 {
		m := ioc.Match{Name: "lab", Terms: []ioc.Hit{{Content: "x"}}}
		for range 1000 {
			m.Records = append(m.Records, ioc.Record{Fields: map[string][]ioc.Text{"FileItem/FullPath": {long}}})
			found.IOC.Files = append(found.IOC.Files, ioc.Target{Path: long})
		}
		found.IOC.Matches = append(found.IOC.Matches, m)
	}
	for range 1000 {
		found.Scan.Findings = append(found.Scan.Findings, scan.Finding{Path: string(long), Processes: make([]bridge.Process, 64)})
	}
	o := order(bridge.OnDemandScan{})
	text, result, err := (&aftermath{o: o, found: found}).end("seen", nil)
	if err != nil || !strings.Contains(text, "the job lists the first ") || !strings.Contains(text, "isolated until tomorrow") {
		t.Errorf("%q, %v", text, err)
	}
	b, err := json.Marshal(result)
	var got scanned
	if err = errors.Join(err, json.Unmarshal(b, &got)); err != nil || len(b) > jobs.MaxResult {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	listed := int64(len(got.IOC.Matches[2].Records))
	if len(got.IOC.Matches) != 3 || listed == 0 || listed+got.IOC.Matches[2].More != 1000 || len(got.IOC.Matches[2].Terms) != 1 ||
		int64(len(got.IOC.Files))+got.IOC.MoreFiles != 3000 || len(got.Scan.Findings) == 0 || got.Scan.Infected != 1500 || len(got.Followed) != 1 {
		t.Errorf("%d records and %d more, %d files and %d more, %d findings, followed %v",
			listed, got.IOC.Matches[2].More, len(got.IOC.Files), got.IOC.MoreFiles, len(got.Scan.Findings), got.Followed)
	}
}

func TestIsolationThatFollowsFromAMatchIsOnDiskAtOnceAndNoLeaseEndsIt(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	dir, _ := infected(t, 1)
	state := t.TempDir()
	o := order(bridge.IOCScan{IOC: named(t, "bad"), IsolateHost: true, ScanCriticalAreas: true})
	o.Rule = "lab"
	var during []byte
	a := newAgent(t, func(c *Config) {
		c.State, c.IOC = state, ioc.Config{Scope: ioc.ScopeCustom, Roots: []string{dir}}
		c.Scan.Engine = &engine{before: func(string) error { // while the critical areas are being scanned
			if during == nil {
				during, _ = os.ReadFile(filepath.Join(state, dirJobs, o.ID+".json"))
			}
			return nil
		}}
	})
	first := order(bridge.IsolateHost{Action: bridge.IsolationOn})
	first.For = time.Minute
	done(t, a, first, "isolated")
	done(t, a, o, "isolated already; goes on until")
	var r jobs.Record
	if err := json.Unmarshal(during, &r); err != nil || r.State != bridge.StateRunning || !strings.Contains(r.Note, "goes on until") {
		t.Errorf("while the scan went on its record was %s (%v), want the isolation in it", during, err)
	}
	lapse := order(bridge.IsolateHost{Action: bridge.IsolationOff})
	lapse.Actor = bridge.ActorLease
	done(t, a, lapse, "")
	st, err := a.Isolated(t.Context())
	if err != nil || !st.On || time.Until(st.Until) < 3*time.Hour {
		t.Errorf("the lease of another order left %+v, %v: want the isolation of the scan", st, err)
	}
	done(t, a, order(bridge.IsolateHost{Action: bridge.IsolationOff}), "released")
	if st, err := a.Isolated(t.Context()); err != nil || st.On {
		t.Errorf("released by a person, and it is %+v, %v", st, err)
	}
}
