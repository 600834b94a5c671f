package kuma

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
	"github.com/edr-bridge/edr-bridge/kuma/kumatest"
)

// memo keeps the text of a watermark.
type memo struct {
	mu    sync.Mutex
	text  string
	saves int
	err   error
}

func (m *memo) load(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text, m.err
}

func (m *memo) save(_ context.Context, text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.text = text
	m.saves++
	return nil
}

func (m *memo) set(text string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.text, m.err = text, err
}

// openPoll starts a Poll on the mock core as the suite wants it.
func openPoll(t *testing.T, srv *kumatest.Server, m *memo, sent *int) bridgetest.SourceUnderTest {
	t.Helper()
	p, err := NewPoll(PollConfig{
		Name: "kuma", Preset: "kuma-alert", Client: newTestClient(t, srv, nil), Retry: 20 * time.Millisecond, Load: m.load, Save: m.save,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.cfg.Every = 15 * time.Millisecond
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(context.Background()); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		_ = p.Close(context.Background())
		wg.Wait()
	})
	return bridgetest.SourceUnderTest{
		Source: p, Name: "kuma", Preset: "kuma-alert", Durable: true, Quiet: 200 * time.Millisecond,
		Send: func(_ context.Context, doc []byte) error { return srv.PutAlert(doc) },
		Documents: func(n int) [][]byte {
			docs := make([][]byte, 0, n)
			for range n {
				*sent++
				docs = append(docs, fmt.Appendf(nil, `{"id":%q,"status":"new","lastSeen":%q,"name":"é <&> \"x\"","events":[]}`,
					testID(3, *sent), time.Now().Add(time.Duration(*sent)*time.Millisecond).UTC().Format(time.RFC3339Nano)))
			}
			return docs
		},
		Close: p.Close,
		Reopen: func(t *testing.T) bridgetest.SourceUnderTest {
			t.Helper()
			return openPoll(t, srv, m, sent)
		},
	}
}

// fakeCore answers searches for alerts from memory, for tests with a fake clock.
type fakeCore struct {
	mu     sync.Mutex
	alerts []Alert
	err    error
	looks  []time.Time // when lists were asked for
	before func(q AlertQuery)
}

func (f *fakeCore) Alerts(ctx context.Context, q AlertQuery) ([]Alert, error) {
	if f.before != nil {
		f.before(q)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(q.IDs) == 0 {
		f.looks = append(f.looks, time.Now())
	}
	if f.err != nil {
		return nil, f.err
	}
	var found []Alert
	for _, a := range f.alerts {
		if len(q.IDs) > 0 && q.IDs[0] != a.ID || a.LastSeen.Before(q.From) || !q.To.IsZero() && a.LastSeen.After(q.To) {
			continue
		}
		found = append(found, a)
	}
	found = oldestFirst(found, len(found))
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	first := min(max(q.Page-1, 0)*AlertPage, len(found))
	return found[first:min(first+AlertPage, len(found))], nil
}

func (f *fakeCore) put(a Alert) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.alerts {
		if f.alerts[i].ID == a.ID {
			f.alerts[i] = a
			return
		}
	}
	f.alerts = append(f.alerts, a)
}

func (f *fakeCore) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.looks = nil
}

func (f *fakeCore) times() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.looks...)
}

func fakeAlert(n int, at time.Time) Alert {
	return Alert{ID: testID(1, n), LastSeen: at, Document: fmt.Appendf(nil, `{"n":%d}`, n), TenantID: testID(9, 1)}
}

// runPoll runs a Poll inside a bubble.
func runPoll(t *testing.T, core *fakeCore, m *memo, change func(*PollConfig)) *Poll {
	t.Helper()
	cfg := PollConfig{Name: "kuma", Client: core, Load: m.load, Save: m.save, Rand: func() float64 { return 1 }}
	if change != nil {
		change(&cfg)
	}
	p, err := NewPoll(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(context.Background()) })
	t.Cleanup(func() {
		_ = p.Close(context.Background())
		wg.Wait()
	})
	return p
}

// receive returns the next delivery, or fails after a fake minute.
func receive(t *testing.T, s bridge.Source) bridge.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := s.Receive(ctx)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	return d
}

func silent(t *testing.T, s bridge.Source, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if got, err := s.Receive(ctx); err == nil {
		t.Fatalf("%s was delivered", got.Alert.ID)
	}
}

func settle(t *testing.T, d bridge.Delivery, err error) {
	t.Helper()
	if err := d.Settle(context.Background(), err); err != nil {
		t.Fatalf("settle: %v", err)
	}
}

// repeating ignores the number of the page.
type repeating struct{ *fakeCore }

func (r repeating) Alerts(ctx context.Context, q AlertQuery) ([]Alert, error) {
	q.Page = 1
	return r.fakeCore.Alerts(ctx, q)
}
