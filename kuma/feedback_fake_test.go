package kuma

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// chain is the audit chain, the orders and the alerts of a bridge.
type chain struct {
	mu      sync.Mutex
	records []bridge.AuditRecord
	orders  map[string]bridge.Order
	cases   map[string]string // alert id → id of KUMA's alert
	leases  []bridge.Lease
	err     error
}

func newChain() *chain {
	return &chain{orders: map[string]bridge.Order{}, cases: map[string]string{}}
}

// admit puts an order in; move changes its state.
func (c *chain) admit(o bridge.Order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.Created = time.Now()
	c.orders[o.ID] = o
	c.record(bridge.AuditRecord{What: bridge.AuditAdmit, Order: o.ID, To: o.State, Reason: o.Reason, Task: o.Task.Kind(), Host: o.Host})
}

func (c *chain) move(id string, to ...bridge.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range to {
		o := c.orders[id]
		from := o.State
		o.State = s
		c.orders[id] = o
		c.record(bridge.AuditRecord{What: bridge.AuditMove, Order: id, From: from, To: s, Task: o.Task.Kind(), Host: o.Host})
	}
}

func (c *chain) note(what, detail string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record(bridge.AuditRecord{What: what, Detail: detail})
}

func (c *chain) record(r bridge.AuditRecord) {
	r.Seq, r.Time = int64(len(c.records)+1), time.Now()
	c.records = append(c.records, r)
}

func (c *chain) config(w FeedbackWriter, m *memo, plan FeedbackPlan) FeedbackConfig {
	return FeedbackConfig{
		Plan: plan, Client: w, Load: m.load, Save: m.save, Rand: func() float64 { return 1 },
		Records: func(_ context.Context, after int64, limit int) ([]bridge.AuditRecord, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			rest := c.records[min(int(after), len(c.records)):]
			return slices.Clone(rest[:min(len(rest), limit)]), c.err
		},
		Order: func(_ context.Context, id string) (bridge.Order, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			o, ok := c.orders[id]
			if !ok {
				return o, fmt.Errorf("order %s: %w", id, bridge.ErrNotFound)
			}
			return o, nil
		},
		Alert: func(_ context.Context, order string) (string, string, bool, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			o := c.orders[order]
			return c.cases[o.AlertID], testID(9, 1), o.Source == "kuma" && c.cases[o.AlertID] != "", nil
		},
		Leases: func(context.Context) ([]bridge.Lease, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return slices.Clone(c.leases), nil
		},
	}
}

// fakeWriter remembers what was written.
type fakeWriter struct {
	mu     sync.Mutex
	closed map[string]int
	rows   map[string][]string // the latest record of a host
	writes int
	fail   func(kind, key string) error
}

func (w *fakeWriter) CloseAlert(_ context.Context, id string, _ CloseReason) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	if w.fail != nil {
		if err := w.fail(feedbackClose, id); err != nil {
			return false, err
		}
	}
	if w.closed == nil {
		w.closed = map[string]int{}
	}
	w.closed[id]++
	return w.closed[id] > 1, nil
}

func (w *fakeWriter) ImportActiveList(_ context.Context, in ListImport) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	if err := in.check(); err != nil {
		return err
	}
	for _, row := range in.Rows {
		if w.fail != nil {
			if err := w.fail(feedbackRow, row[0]); err != nil {
				return err
			}
		}
		if w.rows == nil {
			w.rows = map[string][]string{}
		}
		w.rows[row[0]] = append([]string{in.List}, row[1:3]...)
	}
	return nil
}

func (w *fakeWriter) state() (closed map[string]int, rows map[string][]string, writes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.closed), maps.Clone(w.rows), w.writes
}

// runFeedback runs a Feedback inside a bubble; the function it returns stops it.
func runFeedback(t *testing.T, cfg FeedbackConfig) (*Feedback, func()) {
	t.Helper()
	f, err := NewFeedback(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop := func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	time.Sleep(time.Second) // the first start begins at this moment
	return f, stop
}

func terminate(id, alert string, s bridge.State) bridge.Order {
	return bridge.Order{ID: id, AlertID: alert, Source: "kuma", Host: "ws-017", Task: bridge.TerminateProcess{Path: `C:\a.exe`}, State: s}
}

func isolate(id, alert, host string, action int, s bridge.State) bridge.Order {
	return bridge.Order{ID: id, AlertID: alert, Source: "kuma", Host: host, Task: bridge.IsolateHost{Action: action}, State: s, For: 4 * time.Hour}
}

func plan() FeedbackPlan {
	return FeedbackPlan{Close: CloseResponded, Lists: []FeedbackList{{Correlator: testID(5, 1), List: "isolated"}}}
}
