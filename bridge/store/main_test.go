package store

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

// The first argument of a test binary that runs as another process of a test.
const (
	childCrash = "child-crash" // writes until it is killed and prints what was acknowledged
	childLimit = "child-limit" // see limitChild
	childCold  = "child-cold"  // opens, admits, moves, closes and prints how long each took
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case childCrash:
			crashChild(os.Args[2])
			return
		case childCold:
			coldChild(os.Args[2])
			return
		case childLimit:
			limitChild(os.Args[2])
			return
		}
	}
	goleak.VerifyTestMain(m)
}

// childTB lets test helpers fail in a process that is not a test.
type childTB struct {
	testing.TB
}

func (childTB) Helper()           {}
func (childTB) Fatal(args ...any) { fmt.Fprintln(os.Stderr, args...); os.Exit(1) }

func openTest(t *testing.T, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func admitTest(t *testing.T, s *Store, orders ...bridge.Order) []bridge.Order {
	t.Helper()
	admitted, err := s.Admit(t.Context(), bridge.Admission{Orders: orders})
	if err != nil {
		t.Fatal(err)
	}
	var out []bridge.Order
	for _, ad := range admitted {
		out = append(out, ad.Order)
	}
	return out
}

func moveTest(t *testing.T, s *Store, o bridge.Order, to bridge.State) bridge.Order {
	t.Helper()
	from := o.State
	o.State = to
	o, err := s.Move(t.Context(), o, from)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func ids(orders []bridge.Order) []string {
	out := []string{}
	for _, o := range orders {
		out = append(out, o.ID)
	}
	return out
}

func numbered(t testing.TB, i int) bridge.Order {
	t.Helper()
	return bridgetest.NewOrder(t, fmt.Sprint("a", i), fmt.Sprint("ws", i%3))
}

// clock is a settable time source.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newClock() *clock { return &clock{at: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)} }
