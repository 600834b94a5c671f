package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// fakeDesk is a bridge.Desk in memory. Its clock stands still.
type fakeDesk struct {
	sending   func(context.Context) error // called in the middle of Send
	verifying func(context.Context) error // called in the middle of VerifyAudit

	mu      sync.Mutex // guards what follows
	orders  []bridge.Order
	letters []bridge.DeadLetter
	records []bridge.AuditRecord
	hold    bridge.Hold
}

var _ bridge.Desk = (*fakeDesk)(nil)

func fakeNow() time.Time { return time.Date(2026, 11, 20, 9, 0, 0, 123456789, time.UTC) }

func newFakeDesk(t testing.TB) *fakeDesk {
	t.Helper()
	d := &fakeDesk{}
	for i, task := range []bridge.Task{
		bridge.IsolateHost{Action: bridge.IsolationOn}, bridge.DeleteFile{Path: "/tmp/a\u202e<b>"}, bridge.OnDemandScan{}, nil,
	} {
		o := bridge.Order{
			ID: fmt.Sprintf("o%d0", i), Host: fmt.Sprintf("ws%d\xff", i), Rule: "rule", At: "a.yaml:1", Task: task,
			State: bridge.StateQueued, Created: fakeNow(), Due: fakeNow().Add(time.Hour), For: 4 * time.Hour,
			Intent: bridge.Intent{Names: []string{"WS", "group:Managed devices/x"}, Body: `{"a":"&"}`},
		}
		if i == 1 {
			o.State, o.Reason = bridge.StateHeld, bridge.ReasonApproval
		}
		d.orders = append(d.orders, o)
	}
	d.orders = append(d.orders, bridge.Order{ID: "o01", State: bridge.StateDone, Task: bridge.IsolateHost{}})
	for _, doc := range []string{"{", "\x00\xff"} {
		id := bridge.LetterID("bus", "1-0", []byte(doc))
		d.letters = append(d.letters, bridge.DeadLetter{ID: id, Source: "bus", Document: []byte(doc), Error: "bad \xff", Attempts: 1, First: fakeNow()})
	}
	for i := range 3 {
		r := bridge.AuditRecord{Seq: int64(i + 1), Time: fakeNow(), What: bridge.AuditAdmit, Order: "o00", Alert: []byte{1, 2}, Keyed: true}
		r.Hash = sha256.Sum256([]byte{byte(i)})
		d.records = append(d.records, r)
	}
	return d
}

func (d *fakeDesk) find(id string) (*bridge.Order, error) {
	var found *bridge.Order
	for i := range d.orders {
		switch {
		case !strings.HasPrefix(d.orders[i].ID, id):
		case found != nil:
			return nil, fmt.Errorf("order %s: %w", id, bridge.ErrAmbiguous)
		default:
			found = &d.orders[i]
		}
	}
	if found == nil {
		return nil, fmt.Errorf("order %s: %w", id, bridge.ErrNotFound)
	}
	return found, nil
}

func (d *fakeDesk) Orders(_ context.Context, f bridge.OrderFilter) ([]bridge.Order, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []bridge.Order
	for _, o := range d.orders {
		if (f.Host == "" || f.Host == o.Host) && (f.State == "" || f.State == o.State) && !o.Created.Before(f.Since) {
			out = append(out, o)
		}
	}
	return out, nil
}

func (d *fakeDesk) Order(_ context.Context, id string) (bridge.Order, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.find(id)
	if err != nil {
		return bridge.Order{}, err
	}
	return *o, nil
}

func (d *fakeDesk) Audit(_ context.Context, f bridge.AuditFilter) ([]bridge.AuditRecord, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []bridge.AuditRecord
	for _, r := range d.records {
		if r.Seq > f.After && (f.Order == "" || f.Order == r.Order) {
			out = append(out, r)
		}
	}
	return out, nil
}

func (d *fakeDesk) VerifyAudit(ctx context.Context, known *bridge.Anchor) (bridge.AuditReport, error) {
	if d.verifying != nil {
		if err := d.verifying(ctx); err != nil {
			return bridge.AuditReport{}, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	last := d.records[len(d.records)-1]
	r := bridge.AuditReport{First: 1, Records: int64(len(d.records)), Head: bridge.Anchor{Seq: last.Seq, Hash: last.Hash}}
	if known != nil && *known != r.Head {
		r.FirstBad, r.Problem = known.Seq, fmt.Sprintf("%x", known.Hash)
	}
	return r, nil
}

func (d *fakeDesk) Leases(context.Context) ([]bridge.Lease, error) {
	return []bridge.Lease{{Order: "o00", Host: "ws0", Since: fakeNow(), Tries: 2, End: bridge.LeaseProduct}}, nil
}

func (d *fakeDesk) Hold(context.Context) (bridge.Hold, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hold, nil
}

func (d *fakeDesk) Letters(_ context.Context, p bridge.Page) ([]bridge.DeadLetter, bridge.Page, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.After >= int64(len(d.letters)) {
		return nil, p, nil
	}
	return d.letters[p.After : p.After+1], bridge.Page{After: p.After + 1, Limit: p.Limit}, nil
}

func (d *fakeDesk) Letter(_ context.Context, id string) (bridge.DeadLetter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.letters {
		if strings.HasPrefix(l.ID, id) {
			return l, nil
		}
	}
	return bridge.DeadLetter{}, bridge.ErrNotFound
}

// Send lets the host decide what comes of an order.
func (d *fakeDesk) Send(ctx context.Context, orders []bridge.Order) ([]bridge.Order, error) {
	if d.sending != nil {
		if err := d.sending(ctx); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for i := range orders {
		orders[i].State, orders[i].Ref = bridge.StateAccepted, "17"
		if orders[i].Host == "dark" {
			orders[i].State = bridge.StateFailed
			err = &bridge.ExecError{Executor: "ksc", OrderID: orders[i].ID, Class: bridge.Retry, Reason: bridge.ReasonUnreachable, Err: errors.New("dark")}
		}
	}
	d.orders = append(d.orders, orders...)
	return orders, err
}

func (d *fakeDesk) SetHold(_ context.Context, h bridge.Hold) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold = h
	return nil
}

func (d *fakeDesk) Decide(_ context.Context, w bridge.Decision) (bridge.Order, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.find(w.Order)
	if err != nil {
		return bridge.Order{}, err
	}
	decided, err := bridge.Decide(*o, w, true, fakeNow(), fakeNow().Add(time.Minute))
	if err == nil {
		*o = decided
	}
	return decided, err
}

func (d *fakeDesk) Cancel(_ context.Context, id, actor, why string) (bridge.Order, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.find(id)
	if err != nil {
		return bridge.Order{}, err
	}
	if o.State != bridge.StateQueued {
		return *o, fmt.Errorf("order %s: %w", id, bridge.ErrStale)
	}
	o.State, o.Detail = bridge.StateCancelled, actor+": "+why
	return *o, nil
}

func (d *fakeDesk) RetryLetter(ctx context.Context, id, actor string) (bridge.DeadLetter, error) {
	l, err := d.Letter(ctx, id)
	if err == nil {
		l.Retry, l.By = fakeNow(), actor
	}
	return l, err
}

func (d *fakeDesk) DropLetter(ctx context.Context, id, actor, why string) (bridge.DeadLetter, error) {
	l, err := d.Letter(ctx, id)
	if err == nil {
		l.By, l.Error = actor, why
	}
	return l, err
}
