package store

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

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
				out, err := s.Admit(t.Context(), bridge.Admission{Alerts: []bridge.Alert{al}, Orders: []bridge.Order{o}})
				if err == nil {
					err = accept(t, s, out[0].Order)
				}
				if err != nil {
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

// accept has KSC take an order that may begin.
func accept(t *testing.T, s *Store, o bridge.Order) error {
	t.Helper()
	if o.State != bridge.StateSending {
		return nil
	}
	o.State = bridge.StateAccepted
	_, err := s.Move(t.Context(), o, bridge.StateSending)
	return err
}

// isolated returns the hosts that KSC isolates, each as often as it does, and makes sure that every other order is held, or one
// reason more for one of those.
func isolated(t *testing.T, s *Store) (hosts []string) {
	t.Helper()
	orders, err := s.Orders(t.Context(), bridge.OrderFilter{Limit: maxLimit})
	if err != nil {
		t.Fatal(err)
	}
	if len(orders) != stormAlerts {
		t.Errorf("%d orders are stored, want %d", len(orders), stormAlerts)
	}
	for _, o := range orders {
		if o.State == bridge.StateAccepted {
			hosts = append(hosts, o.Host)
		}
	}
	for _, o := range orders {
		held := o.State == bridge.StateHeld && (o.Reason == bridge.ReasonHold || o.Reason == bridge.ReasonLimit)
		reason := o.State == bridge.StateDuplicate && o.Reason == bridge.ReasonLease && slices.Contains(hosts, o.Host)
		if o.State != bridge.StateAccepted && !held && !reason {
			t.Errorf("order %s of %s is %s (%s): %s", o.ID, o.Host, o.State, o.Reason, o.Detail)
		}
	}
	slices.Sort(hosts)
	return hosts
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
			o, err := s.Move(t.Context(), o, bridge.StateQueued)
			if err == nil {
				err = accept(t, s, o)
			}
			if err != nil {
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
		hosts := isolated(t, s)
		if len(hosts) != budget || len(slices.Compact(slices.Clone(hosts))) != budget {
			t.Fatalf("round %d: isolated are %v, want %d hosts", round, hosts, budget)
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
