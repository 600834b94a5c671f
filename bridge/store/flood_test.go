package store

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

// floods is how often the same thing comes, spread how many orders want the same second.
const (
	floods = 10_000
	spread = 3000
)

// flood admits orders from many goroutines and counts what became of them.
func flood(t *testing.T, s *Store, times int, order func(i int) bridge.Order) (states map[bridge.State]int, known int) {
	t.Helper()
	states = map[bridge.State]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan int)
	for range 64 {
		wg.Go(func() {
			for i := range next {
				out, err := s.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{order(i)}})
				mu.Lock()
				switch {
				case err != nil:
					t.Errorf("admit: %v", err)
				case out[0].Known:
					known++
				default:
					states[out[0].Order.State]++
				}
				mu.Unlock()
			}
		})
	}
	for i := range times {
		next <- i
	}
	close(next)
	wg.Wait()
	return states, known
}

func bodyDigest(body string) []byte {
	sum := sha256.Sum256([]byte(body))
	return sum[:]
}

func TestI12SameAlertTenThousandTimesIsOneOrder(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	states, known := flood(t, s, floods, func(int) bridge.Order { return bridgetest.NewOrder(t, "a", "ws01") })
	if states[bridge.StateQueued] != 1 || known != floods-1 {
		t.Errorf("delivered again: %v and %d known, want 1 queued and %d known", states, known, floods-1)
	}
}

func TestSameAlertUnderManyNamesIsOneOrder(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	states, known := flood(t, s, floods, func(i int) bridge.Order {
		o := numbered(t, i)
		o.Dedupe, o.Window = "same", time.Hour
		return o
	})
	if states[bridge.StateQueued] != 1 || states[bridge.StateDuplicate] != floods-1 || known != 0 {
		t.Errorf("same key: %v and %d known, want 1 queued and %d duplicates", states, known, floods-1)
	}
}

func TestManyEqualIntentsAreSpreadQuickly(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	flood(t, s, spread, func(i int) bridge.Order {
		o := numbered(t, i)
		o.State, o.Intent = bridge.StateSending, bridge.Intent{Target: "h", Body: "body", Second: at.Add(time.Duration(i%3) * time.Second)}
		return o
	})
	var n, least int64
	err := s.read(t.Context(), func(c *conn) error {
		row, err := c.first(t.Context(), `SELECT count(*), min(gap) FROM
			(SELECT intent_second - lag(intent_second) OVER (ORDER BY intent_second) AS gap FROM orders)`)
		n, least = asInt(row[0]), asInt(row[1])
		return err
	})
	if err != nil || n != spread || time.Duration(least) != intentStep {
		t.Errorf("%d intents at least %v apart, %v, want %d and %v", n, time.Duration(least), err, spread, intentStep)
	}
	// Without the remembered run each order walks over all before it: minutes for this flood.
	var run slotRun
	err = s.do(t.Context(), func(tx *tx) error {
		run = tx.w.slots[intentKey("h", bodyDigest("body"))]
		return nil
	})
	if got, want := run.to.Sub(run.from), (spread-1)*intentStep; err != nil || got < want-2*intentStep {
		t.Errorf("the remembered run spans %v, %v, want about %v", got, err, want)
	}
}

// TestDedupeFollowsItsModel compares random histories with the rule told in words: an order is a duplicate of the first live one
// with its key; a window opens with an order that is held or on its way and ends on time or when the order came to nothing.
func TestDedupeFollowsItsModel(t *testing.T) {
	t.Parallel()
	type window struct {
		order bridge.Order
		until time.Time
	}
	c := newClock()
	s := openTest(t, Config{Now: c.now})
	n, history := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		history++ // each has keys of its own
		keys := []string{"", fmt.Sprint("k1-", history), fmt.Sprint("k2-", history)}
		open := map[string][]*window{} // by key
		var moved []*window
		rt.Repeat(map[string]func(*rapid.T){
			"admit": func(rt *rapid.T) {
				var a bridge.Admission
				for range rapid.IntRange(1, 4).Draw(rt, "orders") {
					n++
					o := bridgetest.NewOrder(t, fmt.Sprint("a", n), "ws01")
					o.Dedupe = rapid.SampledFrom(keys).Draw(rt, "key")
					o.Window = time.Duration(rapid.IntRange(0, 3).Draw(rt, "window")) * time.Minute
					o.State = rapid.SampledFrom([]bridge.State{
						bridge.StateQueued, bridge.StateSending, bridge.StateHeld, bridge.StateShadow, bridge.StateRefused,
					}).Draw(rt, "state")
					a.Orders = append(a.Orders, o)
				}
				out, err := s.Admit(t.Context(), a)
				if err != nil {
					rt.Fatal(err)
				}
				for i, ad := range out {
					want, covers := a.Orders[i].State, ""
					o := a.Orders[i]
					for _, w := range open[o.Dedupe] {
						if o.Dedupe != "" && o.State != bridge.StateRefused && w.until.After(c.now()) && !w.order.State.CameToNothing() {
							want, covers = bridge.StateDuplicate, w.order.ID
							break
						}
					}
					if ad.Order.State != want || ad.Order.Covers != covers {
						rt.Fatalf("order %d is %s covered by %q, want %s covered by %q", i, ad.Order.State, ad.Order.Covers, want, covers)
					}
					if o.Dedupe != "" && (want == bridge.StateQueued || want == bridge.StateSending || want == bridge.StateHeld) {
						w := &window{order: ad.Order, until: c.now().Add(o.Window)}
						open[o.Dedupe] = append(open[o.Dedupe], w)
						moved = append(moved, w)
					}
				}
			},
			"move": func(rt *rapid.T) {
				if len(moved) == 0 {
					return
				}
				w := rapid.SampledFrom(moved).Draw(rt, "order")
				var ways []bridge.State
				for _, tr := range bridge.Transitions() {
					if tr.From == w.order.State && tr.To != bridge.StateDuplicate {
						ways = append(ways, tr.To)
					}
				}
				if len(ways) == 0 {
					return
				}
				o := w.order
				o.State = rapid.SampledFrom(ways).Draw(rt, "to")
				stored, err := s.Move(t.Context(), o, w.order.State)
				if err != nil {
					rt.Fatal(err)
				}
				w.order = stored
			},
			"wait": func(rt *rapid.T) { c.add(time.Duration(rapid.IntRange(0, 120).Draw(rt, "seconds")) * time.Second) },
		})
	})
}
