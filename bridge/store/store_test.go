package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

func TestStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	bridgetest.TestStore(t, func(t *testing.T) bridge.Store {
		t.Helper()
		return openTest(t, Config{})
	})
}

func TestStoreKeepsTheContractWithBatchesOfOne(t *testing.T) {
	t.Parallel()
	bridgetest.TestStore(t, func(t *testing.T) bridge.Store {
		t.Helper()
		return openTest(t, Config{MaxBatch: 1})
	})
}

func TestStoreKeepsTheContractOfTheDesk(t *testing.T) {
	t.Parallel()
	bridgetest.TestStoreDesk(t, func(t *testing.T, set bridgetest.StoreSetup) bridgetest.StoreDesk {
		t.Helper()
		s, err := Open(t.Context(), Config{Dir: set.Dir, Policy: set.Policy, Now: set.Now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestOpenMakesPrivateFiles(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("file modes mean nothing on Windows")
	}
	dir := filepath.Join(t.TempDir(), "a?b#c%41", "state")
	s := openTest(t, Config{Dir: dir})
	admitTest(t, s, numbered(t, 1))
	for path, want := range map[string]os.FileMode{dir: 0o700, s.Path(): 0o600, s.Path() + "-wal": 0o600, s.Path() + "-shm": 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestOpenRefusesBadSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no folder":                 {},
		"a batch too large":         {Dir: dir, MaxBatch: 4097},
		"a negative batch":          {Dir: dir, MaxBatch: -1},
		"a folder that is a file":   {Dir: filepath.Join(dir, "file")},
		"a folder inside of a file": {Dir: filepath.Join(dir, "file", "x")},
	} {
		if s, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
			_ = s.Close()
		}
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	t.Run("not a database", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, FileName)
		junk := []byte(strings.Repeat("not a database ", 1000))
		if err := os.WriteFile(path, junk, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(t.Context(), Config{Dir: dir}); err == nil {
			t.Error("opened")
			_ = s.Close()
		}
		if got, err := os.ReadFile(path); err != nil || !cmp.Equal(got, junk) {
			t.Errorf("the file was changed (%v)", err)
		}
	})
	t.Run("of a later version", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := openTest(t, Config{Dir: dir})
		if err := s.do(t.Context(), func(tx *tx) error { _, err := tx.run("PRAGMA user_version = 99"); return err }); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(t.Context(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "later version") {
			t.Errorf("opened with %v, want a word about the later version", err)
			_ = s.Close()
		}
	})
}

func TestWriterSyncsEveryCommit(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	got := map[string]string{}
	err := s.do(t.Context(), func(tx *tx) error {
		for _, name := range []string{"synchronous", "journal_mode", "page_size"} {
			row, err := tx.first("SELECT * FROM pragma_" + name)
			if err != nil {
				return err
			}
			got[name] = asText(row[0])
			if n, ok := row[0].(int64); ok {
				got[name] = time.Duration(n).String()
			}
		}
		return nil
	})
	want := map[string]string{"synchronous": "2ns", "journal_mode": "wal", "page_size": "4.096µs"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("settings of the writer: %v (-want +got):\n%s", err, diff)
	}
}

func TestClosedStoreRefusesEverything(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, admit := s.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{numbered(t, 1)}})
	_, order := s.Order(t.Context(), "o")
	for what, err := range map[string]error{"admit": admit, "order": order, "note": s.Note(t.Context(), bridge.Note{What: bridge.NoteStop})} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v, want ErrClosed", what, err)
		}
	}
}

func TestCloseFinishesWhatWasHandedOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, Config{Dir: dir})
	results := make(chan string, 500)
	for i := range cap(results) {
		go func() {
			o := numbered(t, i)
			_, err := s.Admit(context.WithoutCancel(t.Context()), bridge.Admission{Orders: []bridge.Order{o}})
			switch {
			case err == nil:
				results <- o.ID
			case errors.Is(err, ErrClosed):
				results <- ""
			default:
				t.Errorf("admit: %v", err)
				results <- ""
			}
		}()
	}
	first := <-results
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]bool{first: true}
	for range cap(results) - 1 {
		acknowledged[<-results] = true
	}
	delete(acknowledged, "")
	again := openTest(t, Config{Dir: dir})
	got, err := again.Orders(t.Context(), Filter{Limit: maxLimit})
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	for _, o := range got {
		stored[o.ID] = true
	}
	if diff := cmp.Diff(acknowledged, stored); diff != "" {
		t.Errorf("what was acknowledged is not what is stored (-acknowledged +stored):\n%s", diff)
	}
}

func TestOneBadRequestDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	bad := errors.New("bad")
	var batch []*request
	for i := range 5 {
		batch = append(batch, &request{done: make(chan error, 1), apply: func(tx *tx) error {
			if _, err := tx.run(upsertSetting, "test/"+string(rune('a'+i)), "x"); err != nil {
				return err
			}
			if i == 2 {
				return bad
			}
			return nil
		}})
	}
	// The writer is idle; its connection is used from here as one batch.
	err := s.do(t.Context(), func(tx *tx) error {
		if err := tx.end(nil); err != nil {
			return err
		}
		tx.w.commit(batch)
		_, err := tx.run("BEGIN IMMEDIATE")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range batch {
		err, want := <-r.done, i == 2
		if got := errors.Is(err, bad); got != want || (err != nil) != want {
			t.Errorf("request %d: %v", i, err)
		}
		value, err := s.setting(t.Context(), "test/"+string(rune('a'+i)))
		if err != nil || (value == "x") == want {
			t.Errorf("request %d left %q, %v", i, value, err)
		}
	}
}

func TestWriterReplacesAConnectionThatCannotWrite(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	err := s.do(t.Context(), func(tx *tx) error { _, err := tx.run("PRAGMA query_only = 1"); return err })
	if err != nil {
		t.Fatal(err)
	}
	a := bridge.Admission{Orders: []bridge.Order{numbered(t, 1)}}
	if _, err := s.Admit(t.Context(), a); resultCode(err) != codeReadOnly {
		t.Errorf("admit over a connection that cannot write: %v, want SQLITE_READONLY", err)
	}
	if out, err := s.Admit(t.Context(), a); err != nil || out[0].Known {
		t.Errorf("admit after that: %v, %v, want it new", out, err)
	}
}

func TestRequestIsWithdrawnOnlyBeforeItIsTaken(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{MaxBatch: 1})
	busy, free := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	taken := make(chan error, 1)
	go func() {
		taken <- s.do(ctx, func(tx *tx) error {
			close(busy)
			<-free
			_, err := tx.run(upsertSetting, "taken", "x")
			return err
		})
	}()
	<-busy
	waiting := make(chan error, 1)
	go func() {
		waiting <- s.do(ctx, func(tx *tx) error { _, err := tx.run(upsertSetting, "waiting", "x"); return err })
	}()
	why := errors.New("tired of waiting")
	cancel(why)
	if err := <-waiting; !errors.Is(err, why) {
		t.Errorf("the waiting request ended with %v, want the cause of its context", err)
	}
	close(free)
	if err := <-taken; err != nil {
		t.Errorf("the request under way ended with %v", err)
	}
	for name, want := range map[string]string{"taken": "x", "waiting": ""} {
		if got, err := s.setting(t.Context(), name); got != want || err != nil {
			t.Errorf("%s left %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestWriterWaitsForTheTransactionOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := openTest(t, Config{Dir: dir}), openTest(t, Config{Dir: dir})
	locked, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- a.do(t.Context(), func(*tx) error {
			close(locked)
			<-free
			return nil
		})
	}()
	<-locked
	admitted := make(chan error, 1)
	go func() {
		_, err := b.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{numbered(t, 1)}})
		admitted <- err
	}()
	select {
	case err := <-admitted:
		t.Errorf("admitted inside the other transaction: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := b.Orders(t.Context(), Filter{}); err != nil {
		t.Errorf("read beside the other transaction: %v", err)
	}
	close(free)
	if err := errors.Join(<-done, <-admitted); err != nil {
		t.Error(err)
	}
}
