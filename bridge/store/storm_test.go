package store

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	stormAlerts = 10_000
	stormHosts  = 1000
)

// storm admits the alerts from 64 goroutines, each with an isolation of its host.
func storm(t *testing.T, s *Store) {
	t.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range next {
				o := isolate(fmt.Sprint("ws", i%stormHosts), i)
				al := bridge.Alert{ID: o.AlertID, Source: o.Source, Raw: fmt.Appendf(nil, `{"id":%q}`, o.AlertID)}
				if _, err := s.Admit(t.Context(), bridge.Admission{Alerts: []bridge.Alert{al}, Orders: []bridge.Order{o}}); err != nil {
					t.Errorf("alert %d: %v", i, err)
				}
			}
		})
	}
	for i := range stormAlerts {
		next <- i
	}
	close(next)
	wg.Wait()
}

// census counts the orders of a store by state and reason, and the hosts that are isolated.
func census(t *testing.T, s *Store) (states map[string]int, isolated []string) {
	t.Helper()
	orders, err := s.Orders(t.Context(), bridge.OrderFilter{Limit: maxLimit})
	if err != nil {
		t.Fatal(err)
	}
	states = map[string]int{}
	for _, o := range orders {
		word := string(o.State)
		if o.State == bridge.StateDuplicate {
			word += " " + string(o.Reason)
		}
		states[word]++
		if o.State == bridge.StateSending {
			isolated = append(isolated, o.Host)
		}
	}
	slices.Sort(isolated)
	return states, isolated
}

// begin lets everything that is held go on, as keeper and pipeline do after a resume.
func begin(t *testing.T, s *Store) {
	t.Helper()
	reasons := []bridge.Reason{bridge.ReasonHold, bridge.ReasonLimit}
	for page := (bridge.Page{Limit: 1000}); ; {
		held, next, err := s.Held(t.Context(), reasons, page)
		if err != nil {
			t.Fatal(err)
		}
		queued, err := s.TakeUp(t.Context(), held)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range queued {
			o.State = bridge.StateSending
			if _, err := s.Move(t.Context(), o, bridge.StateQueued); err != nil {
				t.Fatal(err)
			}
		}
		if page = next; len(held) == 0 {
			return
		}
	}
}

func TestStormIsolatesWhatTheBudgetAllowsAndHoldsTheRest(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{Policy: fiveAnHour()})
	unsynced(t, s)
	started := time.Now()
	storm(t, s)
	t.Logf("%d alerts admitted in %s", stormAlerts, time.Since(started).Round(time.Millisecond))
	for round := 1; round <= 2; round++ {
		budget := 5 * round
		states, isolated := census(t, s)
		// The ten alerts about an isolated host are one isolation and nine reasons more.
		want := map[string]int{"sending": budget, "duplicate lease": 9 * budget, "held": stormAlerts - 10*budget}
		if diff := cmp.Diff(want, states); diff != "" || len(slices.Compact(isolated)) != budget {
			t.Fatalf("round %d: isolated are %v, orders (-want +got):\n%s", round, isolated, diff)
		}
		if h, err := s.Hold(t.Context()); err != nil || !h.Active || h.Actor != bridge.ActorGuard {
			t.Fatalf("round %d: hold %+v, %v, want it latched by the guard", round, h, err)
		}
		if round == 2 {
			break
		}
		if err := s.SetHold(t.Context(), bridge.Hold{Actor: "cli:alice", Reason: "looked at it"}); err != nil {
			t.Fatal(err)
		}
		begin(t, s)
	}
	var alerts int64
	err := s.read(t.Context(), func(c *conn) error {
		row, err := c.first(t.Context(), `SELECT count(*) FROM alerts`)
		alerts = asInt(row[0])
		return err
	})
	if err != nil || alerts != stormAlerts {
		t.Errorf("%d alerts are stored, %v, want all %d", alerts, err, stormAlerts)
	}
	if report, err := s.VerifyAudit(t.Context(), nil); err != nil || report.FirstBad != 0 {
		t.Errorf("audit chain: %+v, %v", report, err)
	}
}
