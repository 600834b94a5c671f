package sensor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

func readDocument(t *testing.T, raw []byte) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return d
}

// sourceUnderTest is a sensor of a world without processes; documents are put where its alerts go.
func sourceUnderTest(t *testing.T, dir string) bridgetest.SourceUnderTest {
	t.Helper()
	s, err := New(Config{Name: "sensor", Preset: "python-edr", Spool: Spool{Dir: dir}})
	if err != nil {
		t.Fatal(err)
	}
	s.world = newFakeWorld(t)
	if err := s.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := bridgetest.SourceUnderTest{
		Source: s, Name: "sensor", Preset: "python-edr", Close: s.Close,
		Send: func(_ context.Context, doc []byte) error { return s.outboxes[0].put(doc) },
	}
	if dir != "" {
		u.Durable = true
		u.Reopen = func(t *testing.T) bridgetest.SourceUnderTest { t.Helper(); return sourceUnderTest(t, dir) }
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return u
}

func TestSensorWithSpoolIsADurableSource(t *testing.T) {
	t.Parallel()
	bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest { t.Helper(); return sourceUnderTest(t, t.TempDir()) })
}

func TestSensorWithoutSpoolIsASource(t *testing.T) {
	t.Parallel()
	bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest { t.Helper(); return sourceUnderTest(t, "") })
}

func box(t *testing.T, dir string, limit int64) *outbox {
	t.Helper()
	o := newOutbox("", nil, time.Now)
	if _, err := o.open(dir, limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.close() })
	return o
}

// drain settles what waits and returns it.
func (o *outbox) drain(t *testing.T) []string {
	t.Helper()
	var list []string
	for {
		w, _ := o.take()
		if w == nil {
			return list
		}
		list = append(list, string(w.body))
		if err := o.settle(w); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSlowReaderLosesNothing(t *testing.T) {
	t.Parallel()
	o := box(t, t.TempDir(), 64<<20)
	var want []string
	for i := range 20 * maxHeld {
		doc := fmt.Sprintf(`{"n":%d}`, i)
		want = append(want, doc)
		if err := o.put([]byte(doc)); err != nil {
			t.Fatal(err)
		}
	}
	if o.held > maxHeld {
		t.Errorf("%d bodies in memory, want at most %d", o.held, maxHeld)
	}
	if got := o.drain(t); !slices.Equal(got, want) {
		t.Errorf("%d alerts of %d, or in another order", len(got), len(want))
	}
}

func TestOutboxWithoutSpoolIsBounded(t *testing.T) {
	t.Parallel()
	o := newOutbox("", nil, time.Now)
	for i := range maxWaiting {
		if err := o.put(fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.put([]byte("x")); !errors.Is(err, errNoRoom) {
		t.Errorf("one too many: %v", err)
	}
	if err := o.close(); err != nil {
		t.Fatal(err)
	}
	if _, lost, _, _ := o.waits(); lost != maxWaiting+1 {
		t.Errorf("%d lost, want %d", lost, maxWaiting+1)
	}
}

func TestEmitFailuresAreSpooledAndReplayedInOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	var got []string
	down := true
	cfg := Config{Spool: Spool{Dir: dir}, Emit: map[string]Emit{"redis": func(_ context.Context, doc []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if down {
			return errors.New("connection refused")
		}
		got = append(got, readDocument(t, doc).Title)
		return nil
	}}}
	open := func() (*Sensor, func()) {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.world = newFakeWorld(t)
		if err := s.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.emitAll(ctx, s.outboxes[0]) })
		return s, func() {
			cancel()
			wg.Wait()
			if err := s.outboxes[0].close(); err != nil {
				t.Error(err)
			}
		}
	}
	put := func(s *Sensor, title string) {
		s.finish(sighting{document: document{Title: title, ID: alertID(title)}})
	}
	s, stop := open()
	put(s, "1")
	put(s, "2")
	for end := time.Now().Add(10 * time.Second); s.Status().EmitError == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if st := s.Status(); st.EmitError == nil || st.Waiting != 2 {
		t.Errorf("status %+v", st)
	}
	stop() // a restart while the receiver is down
	s, stop = open()
	put(s, "3")
	mu.Lock()
	down = false
	mu.Unlock()
	for end := time.Now().Add(10 * time.Second); s.Status().Waiting > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	st := s.Status()
	stop()
	if !slices.Equal(got, []string{"1", "2", "3"}) || st.EmitError != nil || st.Waiting != 0 {
		t.Errorf("received %q, status %+v", got, st)
	}
	if _, stop = open(); len(got) != 3 {
		t.Errorf("received again: %q", got)
	}
	stop()
}

func TestAlertsLostAreToldByTheNextOne(t *testing.T) {
	t.Parallel()
	var notes []bridge.Note
	s, err := New(Config{Name: "s", OnNote: func(n bridge.Note) { notes = append(notes, n) }})
	if err != nil {
		t.Fatal(err)
	}
	for range maxWaiting + 5 {
		s.finish(sighting{document: document{Title: "x"}})
	}
	if st := s.Status(); st.Lost != 5 || st.Alerts != maxWaiting || st.Waiting != maxWaiting {
		t.Errorf("status %+v", st)
	}
	d, err := s.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.finish(sighting{document: document{Title: "next"}})
	last := s.outboxes[0].fresh[len(s.outboxes[0].fresh)-1]
	if doc := readDocument(t, last.body); doc.Lost != 5 {
		t.Errorf("alert %+v", doc)
	}
	s.note()
	s.note()
	if want := []bridge.Note{{What: bridge.NoteLoss, Source: "s", Count: 5, Detail: "alerts of the sensor found no room in its spool"}}; !slices.Equal(notes, want) {
		t.Errorf("notes %+v", notes)
	}
	if n := s.outboxes[0].telling(); n != 0 {
		t.Errorf("%d untold", n)
	}
}

func TestLossIsToldOnceByManyAtATime(t *testing.T) {
	t.Parallel()
	o := newOutbox("", nil, time.Now)
	o.lost = 3
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { _ = o.tell(document{Title: "x"}) })
	}
	wg.Wait()
	told := uint64(0)
	for _, doc := range o.drain(t) {
		told += readDocument(t, []byte(doc)).Lost
	}
	if told != 3 {
		t.Errorf("%d told, want 3", told)
	}
	if err := o.close(); err != nil {
		t.Fatal(err)
	}
	o.lost++
	if err := o.tell(document{Title: "late"}); err == nil || o.telling() != 2 {
		t.Error("what could not be told counts as told")
	}
}

func TestReceiverThatFailsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := map[string][]string{}
		var mu sync.Mutex // got
		var up atomic.Bool
		to := func(name string, fails bool) Emit {
			return func(_ context.Context, doc []byte) error {
				if fails && !up.Load() {
					return errors.New("nobody listens")
				}
				mu.Lock()
				defer mu.Unlock()
				got[name] = append(got[name], readDocument(t, doc).Title)
				return nil
			}
		}
		s, err := New(Config{Spool: Spool{Dir: t.TempDir()}, Emit: map[string]Emit{"dead": to("dead", true), "well": to("well", false)}})
		if err != nil {
			t.Fatal(err)
		}
		s.world = newFakeWorld(t)
		if err := s.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, box := range s.outboxes {
			wg.Go(func() { s.emitAll(ctx, box) })
		}
		for _, title := range []string{"1", "2"} {
			s.finish(sighting{document: document{Title: title, ID: alertID(title)}})
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if st := s.Status(); !slices.Equal(got["well"], []string{"1", "2"}) || len(got["dead"]) != 0 || st.Waiting != 2 || st.EmitError == nil || st.Alerts != 2 {
			t.Errorf("received %q, status %+v", got, st)
		}
		up.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		wg.Wait()
		if st := s.Status(); !slices.Equal(got["dead"], []string{"1", "2"}) || len(got["well"]) != 2 || st.Waiting != 0 || st.EmitError != nil {
			t.Errorf("received %q, status %+v", got, st)
		}
		if err := s.closeOutboxes(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatWaitsForAReceiverThatFailsOutlivesTheMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := box(t, dir, minSpool)
	gone, err := os.Create(filepath.Join(dir, "closed"))
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	put := func() {
		t.Helper()
		if err := o.put([]byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	put()
	// A file that is closed tells by its error that it was to be synced.
	o.spool.files = append([]*segment{{file: gone, open: 1}}, o.spool.files...)
	synced := func() bool {
		err := o.diskErr
		o.diskErr = nil
		return err != nil
	}
	put()
	if synced() {
		t.Error("each alert is synced although the receiver takes them")
	}
	w, _ := o.take()
	o.postpone(w)
	if !synced() {
		t.Error("not synced at the first failure")
	}
	put()
	if !synced() {
		t.Error("not synced while the receiver fails")
	}
	if err := o.settle(w); err != nil {
		t.Fatal(err)
	}
	o.diskErr = nil
	put()
	if synced() {
		t.Error("still synced although the receiver takes them again")
	}
	o.spool.files = o.spool.files[1:]
}

func TestReceiveHandsOutWhatWaitsAfterRunHasEnded(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.outboxes[0].put([]byte("{}"))
	if _, _, err := s.life.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.life.End()
	d, err := s.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(t.Context()); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}
