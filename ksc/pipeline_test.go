package ksc_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

// orderBook is a store that keeps orders in memory. What a pipeline that sends orders does not need is not there.
type orderBook struct {
	bridge.Store
	mu     sync.Mutex // guards orders
	orders map[string]bridge.Order
}

func (b *orderBook) Admit(_ context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []bridge.Admitted
	for _, o := range a.Orders {
		b.orders[o.ID] = o
		out = append(out, bridge.Admitted{Order: o})
	}
	return out, nil
}

func (b *orderBook) Move(_ context.Context, o bridge.Order, from bridge.State) (bridge.Order, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.orders[o.ID].State != from {
		return o, bridge.ErrStale
	}
	b.orders[o.ID] = o
	return o, nil
}

func (b *orderBook) Note(context.Context, bridge.Note) error { return nil }

func (b *orderBook) get(id string) bridge.Order {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.orders[id]
}

// oneAlert is a source that delivers once and a mapper that makes one order of it.
type oneAlert struct {
	order     bridge.Order
	delivered bool
}

func (a *oneAlert) Receive(context.Context) (bridge.Delivery, error) {
	if a.delivered {
		return bridge.Delivery{}, bridge.ErrClosed
	}
	a.delivered = true
	return bridge.Delivery{Alert: bridge.Alert{ID: a.order.AlertID, Source: "test"}, Settle: func(context.Context, error) error { return nil }}, nil
}

func (a *oneAlert) Map(alert bridge.Alert) ([]bridge.Mapped, error) {
	return []bridge.Mapped{{Alert: alert, Orders: []bridge.Order{a.order}}}, nil
}

// runOrder takes an order through a pipeline to the end of the pipeline's work and returns it as stored.
func runOrder(t *testing.T, book *orderBook, ex bridge.Executor, o bridge.Order, settle time.Duration) bridge.Order {
	t.Helper()
	protect, err := bridge.NewProtect(bridge.ProtectConfig{})
	if err != nil {
		t.Error(err)
		return o
	}
	guard, err := bridge.NewGuard(bridge.GuardConfig{Protect: protect, Hold: &bridge.HoldSwitch{}, Ceiling: bridge.ModeEnforce})
	if err != nil {
		t.Error(err)
		return o
	}
	a := &oneAlert{order: o}
	p, err := bridge.NewPipeline(bridge.PipelineConfig{
		Mapper: a, Store: book, Guard: guard, Settle: settle,
		Router: bridge.Router{KSC: ex, Self: bridge.Identity{Names: []string{"here.corp.local"}}},
	})
	if err != nil {
		t.Error(err)
		return o
	}
	if err := p.Run(t.Context(), []bridge.NamedSource{{Name: "test", Source: a}}, nil); err != nil {
		t.Error(err)
	}
	return book.get(o.ID)
}

// killOf is an order whose body nobody else's equals.
func killOf(name string) bridge.Order {
	return bridge.Order{
		ID: "o" + name, AlertID: "a" + name, Source: "test", Rule: "r", Host: "WS-01", Mode: bridge.ModeEnforce,
		Task: bridge.TerminateProcess{Path: `C:\case\` + name + `.exe`}, AlertTime: time.Now(),
	}
}

// cable is a TCP proxy that breaks once, after so many bytes of a direction.
type cable struct {
	net.Listener
	to string

	up, down atomic.Int64 // bytes forwarded to the server and from it
	broken   atomic.Int64

	mu    sync.Mutex // guards the fields below
	armed bool
	upto  bool // towards the server
	left  int
}

func startCable(t *testing.T, to string) *cable {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: ln, to: to}
	var lines sync.WaitGroup
	lines.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			lines.Go(func() { c.carry(far, near, true) })
			lines.Go(func() { c.carry(near, far, false) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); lines.Wait() })
	return c
}

// cut breaks the line after n further bytes of a direction, when the next one comes.
func (c *cable) cut(up bool, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.upto, c.left = true, up, n
}

// mend takes back a cut that did not happen.
func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
}

// pass returns how many of n bytes may go on and whether the line breaks behind them.
func (c *cable) pass(up bool, n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed || c.upto != up {
		return n, false
	}
	if n <= c.left {
		c.left -= n
		return n, false
	}
	c.armed = false
	c.broken.Add(1)
	return c.left, true
}

func (c *cable) carry(to, from net.Conn, up bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	count := &c.down
	if up {
		count = &c.up
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		n, cut := c.pass(up, n)
		count.Add(int64(n))
		if _, werr := to.Write(buf[:n]); cut || err != nil || werr != nil {
			return
		}
	}
}

// breaking is an executor whose line breaks when it first executes.
type breaking struct {
	*ksc.Executor
	prepare func()
}

func (b *breaking) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	if b.prepare != nil {
		b.prepare()
		b.prepare = nil
	}
	return b.Executor.Execute(ctx, o)
}

// line is a client with one connection, which goes through a cable.
type line struct {
	cable  *cable
	client *ksc.Client
}

func newLine(t *testing.T, s *ksctest.Server) line {
	t.Helper()
	c := startCable(t, s.Addr())
	client := newClient(t, s, func(cfg *ksc.Config) { cfg.Address, cfg.InFlight = c.Addr().String(), 1 })
	return line{c, client}
}

// exchange measures the bytes of one AddIncident in both directions.
func (l line) exchange(t *testing.T) (up, down int) {
	t.Helper()
	if err := l.client.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	in, _, err := newExecutor(t, l.client).Intend(t.Context(), killOf("up-0000"), true)
	if err != nil {
		t.Fatal(err)
	}
	u, d := l.cable.up.Load(), l.cable.down.Load()
	if _, err := l.client.AddIncident(t.Context(), ksc.NewIncident{Severity: 2, Added: ksc.DateTime{Time: in.Second}, Body: in.Body, Host: in.Target}); err != nil {
		t.Fatal(err)
	}
	return int(l.cable.up.Load() - u), int(l.cable.down.Load() - d)
}

func TestF18ExchangeCutAtEveryByteBothWaysEndsInExactlyOneIncident(t *testing.T) {
	t.Parallel()
	const lines, settle = 4, 2 * time.Millisecond
	s := startMock(t)
	up, down := newLine(t, s).exchange(t)
	if up < 400 || down < 100 {
		t.Fatalf("an exchange of %d and %d bytes was not measured right", up, down)
	}
	type cut struct {
		up bool
		at int
	}
	cuts := make(chan cut, up+down+16)
	for at := range up {
		cuts <- cut{true, at}
	}
	for at := range down {
		cuts <- cut{false, at}
	}
	all := len(cuts)
	close(cuts)
	book := &orderBook{orders: map[string]bridge.Order{}}
	var broken atomic.Int64
	var work sync.WaitGroup
	for range lines {
		l := newLine(t, s)
		inner := newExecutor(t, l.client, func(c *ksc.ExecutorConfig) { c.Now = time.Now })
		work.Go(func() {
			for c := range cuts {
				if err := l.client.Ping(t.Context()); err != nil { // so that nothing but the exchange goes over the line
					t.Error(err)
					return
				}
				name := fmt.Sprintf("up-%04d", c.at)
				if !c.up {
					name = fmt.Sprintf("dn-%04d", c.at)
				}
				o := runOrder(t, book, &breaking{inner, func() { l.cable.cut(c.up, c.at) }}, killOf(name), settle)
				l.cable.mend()
				if o.State != bridge.StateAccepted {
					t.Errorf("%s: order ended as %s: %s", name, o.State, o.Detail)
				}
			}
			broken.Add(l.cable.broken.Load())
		})
	}
	work.Wait()
	// The number of the incident makes answers differ by a byte or two.
	if n := int(broken.Load()); n < all-4*3 || n > all {
		t.Errorf("%d of %d exchanges were cut", n, all)
	}
	incidents := map[string][]ksctest.Incident{}
	for _, i := range s.Incidents()[1:] { // the first was measured with
		incidents[i.Body] = append(incidents[i.Body], i)
	}
	if len(incidents) != all {
		t.Errorf("incidents of %d orders, want %d", len(incidents), all)
	}
	for _, o := range book.orders {
		got := incidents[o.Intent.Body]
		if len(got) != 1 {
			t.Errorf("%s: %d incidents, want exactly 1", o.ID, len(got))
		} else if strconv.Itoa(got[0].ID) != o.Ref || got[0].Updates == 0 || got[0].Handled {
			t.Errorf("%s: order says incident %s: %+v", o.ID, o.Ref, got[0])
		}
	}
}

func TestF26SearchThatLagsLessThanTwoSettleTimesAdoptsAndNeverDoubles(t *testing.T) {
	t.Parallel()
	const settle = 250 * time.Millisecond
	for name, lag := range map[string]time.Duration{"less than one": settle / 5, "more than one": settle * 6 / 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t, func(c *ksctest.Config) { c.SearchLag = lag })
			e := newExecutor(t, newClient(t, s), func(c *ksc.ExecutorConfig) { c.Now = time.Now })
			addFault(t, s, ksctest.Fault{Kind: ksctest.FaultReset, Method: addIncident, Stored: true, Count: 1})
			o := runOrder(t, &orderBook{orders: map[string]bridge.Order{}}, e, killOf("lag"), settle)
			if n := s.AddedIncidents(); n != 1 || o.State != bridge.StateAccepted || o.Ref != "1" {
				t.Errorf("%d incidents, order %s with incident %q: %s", n, o.State, o.Ref, o.Detail)
			}
			if n := s.Requests()[findIncidents]; n < 1 || n > 2 {
				t.Errorf("%d searches", n)
			}
		})
	}
}
