package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// everyRule is a policy in which each rule of the ledger has something to say.
func everyRule() bridge.Policy {
	return bridge.Policy{
		Limits: []bridge.Limit{
			{Task: bridge.KindIsolateHost, Max: 2, Per: 10 * time.Minute, By: bridge.LimitByRule},
			{All: true, Share: 0.25, Max: 9, Per: 5 * time.Minute},
			{Task: bridge.KindTerminateProcess, Max: 3, Per: time.Minute, By: bridge.LimitBySource},
		},
		FlapMax: 3, FlapWithin: 10 * time.Minute, UndoMax: 3, UndoPer: 10 * time.Minute,
		Live: bridge.LiveTasks{Hold: 4, Keep: 1}, Lease: bridge.LeasePolicy{ProductOff: time.Hour, Reassert: true},
		AskEvery: 5 * time.Minute, Known: func() (int, bool) { return 20, true },
	}
}

// random makes a random life for a store.
type random struct {
	t      *testing.T
	s      *Store
	c      *clock
	n      int
	orders []string
}

func (r *random) check(rt *rapid.T, what string, err error) {
	if err != nil {
		rt.Fatalf("%s: %v", what, err)
	}
}

func (r *random) order(rt *rapid.T) bridge.Order {
	r.n++
	o := bridge.Order{
		AlertID: fmt.Sprint("a", r.n), Source: rapid.SampledFrom([]string{"bus", "hook"}).Draw(rt, "source"),
		Rule: rapid.SampledFrom([]string{"rule1", "rule2", ""}).Draw(rt, "rule"), Host: rapid.SampledFrom([]string{"ws1", "WS1", "ws2", "ws3"}).Draw(rt, "host"),
		Mode: bridge.ModeEnforce, Executor: rapid.SampledFrom([]string{bridge.ExecutorKSC, bridge.ExecutorLocal}).Draw(rt, "executor"),
		State: rapid.SampledFrom([]bridge.State{bridge.StateSending, bridge.StateSending, bridge.StateQueued, bridge.StateHeld, bridge.StateShadow}).Draw(rt, "state"),
		For:   time.Duration(rapid.IntRange(-1, 40).Draw(rt, "minutes")) * time.Minute, NotAfter: r.c.now().Add(time.Hour),
	}
	switch rapid.IntRange(0, 4).Draw(rt, "task") {
	case 0:
		o.Task = bridge.TerminateProcess{Path: `C:\a.exe`}
		if rapid.Bool().Draw(rt, "strike") {
			o.Strike, o.StrikeCount, o.StrikeWithin = "strike/"+o.Source, 3, 10*time.Minute
		}
	case 1:
		o.Task = bridge.IsolateHost{Action: bridge.IsolationOff}
	default:
		o.Task = bridge.IsolateHost{Action: bridge.IsolationOn}
	}
	if rapid.Bool().Draw(rt, "resolved") {
		o.Intent = bridge.Intent{Target: "id-" + strings.ToLower(o.Host), Body: "b", Second: r.c.now()}
	}
	if o.State == bridge.StateHeld {
		o.Reason = rapid.SampledFrom([]bridge.Reason{bridge.ReasonApproval, bridge.ReasonHold}).Draw(rt, "reason")
	}
	if o.Rule == "" {
		o.Actor = "cli:alice"
	}
	o.ID = fmt.Sprint("o", r.n)
	return o
}

func (r *random) admit(rt *rapid.T) {
	var a bridge.Admission
	for range rapid.IntRange(1, 6).Draw(rt, "orders") {
		o := r.order(rt)
		a.Orders = append(a.Orders, o)
		r.orders = append(r.orders, o.ID)
	}
	if rapid.Bool().Draw(rt, "twice") {
		a.Orders = append(a.Orders, a.Orders[0])
	}
	_, err := r.s.Admit(r.t.Context(), a)
	r.check(rt, "admit", err)
}

func (r *random) move(rt *rapid.T) {
	if len(r.orders) == 0 {
		return
	}
	// The newest orders are those with a way to go.
	first := max(0, len(r.orders)-12)
	o, err := r.s.Order(r.t.Context(), rapid.SampledFrom(r.orders[first:]).Draw(rt, "order"))
	r.check(rt, "order", err)
	var ways []bridge.State
	for _, tr := range bridge.Transitions() {
		if tr.From == o.State && tr.To != bridge.StateDuplicate {
			ways = append(ways, tr.To)
		}
	}
	if len(ways) == 0 {
		return
	}
	from := o.State
	if o.State = rapid.SampledFrom(ways).Draw(rt, "to"); o.State == bridge.StateHeld {
		o.Reason = bridge.ReasonHold
	}
	_, err = r.s.Move(r.t.Context(), o, from)
	r.check(rt, "move", err)
}

func (r *random) lease(rt *rapid.T) {
	due, err := r.s.DueLeases(r.t.Context())
	r.check(rt, "due leases", err)
	for _, task := range due {
		o, err := task.Order()
		r.check(rt, "order of a lease", err)
		o.State, o.Executor = rapid.SampledFrom([]bridge.State{bridge.StateSending, bridge.StateQueued}).Draw(rt, "state"), bridge.ExecutorKSC
		_, err = r.s.Admit(r.t.Context(), bridge.Admission{Orders: []bridge.Order{o}})
		r.check(rt, "admit", err)
		if !slices.Contains(r.orders, o.ID) {
			r.orders = append(r.orders, o.ID)
		}
	}
}

func (r *random) takeUp(rt *rapid.T) {
	held, _, err := r.s.Held(r.t.Context(), nil, bridge.Page{})
	r.check(rt, "held", err)
	_, err = r.s.TakeUp(r.t.Context(), held)
	r.check(rt, "take up", err)
}

func (r *random) hold(rt *rapid.T) {
	active := rapid.IntRange(0, 3).Draw(rt, "hold") == 0
	r.check(rt, "hold", r.s.SetHold(r.t.Context(), bridge.Hold{Active: active, Actor: "cli:alice"}))
}

// probes are orders the ledgers are asked about.
func (r *random) probes() []bridge.Order {
	var out []bridge.Order
	for _, host := range []string{"ws1", "ws2", "ws3"} {
		for _, rule := range []string{"rule1", "rule2", ""} {
			for _, task := range []bridge.Task{
				bridge.IsolateHost{Action: bridge.IsolationOn}, bridge.IsolateHost{Action: bridge.IsolationOff}, bridge.TerminateProcess{Path: `C:\a.exe`},
			} {
				for _, source := range []string{"bus", "hook"} {
					out = append(out, bridge.Order{
						ID: "probe", Host: host, Rule: rule, Task: task, Source: source, Executor: bridge.ExecutorKSC, State: bridge.StateQueued,
						Strike: "strike/" + source, StrikeCount: 3, StrikeWithin: 10 * time.Minute,
					})
				}
			}
		}
	}
	return out
}

// answers is what a ledger says about leases and probes.
func (r *random) answers(l *bridge.Ledger) (out []string) {
	for _, le := range l.Leases() {
		out = append(out, fmt.Sprintf("%+v", le))
	}
	out = append(out, fmt.Sprint("live ", l.LiveTasks()))
	for _, o := range r.probes() {
		out = append(out, fmt.Sprintf("%+v", l.Begin(o, r.c.now())), fmt.Sprint(l.Room(o)))
	}
	return out
}

// struck is what a ledger says to one alert more of each threshold; it changes the ledger.
func (r *random) struck(l *bridge.Ledger) (out []string) {
	for _, source := range []string{"bus", "hook"} {
		j, err := l.Admit(bridge.Order{
			ID: "probe", Task: bridge.TerminateProcess{Path: `C:\a.exe`}, State: bridge.StateQueued, Strike: "strike/" + source,
			StrikeCount: 100, StrikeWithin: 10 * time.Minute,
		}, r.c.now(), nowhere{})
		out = append(out, fmt.Sprint(j.Detail, err))
	}
	return out
}

// unsynced makes the commits of a store cheap, for tests of what is in it and not of how it gets there.
func unsynced(t *testing.T, s *Store) {
	t.Helper()
	err := s.do(t.Context(), func(tx *tx) error {
		if err := tx.end(nil); err != nil {
			return err
		}
		if _, err := tx.run("PRAGMA synchronous=OFF"); err != nil {
			return err
		}
		_, err := tx.run("BEGIN IMMEDIATE")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// nowhere is a journal that keeps nothing.
type nowhere struct{ bridge.Journal }

func (nowhere) AddFact(bridge.Fact) error { return nil }

// TestLedgerReadBackIsTheLedgerThatLived compares, after every step of random histories, the ledger the writer has kept all the time with one
// that is loaded from the tables.
func TestLedgerReadBackIsTheLedgerThatLived(t *testing.T) {
	t.Parallel()
	history := 0
	base := t.TempDir()
	reasons := []bridge.Reason{bridge.ReasonLimit, bridge.ReasonLease, bridge.ReasonDamping, bridge.ReasonLiveTasks, bridge.ReasonHold}
	seen := map[bridge.Reason]int{}
	rapid.Check(t, func(rt *rapid.T) {
		history++
		c := newClock()
		s, err := Open(t.Context(), Config{Dir: fmt.Sprint(base, "/", history), Now: c.now, Policy: everyRule()})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		unsynced(t, s)
		r := &random{t: t, s: s, c: c}
		var lived *bridge.Ledger
		compare := func(end bool) {
			// The writer asks; this goroutine compares, because only it may fail.
			var kept *bridge.Ledger
			var want, got []string
			err := s.do(t.Context(), func(t *tx) error {
				var err error
				if kept, err = t.ledger(); err != nil {
					return err
				}
				loaded, err := t.loadLedger()
				if err != nil {
					return err
				}
				want, got = r.answers(kept), r.answers(loaded)
				if end {
					want, got = append(want, r.struck(kept)...), append(got, r.struck(loaded)...)
				}
				return nil
			})
			r.check(rt, "compare", err)
			if lived != nil && lived != kept {
				rt.Fatal("the ledger was loaded again")
			}
			lived = kept
			if !slices.Equal(want, got) {
				rt.Fatalf("the loaded ledger differs (-lived +loaded):\n%s", cmp.Diff(want, got))
			}
			for _, reason := range reasons {
				if slices.ContainsFunc(want, func(s string) bool { return strings.Contains(s, "Reason:"+string(reason)+" ") }) {
					seen[reason]++
				}
			}
		}
		compare(false)
		rt.Repeat(map[string]func(*rapid.T){
			"admit": r.admit, "admit more": r.admit, "move": r.move, "move more": r.move, "lease": r.lease, "take up": r.takeUp, "hold": r.hold,
			"wait": func(rt *rapid.T) { c.add(time.Duration(rapid.IntRange(1, 600).Draw(rt, "seconds")) * time.Second) },
			"":     func(*rapid.T) { compare(false) },
		})
		compare(true)
	})
	for _, reason := range reasons {
		if seen[reason] == 0 {
			t.Errorf("no history came to an answer for %s: the test tells little", reason)
		}
	}
}

func isolate(host string, n int) bridge.Order {
	return bridge.Order{
		ID: fmt.Sprintf("o%s-%d", host, n), Source: "bus", AlertID: fmt.Sprint("a", n), Rule: "rule", Host: host, Task: bridge.IsolateHost{Action: bridge.IsolationOn},
		For: 4 * time.Hour, Executor: bridge.ExecutorKSC, State: bridge.StateSending,
		Intent: bridge.Intent{Target: "id-" + host, Body: "b", Second: time.Unix(0, 0)},
	}
}

func fiveAnHour() bridge.Policy {
	return bridge.Policy{Limits: []bridge.Limit{{Task: bridge.KindIsolateHost, Max: 5, Per: time.Hour}}}
}

func TestTwoStoresOfOneFolderShareABudget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stores := []*Store{openTest(t, Config{Dir: dir, Policy: fiveAnHour()}), openTest(t, Config{Dir: dir, Policy: fiveAnHour(), Owner: OwnerSend})}
	var mu sync.Mutex
	states := map[bridge.State]int{}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			out, err := stores[i%2].Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{isolate(fmt.Sprint("ws", i), i)}})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			states[out[0].Order.State]++
		})
	}
	wg.Wait()
	if states[bridge.StateSending] != 5 || states[bridge.StateHeld] != 35 {
		t.Errorf("two stores let %v through, want 5 sending and 35 held", states)
	}
	for i, s := range stores {
		if h, err := s.Hold(t.Context()); err != nil || !h.Active {
			t.Errorf("store %d: hold %+v, %v, want it latched", i, h, err)
		}
	}
	if err := stores[1].SetHold(t.Context(), bridge.Hold{Actor: "cli:alice"}); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		want := bridge.StateSending
		if i == 5 {
			want = bridge.StateHeld
		}
		if got := admitTest(t, stores[i%2], isolate(fmt.Sprint("later", i), i))[0].State; got != want {
			t.Errorf("isolation %d after the resume is %s, want %s", i, got, want)
		}
	}
}

func TestRollbackThrowsTheLedgerAway(t *testing.T) {
	t.Parallel()
	var heard []bridge.Hold
	s := openTest(t, Config{Policy: fiveAnHour(), OnHold: func(h bridge.Hold) { heard = append(heard, h) }})
	for i := range 4 {
		admitTest(t, s, isolate(fmt.Sprint("ws", i), i))
	}
	bad := errors.New("no")
	for i := range 20 {
		ready, err := prepareAdmission(bridge.Admission{Orders: []bridge.Order{isolate(fmt.Sprint("never", i), i), isolate(fmt.Sprint("no", i), i)}}, OwnerRun)
		if err != nil {
			t.Fatal(err)
		}
		err = s.do(t.Context(), func(t *tx) error {
			if _, err := t.admit(ready); err != nil {
				return err
			}
			return bad
		})
		if !errors.Is(err, bad) {
			t.Fatalf("commit: %v, want %v", err, bad)
		}
	}
	if len(heard) > 0 {
		t.Errorf("a hold that was rolled back was told: %+v", heard)
	}
	if got := admitTest(t, s, isolate("ws4", 4))[0]; got.State != bridge.StateSending {
		t.Errorf("the fifth isolation is %s (%s), want sending: the others were never committed", got.State, got.Detail)
	}
	if got := admitTest(t, s, isolate("ws5", 5))[0]; got.State != bridge.StateHeld {
		t.Errorf("the sixth isolation is %s, want held", got.State)
	}
	if err := s.SetHold(t.Context(), bridge.Hold{Actor: "cli:alice", Reason: "done"}); err != nil {
		t.Fatal(err)
	}
	if len(heard) != 2 || !heard[0].Active || heard[0].Actor != bridge.ActorGuard || heard[1].Active || heard[1].Actor != "cli:alice" {
		t.Errorf("holds told: %+v, want that of the guard and its end", heard)
	}
}

func TestOneBatchKeepsToTheBudget(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{Policy: fiveAnHour()})
	var orders []bridge.Order
	for i := range 20 {
		orders = append(orders, isolate(fmt.Sprint("ws", i), i))
	}
	var sent int
	for _, o := range admitTest(t, s, orders...) {
		if o.State == bridge.StateSending {
			sent++
		}
	}
	if sent != 5 {
		t.Errorf("%d isolations of one admission were let through, want 5", sent)
	}
}

func TestFactsThatCountNoMoreAreDeleted(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openTest(t, Config{Now: c.now, Policy: bridge.Policy{Limits: []bridge.Limit{{All: true, Max: 1 << 30, Per: time.Minute}}}})
	for range 8 {
		var orders []bridge.Order
		for range leastPrune / 2 {
			o := numbered(t, int(c.now().UnixNano()))
			o.State = bridge.StateSending
			orders = append(orders, o)
			c.add(time.Second)
		}
		admitTest(t, s, orders...)
	}
	var n int64
	err := s.read(t.Context(), func(c *conn) error {
		row, err := c.first(t.Context(), `SELECT count(*) FROM facts`)
		n = asInt(row[0])
		return err
	})
	if err != nil || n > 2*leastPrune {
		t.Errorf("%d facts are kept, %v, want at most %d", n, err, 2*leastPrune)
	}
}

func TestStatementsOfTheLedgerUseTheirIndexes(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	for sql, index := range map[string]string{
		dropFacts + isDroppable:                              "facts_order",
		selectLease + ` WHERE open IS NOT NULL ORDER BY seq`: "leases_open",
		selectLive:  "orders_dedupe",
		selectTaken: "orders_intent",
		selectLetter + ` WHERE retry IS NOT NULL ORDER BY seq`: "letters_retry",
	} {
		var plan string
		err := s.read(t.Context(), func(c *conn) error {
			row, err := c.first(t.Context(), "EXPLAIN QUERY PLAN "+sql, make([]driver.Value, strings.Count(sql, "?"))...)
			if row != nil {
				plan = asText(row[3])
			}
			return err
		})
		if err != nil || !strings.Contains(plan, index) {
			t.Errorf("%s\nis done by %q, %v, want %s", sql, plan, err, index)
		}
	}
}
