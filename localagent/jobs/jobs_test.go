package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

func open(t *testing.T, change ...func(*Config)) *Jobs {
	t.Helper()
	cfg := Config{Dir: filepath.Join(t.TempDir(), "jobs")}
	for _, f := range change {
		f(&cfg)
	}
	j, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func begin(t *testing.T, j *Jobs, id string, work Work) (Record, bool) {
	t.Helper()
	r, fresh, err := j.Begin(t.Context(), id, bridge.KindOnDemandScan, work)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	return r, fresh
}

func wait(t *testing.T, j *Jobs, id string) Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := j.Wait(ctx, id)
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	return r
}

func finds(what string) Work {
	return func(context.Context, func(string)) (string, any, error) { return "found it", []string{what}, nil }
}

func TestJobTellsWhatItFound(t *testing.T) {
	t.Parallel()
	j := open(t)
	if r, fresh := begin(t, j, "o1", finds("a")); !fresh || r.State != bridge.StateRunning {
		t.Errorf("begun as %+v, fresh %v", r, fresh)
	}
	r := wait(t, j, "o1")
	var got []string
	if err := json.Unmarshal(r.Result, &got); err != nil || r.State != bridge.StateDone || r.Detail != "found it" || got[0] != "a" || r.Ended.IsZero() {
		t.Errorf("ended as %+v, %v", r, err)
	}
}

func TestTheSameOrderIsNotCarriedOutTwice(t *testing.T) {
	t.Parallel()
	j := open(t)
	var mu sync.Mutex
	ran := 0
	work := func(context.Context, func(string)) (string, any, error) {
		mu.Lock()
		defer mu.Unlock()
		ran++
		return "", nil, nil
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { _, _, _ = j.Begin(t.Context(), "o1", bridge.KindStartProcess, work) })
	}
	wg.Wait()
	wait(t, j, "o1")
	again := open(t, func(c *Config) { c.Dir = j.cfg.Dir }) // as after a restart
	r, fresh := begin(t, again, "o1", work)
	if fresh || r.State != bridge.StateDone || ran != 1 {
		t.Errorf("ran %d times; begun again as %+v, fresh %v", ran, r, fresh)
	}
}

func TestOneDirectoryServesTwoProcesses(t *testing.T) {
	t.Parallel()
	j := open(t)
	other := open(t, func(c *Config) { c.Dir = j.cfg.Dir })
	release := make(chan struct{})
	begin(t, j, "o1", func(context.Context, func(string)) (string, any, error) { <-release; return "", nil, nil })
	if r, fresh := begin(t, other, "o1", finds("x")); fresh || r.State != bridge.StateRunning {
		t.Errorf("the other process got %+v, fresh %v, want the one that runs", r, fresh)
	}
	if r, err := other.Of("o1"); err != nil || r.State != bridge.StateRunning {
		t.Errorf("of = %+v, %v, want running", r, err)
	}
	close(release)
	wait(t, j, "o1")
	if r, err := other.Of("o1"); err != nil || r.State != bridge.StateDone {
		t.Errorf("of = %+v, %v, want done", r, err)
	}
}

func TestJobOfADeadProcessHasFailed(t *testing.T) {
	t.Parallel()
	j := open(t)
	if err := os.MkdirAll(j.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.write(Record{ID: "o1", Kind: bridge.KindIOCScan, State: bridge.StateRunning, Detail: "7 of 9 files"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := j.Of("o1")
		if err != nil || r.State != bridge.StateFailed || !strings.Contains(r.Detail, "broken off") || !strings.Contains(r.Detail, "7 of 9") {
			t.Errorf("of = %+v, %v, want broken off", r, err)
		}
	}
	if _, fresh := begin(t, j, "o1", finds("x")); fresh {
		t.Error("a job that was broken off began a second time")
	}
}

func TestAJobThatHadBegunToActEndsAsUnknownWhenItsProcessDies(t *testing.T) {
	t.Parallel()
	j := open(t)
	acted, release := make(chan struct{}), make(chan struct{})
	begin(t, j, "o1", func(_ context.Context, tell func(string)) (string, any, error) {
		tell("7 of 9 files")
		if err := j.Note("o1", "isolates this machine"); err != nil {
			t.Error(err)
		}
		tell("8 of 9 files")
		close(acted)
		<-release
		return "all told", nil, nil
	})
	<-acted
	if r, err := j.Of("o1"); err != nil || r.Detail != "isolates this machine; 8 of 9 files" {
		t.Errorf("of = %+v, %v, want the note in front of the progress", r, err)
	}
	// What a process that was killed at this moment leaves behind.
	left, err := os.ReadFile(j.file("o1"))
	if err != nil {
		t.Fatal(err)
	}
	after := open(t)
	if err := errors.Join(os.MkdirAll(after.cfg.Dir, 0o700), os.WriteFile(after.file("o1"), left, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := after.Of("o1")
		if err != nil || r.State != bridge.StateUnknown || r.Ended.IsZero() || !strings.Contains(r.Detail, "broken off") || !strings.Contains(r.Detail, "isolates this machine") {
			t.Errorf("of = %+v, %v, want unknown and what it had begun to do", r, err)
		}
	}
	close(release)
	if r := wait(t, j, "o1"); r.State != bridge.StateDone || r.Detail != "all told" || r.Note != "" {
		t.Errorf("ended as %+v", r)
	}
	if err := j.Note("o1", "x"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a note on a job that ended: %v", err)
	}
}

func TestResumeGoesOnWithWhatCanGoOn(t *testing.T) {
	t.Parallel()
	j := open(t)
	if err := os.MkdirAll(j.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, r := range []Record{
		{ID: "program", Kind: bridge.KindStartProcess, State: bridge.StateRunning},
		{ID: "scan", Kind: bridge.KindIOCScan, State: bridge.StateRunning},
		{ID: "ended", Kind: bridge.KindStartProcess, State: bridge.StateDone},
	} {
		if err := j.write(r); err != nil {
			t.Fatal(err)
		}
	}
	err := j.Resume(t.Context(), func(r Record) Work {
		if r.Kind != bridge.KindStartProcess {
			return nil
		}
		return finds("exit code 0 of " + r.ID)
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bridge.State{"program": bridge.StateDone, "scan": bridge.StateFailed, "ended": bridge.StateDone} {
		if r := wait(t, j, id); r.State != want {
			t.Errorf("%s ended as %+v, want %s", id, r, want)
		}
	}
	if r, _ := j.Of("program"); !strings.Contains(string(r.Result), "of program") {
		t.Errorf("the program's result is %s", r.Result)
	}
}

func TestWhatGoesOnByItselfStaysRunning(t *testing.T) {
	t.Parallel()
	j := open(t)
	told := make(chan struct{})
	_, _, err := j.Begin(t.Context(), "o1", bridge.KindStartProcess, func(ctx context.Context, tell func(string)) (string, any, error) {
		tell("runs as pid 7")
		close(told)
		<-ctx.Done()
		if Cancelled(ctx) {
			return "", nil, context.Cause(ctx)
		}
		return "", nil, ErrGoesOn
	})
	if err != nil {
		t.Fatal(err)
	}
	<-told
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	// Somebody who only looks does not end it.
	looking := open(t, func(c *Config) { c.Dir = j.cfg.Dir })
	if r, err := looking.Of("o1"); err != nil || r.State != bridge.StateRunning {
		t.Errorf("looked at: %+v, %v, want running", r, err)
	}
	again := open(t, func(c *Config) { c.Dir = j.cfg.Dir })
	if err := again.Resume(t.Context(), func(r Record) Work { return finds("the end of " + r.Detail) }); err != nil {
		t.Fatal(err)
	}
	if r := wait(t, again, "o1"); r.State != bridge.StateDone || !strings.Contains(string(r.Result), "pid 7") {
		t.Errorf("ended as %+v", r)
	}
}

func TestTheSameOrderWaitsForWhatGoesOnByItself(t *testing.T) {
	t.Parallel()
	j := open(t)
	if err := os.MkdirAll(j.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.write(Record{ID: "o1", Kind: bridge.KindStartProcess, State: bridge.StateRunning}); err != nil {
		t.Fatal(err)
	}
	_, fresh, err := j.Begin(t.Context(), "o1", bridge.KindStartProcess, finds("its end"))
	if err != nil || fresh {
		t.Fatalf("begun again: fresh %v, %v", fresh, err)
	}
	if r := wait(t, j, "o1"); r.State != bridge.StateDone {
		t.Errorf("ended as %+v, want done", r)
	}
}

func TestCloseBreaksJobsOff(t *testing.T) {
	t.Parallel()
	j := open(t)
	begin(t, j, "o1", func(ctx context.Context, tell func(string)) (string, any, error) {
		tell("half way")
		<-ctx.Done()
		return "", nil, context.Cause(ctx)
	})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := j.Of("o1"); err != nil || r.State != bridge.StateFailed || r.Detail != errInterrupted.Error() {
		t.Errorf("of = %+v, %v", r, err)
	}
	_, _, err := j.Begin(t.Context(), "o2", bridge.KindIOCScan, finds("x"))
	if v, ok := errors.AsType[*verdict.Error](err); !ok || v.Class != bridge.Retry {
		t.Errorf("begin after close: %v, want a retry", err)
	}
}

func TestJobsWaitForTheirTurnAndCanBeCancelled(t *testing.T) {
	t.Parallel()
	j := open(t, func(c *Config) { c.AtOnce = 1 })
	runs, release := make(chan struct{}), make(chan struct{})
	begin(t, j, "o1", func(context.Context, func(string)) (string, any, error) { close(runs); <-release; return "", nil, nil })
	<-runs // else the other one may have its turn first
	begin(t, j, "o2", finds("x"))
	if err := j.Cancel("o2"); err != nil {
		t.Fatal(err)
	}
	if r := wait(t, j, "o2"); r.State != bridge.StateFailed || r.Detail != "cancelled" {
		t.Errorf("ended as %+v, want cancelled", r)
	}
	close(release)
	wait(t, j, "o1")
	if err := j.Cancel("o1"); !errors.Is(err, ErrUnknown) {
		t.Errorf("cancel of an ended job: %v", err)
	}
}

func TestAPanicIsAFailureOfTheJobAlone(t *testing.T) {
	t.Parallel()
	j := open(t)
	begin(t, j, "o1", func(context.Context, func(string)) (string, any, error) { panic("broken file") })
	if r := wait(t, j, "o1"); r.State != bridge.StateFailed || !strings.Contains(r.Detail, "broken file") {
		t.Errorf("ended as %+v", r)
	}
	begin(t, j, "o2", finds("x"))
	if r := wait(t, j, "o2"); r.State != bridge.StateDone {
		t.Errorf("the next one ended as %+v", r)
	}
}

func TestBeginRefusesIdsThatCouldBePaths(t *testing.T) {
	t.Parallel()
	j := open(t)
	for _, id := range []string{"", "../o1", "a/b", "o 1", "o\x00", strings.Repeat("a", 65), "ö"} {
		_, _, err := j.Begin(t.Context(), id, bridge.KindIOCScan, finds("x"))
		if v, ok := errors.AsType[*verdict.Error](err); !ok || v.Reason != bridge.ReasonInvalid {
			t.Errorf("%q: %v, want a refusal", id, err)
		}
		if _, err := j.Of(id); !errors.Is(err, ErrUnknown) {
			t.Errorf("of %q: %v", id, err)
		}
	}
}

func TestDamagedRecordIsNeitherRepeatedNorForgotten(t *testing.T) {
	t.Parallel()
	j := open(t)
	begin(t, j, "o1", finds("x"))
	wait(t, j, "o1")
	for _, text := range []string{"", "{", `{"version":2,"id":"o1"}`, `{"version":1,"id":"o2"}`} {
		if err := files.WriteDurable(j.file("o1"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := j.Begin(t.Context(), "o1", bridge.KindStartProcess, finds("x"))
		if v, ok := errors.AsType[*verdict.Error](err); !ok || v.Class != bridge.Unknown {
			t.Errorf("%q: %v, want undecided", text, err)
		}
	}
}

func TestPruneForgetsOldJobsOnly(t *testing.T) {
	t.Parallel()
	now := time.Now()
	j := open(t, func(c *Config) { c.Keep, c.Now = time.Hour, func() time.Time { return now } })
	begin(t, j, "old", finds("x"))
	wait(t, j, "old")
	now = now.Add(2 * time.Hour)
	begin(t, j, "young", finds("x"))
	wait(t, j, "young")
	if n, err := j.Prune(); err != nil || n != 1 {
		t.Errorf("pruned %d, %v, want 1", n, err)
	}
	list, err := j.List()
	if err != nil || len(list) != 1 || list[0].ID != "young" {
		t.Errorf("left %v, %v", list, err)
	}
}

func TestResultsThatAreTooLongAreLeftOutAndSaidSo(t *testing.T) {
	t.Parallel()
	j := open(t)
	begin(t, j, "o1", finds(strings.Repeat("x", MaxResult)))
	if r := wait(t, j, "o1"); r.Result != nil || !strings.Contains(r.Detail, "too long") {
		t.Errorf("waited for: %v, %d bytes", r.Detail, len(r.Result))
	}
	if r, err := j.Of("o1"); err != nil || r.Result != nil || !strings.Contains(r.Detail, "too long") {
		t.Errorf("of = %v %v, %v", r.Detail, len(r.Result), err)
	}
}

func TestNewReportsBadSettings(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {Dir: "x", AtOnce: 17}, {Dir: "x", AtOnce: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
