package kuma

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

const scriptEventID = "8a3f6d3e-57a8-4f6b-9a9c-3a5f0c2b7d11"

func newScript(t testing.TB, change func(*ScriptConfig)) *Script {
	t.Helper()
	cfg := ScriptConfig{Name: "kuma", Scan: 50 * time.Millisecond, Retry: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	change(&cfg)
	s, err := NewScript(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runScript runs a source until the test ends and waits until it stands.
func runScript(t testing.TB, s *Script) *Script {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	select {
	case <-s.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("the source does not stand")
	}
	return s
}

func scriptNext(t testing.TB, s *Script) bridge.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d, err := s.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func scriptNothing(t testing.TB, s *Script, wait time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if d, err := s.Receive(ctx); err == nil {
		t.Fatalf("%s came", d.Alert.Raw)
	}
}

// scriptDocuments makes calls, and remembers them for the sender by their document.
func scriptDocuments(serial *atomic.Int64) func(int) [][]byte {
	return func(n int) [][]byte {
		var docs [][]byte
		for range n {
			doc, err := newCall(int(serial.Add(1))).MarshalJSON()
			if err != nil {
				return nil
			}
			docs = append(docs, doc)
		}
		return docs
	}
}

func TestSpoolKeepsTheSourceContract(t *testing.T) {
	t.Parallel()
	bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest { return spoolUnderTest(t, newSpool(t), &atomic.Int64{}) })
}

func spoolUnderTest(t *testing.T, dir string, serial *atomic.Int64) bridgetest.SourceUnderTest {
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Spool = dir }))
	return bridgetest.SourceUnderTest{
		Source: s, Name: "kuma", Preset: ScriptPreset, Durable: true, Quiet: 400 * time.Millisecond,
		Documents: scriptDocuments(serial), Close: s.Close,
		Send: func(_ context.Context, doc []byte) error {
			call, err := callout.DecodeCall(doc)
			if err != nil {
				return err
			}
			return callout.Spool(dir, callout.SpoolLimits{}, call)
		},
		Reopen: func(t *testing.T) bridgetest.SourceUnderTest { return spoolUnderTest(t, dir, serial) },
		DeadLetters: func(context.Context) ([][]byte, error) {
			files, err := filepath.Glob(filepath.Join(dir, callout.SpoolBad, "*"))
			var docs [][]byte
			for _, f := range files {
				doc, rerr := os.ReadFile(f)
				docs, err = append(docs, doc), errors.Join(err, rerr)
			}
			return docs, err
		},
	}
}

func TestSocketKeepsTheSourceContract(t *testing.T) {
	t.Parallel()
	bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest {
		path := filepath.Join(filepath.Dir(newSpool(t)), "s")
		s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Socket = path }))
		var serial atomic.Int64
		return bridgetest.SourceUnderTest{
			Source: s, Name: "kuma", Preset: ScriptPreset, Documents: scriptDocuments(&serial), Close: s.Close,
			Send: func(ctx context.Context, doc []byte) error {
				call, err := callout.DecodeCall(doc)
				if err != nil {
					return err
				}
				_, err = callout.HandOver(ctx, callout.HandOverConfig{Socket: path, Budget: 10 * time.Second}, call)
				return err
			},
		}
	})
}

// TestACallHandedOverTwiceHasOneID lets the answer come too late, so that the call takes both ways.
func TestACallHandedOverTwiceHasOneID(t *testing.T) {
	t.Parallel()
	spool := newSpool(t)
	socket := filepath.Join(filepath.Dir(spool), "s")
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Socket, c.Spool = socket, spool }))
	call := newCall(7)
	// Nobody receives: the answer does not come in time, and the call is spooled as well.
	result, err := callout.HandOver(t.Context(), callout.HandOverConfig{Socket: socket, Spool: spool, Budget: 200 * time.Millisecond}, call)
	if err != nil || !result.Spooled || result.State != callout.CallSpooled {
		t.Fatalf("got %+v, %v", result, err)
	}
	seen := map[string]int{}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		d, err := s.Receive(ctx)
		cancel()
		if err != nil {
			break
		}
		seen[d.Alert.ID]++
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if n := seen[call.ID]; len(seen) != 1 || n < 1 || n > 2 {
		t.Errorf("got %v", seen)
	}
	if left := spoolNames(t, spool); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

func TestSpooledCallsComeOldestFirst(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	for _, n := range []int{5, 3, 8, 1, 7, 2, 6, 4} {
		mustSpool(t, dir, newCall(n))
	}
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Spool = dir }))
	for n := 1; n <= 8; n++ {
		d := scriptNext(t, s)
		if want := newCall(n).ID; d.Alert.ID != want {
			t.Errorf("got %s, want %s", d.Alert.ID, want)
		}
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}

// TestASpoolThatWasReplacedIsReadAgain puts another directory in the place of the open one.
func TestASpoolThatWasReplacedIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Spool = dir }))
	if err := errors.Join(os.Rename(dir, dir+".old"), MakeSpool(dir, "")); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); s.Connected(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the source did not notice")
		}
	}
	mustSpool(t, dir, newCall(1))
	if d := scriptNext(t, s); d.Alert.ID != "k00000001" || !s.Connected() {
		t.Errorf("got %s, connected %v", d.Alert.ID, s.Connected())
	}
}

// TestAnEntryThatCannotBePutAsideIsComplainedAboutOnce blocks the folder for what is put aside.
func TestAnEntryThatCannotBePutAsideIsComplainedAboutOnce(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	if err := errors.Join(os.Symlink("/tmp", filepath.Join(dir, callout.SpoolBad)), os.WriteFile(filepath.Join(dir, "foreign\nname"), nil, 0o640)); err != nil {
		t.Fatal(err)
	}
	wrong := callout.SpoolName{At: 1, ID: "k00000009", Size: 3}
	if err := os.WriteFile(filepath.Join(dir, wrong.String()), []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	var log scriptLog
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Spool, c.Logger = dir, slog.New(slog.NewTextHandler(&log, nil)) }))
	scriptNothing(t, s, 500*time.Millisecond)
	mustSpool(t, dir, newCall(1))
	if d := scriptNext(t, s); d.Alert.ID != "k00000001" {
		t.Errorf("got %s", d.Alert.ID)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("%d lines for two entries:\n%s", lines, log.String())
	}
	if _, err := os.Lstat(filepath.Join("/tmp", wrong.String())); err == nil {
		t.Error("the entry went through the link")
	}
}

type scriptLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *scriptLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *scriptLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestForeignEntriesArePutAsideReportedAndHoldNothingUp(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	other, err := newCall(2).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	renamed := callout.SpoolName{At: 1, ID: "k00000099", Size: int64(len(other))}
	garbage := callout.SpoolName{At: 2, ID: "k00000098", Size: 7}
	for name, content := range map[string]string{
		"notes.txt": "x", renamed.String(): string(other), garbage.String(): "garbage", "a\nb\u202e": "x", callout.SpoolTemp + "x": "half",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(dir, "link.json")), os.Mkdir(filepath.Join(dir, "folder"), 0o750),
		os.Chtimes(filepath.Join(dir, callout.SpoolTemp+"x"), old, old), os.WriteFile(filepath.Join(dir, callout.SpoolTemp+"young"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	mustSpool(t, dir, newCall(1))
	var notes []bridge.Note
	var mu sync.Mutex
	s := runScript(t, newScript(t, func(c *ScriptConfig) {
		c.Spool = dir
		c.OnNote = func(n bridge.Note) { mu.Lock(); defer mu.Unlock(); notes = append(notes, n) }
	}))
	d := scriptNext(t, s)
	if d.Alert.ID != "k00000001" {
		t.Errorf("got %s", d.Alert.Raw)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
	scriptNothing(t, s, 300*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	if len(notes) != 7 {
		t.Errorf("%d notes: %+v", len(notes), notes)
	}
	for _, n := range notes {
		if n.What != bridge.NoteDeadLetter || n.Source != "kuma" || strings.ContainsAny(n.Detail, "\n\u202e") {
			t.Errorf("note %+v", n)
		}
	}
	if left := spoolNames(t, dir); len(left) != 2 { // bad and the young unfinished file
		t.Errorf("left: %q", left)
	}
}

func TestASpoolEverybodyMayWriteToNeedsItsWriters(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	if err := os.Chmod(dir, os.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	s := newScript(t, func(c *ScriptConfig) { c.Spool = dir })
	if err := s.readSpool(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), "everybody") {
		t.Errorf("got %v", err)
	}
	s = runScript(t, newScript(t, func(c *ScriptConfig) { c.Spool, c.Writers = dir, []uint32{uint32(os.Geteuid())} }))
	mustSpool(t, dir, newCall(1))
	if d := scriptNext(t, s); d.Alert.ID != "k00000001" {
		t.Errorf("got %s", d.Alert.ID)
	}
}

func TestScriptSettingsAreChecked(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for name, cfg := range map[string]ScriptConfig{
		"no name":     {Socket: "/s", Logger: log},
		"neither":     {Name: "k", Logger: log},
		"relative":    {Name: "k", Socket: "s", Logger: log},
		"long":        {Name: "k", Socket: "/" + strings.Repeat("s", 200), Logger: log},
		"no logger":   {Name: "k", Socket: "/s"},
		"negative":    {Name: "k", Spool: "/s", Scan: -1, Logger: log},
		"relative/sp": {Name: "k", Spool: "s", Logger: log},
	} {
		if _, err := NewScript(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	s := newScript(t, func(c *ScriptConfig) { c.Spool = "/nowhere/spool" })
	if s.Connected() {
		t.Error("connected before it runs")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.Receive(t.Context()); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("run after close")
	}
}

func BenchmarkHandOverToARunningBridge(b *testing.B) {
	socket := filepath.Join(filepath.Dir(newSpool(b)), "s")
	s := runScript(b, newScript(b, func(c *ScriptConfig) { c.Socket = socket }))
	ctx, stop := context.WithCancel(b.Context())
	var pipe sync.WaitGroup
	defer pipe.Wait()
	defer stop()
	pipe.Go(func() {
		for {
			d, err := s.Receive(ctx)
			if err != nil {
				return
			}
			_ = d.Settle(ctx, nil)
		}
	})
	for b.Loop() {
		if _, err := callout.HandOver(ctx, callout.HandOverConfig{Socket: socket, Budget: time.Minute}, newCall(1)); err != nil {
			b.Fatal(err)
		}
	}
}
