package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// house is a running bridge in a bubble of synctest: pipeline, keeper and a store with a ledger.
type house struct {
	*cabinet
	*queue
	hold  *bridge.HoldSwitch
	pipe  *bridge.Pipeline
	log   *logLines
	stop  func() // ends pipeline and keeper, and waits for both
	ended chan error
}

// houseConfig is what a test changes about it.
type houseConfig struct {
	mapper   bridge.Mapper
	router   bridge.Router
	policy   bridge.Policy
	guard    func(*bridge.GuardConfig)
	pipe     func(*bridge.PipelineConfig)
	keeper   *bridge.KeeperConfig // nil = no keeper
	seed     func(*cabinet)
	resume   func(context.Context) ([]bridge.Order, error)
	sleeping bool // nothing is started
}

// openHouse starts a bridge; it has to be called inside a bubble and ends with the test.
func openHouse(t *testing.T, cfg houseConfig) *house {
	t.Helper()
	h := &house{cabinet: newCabinet(cfg.policy), queue: newQueue(), hold: &bridge.HoldSwitch{}, log: &logLines{}, ended: make(chan error, 1)}
	if cfg.seed != nil {
		cfg.seed(h.cabinet)
	}
	protect, err := bridge.NewProtect(bridge.ProtectConfig{})
	if err != nil {
		t.Fatal(err)
	}
	guarded := bridge.GuardConfig{Protect: protect, Hold: h.hold, Ceiling: bridge.ModeEnforce}
	if cfg.guard != nil {
		cfg.guard(&guarded)
	}
	guard, err := bridge.NewGuard(guarded)
	if err != nil {
		t.Fatal(err)
	}
	cfg.router.Self = bridge.Identity{Names: []string{"here.corp.local"}}
	logger := slog.New(slog.NewTextHandler(h.log, nil))
	piped := bridge.PipelineConfig{Mapper: cfg.mapper, Store: h.cabinet, Guard: guard, Router: cfg.router, Logger: logger}
	if cfg.pipe != nil {
		cfg.pipe(&piped)
	}
	if h.pipe, err = bridge.NewPipeline(piped); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	h.stop = sync.OnceFunc(func() { cancel(); parts.Wait() })
	t.Cleanup(h.stop)
	if cfg.sleeping {
		return h
	}
	parts.Go(func() { h.ended <- h.pipe.Run(ctx, []bridge.NamedSource{{Name: "test", Source: h.queue}}, cfg.resume) })
	if cfg.keeper != nil {
		cfg.keeper.Cabinet, cfg.keeper.Pipe, cfg.keeper.Hold, cfg.keeper.Logger = h.cabinet, h.pipe, h.hold, logger
		keeper, err := bridge.NewKeeper(*cfg.keeper)
		if err != nil {
			t.Fatal(err)
		}
		parts.Go(func() { keeper.Run(ctx) })
	}
	synctest.Wait()
	return h
}

// pages yields the orders in one page.
func pages(orders ...bridge.Order) func(context.Context) ([]bridge.Order, error) {
	return func(context.Context) ([]bridge.Order, error) {
		page := orders
		orders = nil
		return page, nil
	}
}

// logLines keeps what was logged.
type logLines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// with returns the lines that hold every part.
func (l *logLines) with(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
lines:
	for line := range strings.SplitSeq(l.text.String(), "\n") {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		found = append(found, line)
	}
	return found
}

// site is a KSC of one test: it knows how each host stands, and does what the test says with each order.
type site struct {
	mu       sync.Mutex // guards everything below
	isolated map[string]bool
	added    map[string]bool // orders that reached it
	calls    []string
	looks    int
	// answer says what becomes of the nth call (from 1): the effect, and what the bridge hears. nil = done at once.
	answer func(ctx context.Context, o bridge.Order, n int) (effect bool, err error)
	// search overrules what a search finds.
	search func(o bridge.Order, n int) (found bool, err error)
	// address says what Intend answers; nil = always addressed.
	address func(ctx context.Context, o bridge.Order, wait bool) (ok bool, err error)
	names   []string // that Intend learns
}

func newSite() *site { return &site{isolated: map[string]bool{}, added: map[string]bool{}} }

func (s *site) do(o bridge.Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.added[o.ID] = true
	if iso, is := o.Task.(bridge.IsolateHost); is {
		s.isolated[strings.ToLower(o.Host)] = iso.Action == bridge.IsolationOn
	}
}

func (s *site) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	s.mu.Lock()
	s.calls = append(s.calls, o.ID)
	n := len(s.calls)
	s.mu.Unlock()
	effect, err := true, error(nil)
	if s.answer != nil {
		effect, err = s.answer(ctx, o, n)
	}
	if effect {
		s.do(o)
	}
	return bridge.Receipt{State: bridge.StateAccepted, Ref: "7"}, err
}

func (s *site) Intend(ctx context.Context, o bridge.Order, wait bool) (bridge.Intent, bool, error) {
	in := bridge.Intent{Target: "guid-" + strings.ToLower(o.Host), Names: s.names, Body: o.ID}
	if s.address != nil {
		ok, err := s.address(ctx, o, wait)
		return in, ok, err
	}
	return in, true, nil
}

func (s *site) Reconcile(_ context.Context, o bridge.Order) (bridge.Receipt, bool, error) {
	s.mu.Lock()
	s.looks++
	n, found := s.looks, s.added[o.ID]
	s.mu.Unlock()
	var err error
	if s.search != nil {
		found, err = s.search(o, n)
	}
	return bridge.Receipt{State: bridge.StateAccepted, Ref: "7"}, found, err
}

// sent returns the ids of the orders it was called for, looked how often it was searched.
func (s *site) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *site) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func (s *site) asked() string { return fmt.Sprint(s.sent()) }

func (s *site) stands(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isolated[strings.ToLower(host)]
}

func release(id, host string) bridge.Order {
	o := kill(id, host)
	o.Task = bridge.IsolateHost{Action: bridge.IsolationOff}
	return o
}

// byHand makes an order one that a person entered.
func byHand(o bridge.Order) bridge.Order {
	o.Rule, o.AlertID, o.Source, o.Actor, o.AlertTime = "", "", "", "cli:alice", time.Time{}
	return o
}

// away is an answer of a KSC that cannot be reached until the moment given.
func away(until time.Time) func(context.Context, bridge.Order, int) (bool, error) {
	return func(context.Context, bridge.Order, int) (bool, error) {
		if time.Now().Before(until) {
			return false, execErr(bridge.Unreachable)
		}
		return true, nil
	}
}

// wantState waits until everybody waits, then compares the state of an order.
func (h *house) wantState(t *testing.T, id string, want bridge.State) {
	t.Helper()
	synctest.Wait()
	if got := h.order(id); got.State != want {
		t.Errorf("%s is %q (%s: %s) after %s, want %q", id, got.State, got.Reason, got.Detail, h.path(id), want)
	}
}

// submit sends orders by hand and fails the test when that takes longer than within.
func (h *house) submit(t *testing.T, within time.Duration, orders ...bridge.Order) []bridge.Order {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	out, err := h.pipe.Submit(ctx, orders)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("submit did not answer within %s: %v", within, out)
	} else if err != nil {
		t.Errorf("submit: %v", err)
	}
	return out
}
