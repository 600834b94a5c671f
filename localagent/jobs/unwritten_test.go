package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// away takes the folder of the records away, so that nothing can be written, until the function it returns is called.
func away(t *testing.T, j *Jobs) (back func()) {
	t.Helper()
	if err := os.Rename(j.cfg.Dir, j.cfg.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Rename(j.cfg.Dir+".away", j.cfg.Dir); err != nil {
			t.Fatal(err)
		}
	}
}

// endsUnwritten begins jobs of the kind whose ends cannot be written.
func endsUnwritten(t *testing.T, j *Jobs, kind bridge.Kind, ids ...string) (back func()) {
	t.Helper()
	work := make(chan struct{})
	release := sync.OnceFunc(func() { close(work) })
	defer release()
	for _, id := range ids {
		if _, _, err := j.Begin(t.Context(), id, kind, func(context.Context, func(string)) (string, any, error) {
			<-work
			return "found it", []string{"a"}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	back = away(t, j)
	release()
	for _, id := range ids {
		wait(t, j, id)
	}
	return back
}

func TestAnEndThatCouldNotBeWrittenIsNotLost(t *testing.T) {
	t.Parallel()
	for _, kind := range []bridge.Kind{bridge.KindOnDemandScan, bridge.KindStartProcess} {
		for name, look := range map[string]func(j *Jobs) error{
			"of":    func(j *Jobs) error { _, err := j.Of("o1"); return err },
			"list":  func(j *Jobs) error { _, err := j.List(); return err },
			"prune": func(j *Jobs) error { _, err := j.Prune(); return err },
			"close": func(j *Jobs) error { return j.Close() },
		} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				t.Parallel()
				j := open(t)
				other := open(t, func(c *Config) { c.Dir = j.cfg.Dir })
				back := endsUnwritten(t, j, kind, "o1")
				if r, err := j.Of("o1"); err != nil || r.State != bridge.StateDone || len(r.Result) == 0 {
					t.Errorf("while the disk takes nothing: %+v, %v, want done", r, err)
				}
				if list, err := j.List(); err != nil || len(list) != 1 || list[0].State != bridge.StateDone {
					t.Errorf("listed %+v, %v", list, err)
				}
				back()
				if r, err := other.Of("o1"); err != nil || r.State != bridge.StateRunning {
					t.Errorf("another process tells %+v, %v, want that it runs: its end is not written", r, err)
				}
				if r, fresh, err := j.Begin(t.Context(), "o1", kind, finds("x")); err != nil || fresh || r.State != bridge.StateDone {
					t.Errorf("begun again: %+v, fresh %v, %v", r, fresh, err)
				}
				if err := look(j); err != nil {
					t.Fatal(err)
				}
				if r, err := other.Of("o1"); err != nil || r.State != bridge.StateDone || len(r.Result) == 0 {
					t.Errorf("the disk holds %+v, %v, want done", r, err)
				}
			})
		}
	}
}

func TestCloseNamesTheEndsItCouldNotWrite(t *testing.T) {
	t.Parallel()
	j := open(t)
	back := endsUnwritten(t, j, bridge.KindStartProcess, "o1")
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "o1") {
		t.Errorf("close: %v, want o1 named", err)
	}
	back()
	again := open(t, func(c *Config) { c.Dir = j.cfg.Dir })
	if err := again.Resume(t.Context(), func(Record) Work { return finds("its end") }); err != nil {
		t.Fatal(err)
	}
	if r := wait(t, again, "o1"); r.State != bridge.StateDone {
		t.Errorf("after the restart it is %+v, want done", r)
	}
}

func TestNoJobBeginsWhileTooManyEndsWaitForTheDisk(t *testing.T) {
	t.Parallel()
	j := open(t)
	ids := make([]string, maxUnwritten+1)
	for i := range ids {
		ids[i] = fmt.Sprintf("o%d", i)
	}
	back := endsUnwritten(t, j, bridge.KindStartProcess, ids...)
	with := 0
	for _, id := range ids {
		r, err := j.Of(id)
		if err != nil || r.State != bridge.StateDone {
			t.Errorf("%s is %+v, %v, want done", id, r, err)
		}
		if r.Result != nil {
			with++
		} else if !strings.Contains(r.Detail, "could not be kept") {
			t.Errorf("%s does not say where its result is: %q", id, r.Detail)
		}
	}
	if with != maxUnwritten {
		t.Errorf("%d results are in memory, want %d", with, maxUnwritten)
	}
	if err := os.Mkdir(j.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// Records can be written in the folder, so hinder those that wait by what cannot be replaced.
	for _, id := range ids {
		if err := os.Mkdir(j.file(id), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := j.Begin(t.Context(), "more", bridge.KindIOCScan, finds("x"))
	if v, ok := errors.AsType[*verdict.Error](err); !ok || v.Class != bridge.Retry {
		t.Errorf("begin: %v, want a retry", err)
	}
	if err := os.RemoveAll(j.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	back()
	begin(t, j, "more", finds("x"))
	wait(t, j, "more")
}

func TestPruneLeavesAnEndThatIsNotOnDisk(t *testing.T) {
	t.Parallel()
	now := time.Now()
	j := open(t, func(c *Config) { c.Keep, c.Now = time.Hour, func() time.Time { return now } })
	back := endsUnwritten(t, j, bridge.KindOnDemandScan, "o1")
	now = now.Add(2 * time.Hour)
	if n, err := j.Prune(); err != nil || n != 0 {
		t.Errorf("pruned %d, %v, want none", n, err)
	}
	if r, err := j.Of("o1"); err != nil || r.State != bridge.StateDone {
		t.Errorf("of = %+v, %v, want done", r, err)
	}
	back()
	if n, err := j.Prune(); err != nil || n != 1 {
		t.Errorf("pruned %d, %v, want 1", n, err)
	}
}

func TestRunningProgramsLeaveRoomForScans(t *testing.T) {
	t.Parallel()
	j := open(t)
	blocks := func(ctx context.Context, _ func(string)) (string, any, error) {
		<-ctx.Done()
		return "", nil, ErrGoesOn
	}
	for i := range maxQueued + 1 {
		if _, _, err := j.Begin(t.Context(), fmt.Sprintf("p%d", i), bridge.KindStartProcess, blocks); err != nil {
			t.Fatalf("program %d: %v", i, err)
		}
	}
	for i := range maxQueued {
		if _, _, err := j.Begin(t.Context(), fmt.Sprintf("s%d", i), bridge.KindIOCScan, blocks); err != nil {
			t.Fatalf("scan %d: %v", i, err)
		}
	}
	_, _, err := j.Begin(t.Context(), "s", bridge.KindIOCScan, blocks)
	if v, ok := errors.AsType[*verdict.Error](err); !ok || v.Class != bridge.Retry {
		t.Errorf("one scan too many: %v, want a retry", err)
	}
	if _, _, err := j.Begin(t.Context(), "p", bridge.KindStartProcess, blocks); err != nil {
		t.Errorf("a program beside %d scans: %v", maxQueued, err)
	}
}

func TestResumeGoesOnPastWhatItCannotRead(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	j := open(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if err := os.MkdirAll(j.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "z"} {
		if err := os.WriteFile(j.file(id), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.write(Record{ID: "m", Kind: bridge.KindStartProcess, State: bridge.StateRunning}); err != nil {
		t.Fatal(err)
	}
	if err := j.Resume(t.Context(), func(Record) Work { return finds("its end") }); err != nil {
		t.Errorf("resume: %v, want the unreadable ones logged only", err)
	}
	if r := wait(t, j, "m"); r.State != bridge.StateDone {
		t.Errorf("the readable one is %+v, want done", r)
	}
	for _, id := range []string{"order=a", "order=z"} {
		if !strings.Contains(log.String(), id) {
			t.Errorf("%s is not in the log: %s", id, log.String())
		}
	}
	if err := os.RemoveAll(j.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(j.cfg.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Resume(t.Context(), func(Record) Work { return nil }); err == nil {
		t.Error("a folder that cannot be read is no error")
	}
}
