package sensor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
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
		Send: func(_ context.Context, doc []byte) error { return s.outbox.put(doc) },
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
	o := newOutbox(time.Now)
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
	o := newOutbox(time.Now)
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
	if _, lost, _ := o.waits(); lost != maxWaiting+1 {
		t.Errorf("%d lost, want %d", lost, maxWaiting+1)
	}
}

func TestEmitFailuresAreSpooledAndReplayedInOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	var got []string
	down := true
	cfg := Config{Spool: Spool{Dir: dir}, Emit: func(_ context.Context, doc []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if down {
			return errors.New("connection refused")
		}
		got = append(got, readDocument(t, doc).Title)
		return nil
	}}
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
		wg.Go(func() { s.emitAll(ctx) })
		return s, func() {
			cancel()
			wg.Wait()
			if err := s.outbox.close(); err != nil {
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
	s, err := New(Config{Name: "s"})
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
	last := s.outbox.fresh[len(s.outbox.fresh)-1]
	if doc := readDocument(t, last.body); doc.Lost != 5 {
		t.Errorf("alert %+v", doc)
	}
	if n := s.outbox.untold(); n != 0 {
		t.Errorf("%d untold", n)
	}
}

func TestReceiveHandsOutWhatWaitsAfterRunHasEnded(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.outbox.put([]byte("{}"))
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
