package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// begun is one order that began and was not taken back, as the test remembers it.
type begun struct {
	bridge.Order
	at time.Time
}

// limitWorld is a ledger beside a plain list of everything that began.
type limitWorld struct {
	*books
	list    []begun // since the last resume
	flips   []begun // isolations and releases
	hosts   int
	failure string
}

func (w *limitWorld) failf(format string, args ...any) {
	if w.failure == "" {
		w.failure = w.now.Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	}
}

// most is how many orders the limit lets begin, told by other arithmetic than the ledger's: hosts are few and shares are quarters.
func (w *limitWorld) most(l bridge.Limit) (int, bool) {
	if l.Share == 0 {
		return l.Max, true
	}
	if w.hosts == 0 {
		return 0, false
	}
	n := max(1, w.hosts*int(l.Share*4)/4)
	if l.Max > 0 && l.Max < n {
		n = l.Max
	}
	return n, true
}

func counts(l bridge.Limit, o, other bridge.Order) bool {
	return (l.All || l.Task == other.Task.Kind()) && (l.By != bridge.LimitByRule || o.Rule == other.Rule) &&
		(l.By != bridge.LimitBySource || o.Source == other.Source)
}

// expect says whether the order may begin, and if not, why not.
func (w *limitWorld) expect(o bridge.Order) (bridge.State, bridge.Reason) {
	byHand := o.Rule == ""
	if bridge.IsRelease(o.Task) {
		return bridge.StateSending, ""
	}
	if w.hold.Active {
		return bridge.StateHeld, bridge.ReasonHold
	}
	if bridge.IsIsolation(o.Task) && w.policy.FlapMax > 0 && o.Approval.By == "" && !byHand {
		n := 0
		for _, f := range w.flips {
			if strings.EqualFold(f.Host, o.Host) && f.at.After(w.now.Add(-w.policy.FlapWithin)) {
				n++
			}
		}
		if n >= w.policy.FlapMax {
			return bridge.StateHeld, bridge.ReasonDamping
		}
	}
	stop := bridge.StateHeld
	if byHand {
		stop = bridge.StateRefused
	}
	for _, l := range w.policy.Limits {
		if !l.All && l.Task != o.Task.Kind() {
			continue
		}
		n := 0
		for _, b := range w.list {
			if counts(l, o, b.Order) && b.at.After(w.now.Add(-l.Per)) {
				n++
			}
		}
		if most, known := w.most(l); !known || n >= most {
			return stop, bridge.ReasonLimit
		}
	}
	if live := w.policy.Live; live.Hold > 0 && o.Executor == bridge.ExecutorKSC {
		room := map[bridge.Kind]int{bridge.KindIsolateHost: live.Hold + live.Keep, bridge.KindOnDemandScan: live.Hold * 3 / 4}
		most, special := room[o.Task.Kind()]
		if !special {
			most = live.Hold
		}
		if w.unfinished(o) >= most {
			return stop, bridge.ReasonLiveTasks
		}
	}
	return bridge.StateSending, ""
}

// unfinished counts what KSC works on that takes room from the order.
func (w *limitWorld) unfinished(o bridge.Order) int {
	n := 0
	for _, other := range w.orders {
		on := other.State == bridge.StateSending || other.State == bridge.StateAccepted || other.State == bridge.StateRunning
		if on && other.Executor == bridge.ExecutorKSC && other.ID != o.ID && (!w.policy.Live.PerHost || strings.EqualFold(other.Host, o.Host)) {
			n++
		}
	}
	return n
}

// note compares what became of an order with what was expected.
func (w *limitWorld) note(o bridge.Order, from, want bridge.State, why bridge.Reason) {
	if o.State == bridge.StateDuplicate && o.Reason == bridge.ReasonLease {
		return
	}
	if o.State != want || o.Reason != why {
		w.failf("%s %s (%T by %q on %s) became %s %s (%s), want %s %s", o.ID, from, o.Task, o.Rule, o.Host, o.State, o.Reason, o.Detail, want, why)
	}
	if why == bridge.ReasonLimit && !strings.Contains(o.Detail, "settings.yaml:") {
		w.failf("%s was stopped by %q, which names no setting", o.ID, o.Detail)
	}
	if o.State != bridge.StateSending {
		return
	}
	at := w.now
	if w.fresh.After(at) {
		at = w.fresh // a clock that was set back lets nothing be older than the resume
	}
	if !bridge.IsRelease(o.Task) {
		w.list = append(w.list, begun{o, at})
	}
	if o.Task.Kind() == bridge.KindIsolateHost {
		w.flips = append(w.flips, begun{o, w.now})
	}
}

// takeBack forgets an order that came to nothing.
func (w *limitWorld) takeBack(id string) {
	is := func(b begun) bool { return b.ID == id }
	w.list, w.flips = slices.DeleteFunc(w.list, is), slices.DeleteFunc(w.flips, is)
}

func (w *limitWorld) check(t *rapid.T) {
	if len(w.problems) > 0 {
		w.failf("%s", strings.Join(w.problems, "\n"))
	}
	kept := map[bridge.FactKind]int{}
	for _, f := range w.facts {
		if f.What != bridge.FactCharge || !f.At.Before(w.fresh) {
			kept[f.What]++
		}
	}
	charged := 0
	for _, b := range w.list {
		if slices.ContainsFunc(w.policy.Limits, func(l bridge.Limit) bool { return l.Covers(b.Task.Kind()) }) {
			charged++
		}
	}
	if kept[bridge.FactCharge] != charged {
		w.failf("the journal knows of %d charges, want %d", kept[bridge.FactCharge], charged)
	}
	if w.policy.FlapMax > 0 && kept[bridge.FactFlip] != len(w.flips) {
		w.failf("the journal knows of %d flips, want %d", kept[bridge.FactFlip], len(w.flips))
	}
	if got, want := w.ledger.LiveTasks(), w.unfinished(bridge.Order{}); w.policy.Live.Hold > 0 && !w.policy.Live.PerHost && got != want {
		w.failf("%d live tasks, want %d", got, want)
	}
	if w.failure != "" {
		t.Fatal(w.failure)
	}
}

// windows looks at every span of time of the whole history.
func (w *limitWorld) windows(t *rapid.T) {
	for _, l := range w.policy.Limits {
		most, known := w.most(l)
		if !known {
			most = 0
		}
		for _, last := range w.list {
			n := 0
			for _, b := range w.list {
				if l.Covers(last.Task.Kind()) && counts(l, last.Order, b.Order) && b.at.After(last.at.Add(-l.Per)) && !b.at.After(last.at) {
					n++
				}
			}
			if n > most {
				t.Fatalf("%d orders began within %s before %s, at most %d may (%+v)", n, l.Per, last.at, most, l)
			}
		}
	}
}

func drawPolicy(t *rapid.T, hosts int) bridge.Policy {
	spans := rapid.SampledFrom([]time.Duration{10 * time.Second, 5 * time.Minute, time.Hour})
	p := bridge.Policy{Known: func() (int, bool) { return hosts, hosts > 0 }}
	for i := range rapid.IntRange(0, 3).Draw(t, "limits") {
		l := bridge.Limit{Per: spans.Draw(t, "per"), At: fmt.Sprintf("settings.yaml:%d", i)}
		l.By = rapid.SampledFrom([]string{"", bridge.LimitByRule, bridge.LimitBySource}).Draw(t, "by")
		l.Task = rapid.SampledFrom([]bridge.Kind{bridge.KindIsolateHost, bridge.KindTerminateProcess, ""}).Draw(t, "task")
		l.All = l.Task == ""
		l.Max = rapid.IntRange(0, 4).Draw(t, "max")
		l.Share = rapid.SampledFrom([]float64{0, 0.25, 0.5, 1}).Draw(t, "share")
		if l.Max == 0 && l.Share == 0 {
			l.Max = 1
		}
		p.Limits = append(p.Limits, l)
	}
	if rapid.Bool().Draw(t, "damping") {
		p.FlapMax, p.FlapWithin, p.FlapAt = rapid.IntRange(1, 3).Draw(t, "flaps"), 10*time.Minute, "settings.yaml:9"
	}
	if rapid.Bool().Draw(t, "live") {
		p.Live = bridge.LiveTasks{
			Hold: rapid.IntRange(1, 5).Draw(t, "hold"), Keep: rapid.IntRange(0, 2).Draw(t, "keep"), PerHost: rapid.Bool().Draw(t, "per host"),
		}
	}
	return p
}

func (w *limitWorld) enter(t *rapid.T) {
	tasks := rapid.SampledFrom([]bridge.Task{
		bridge.IsolateHost{Action: bridge.IsolationOn},
		bridge.IsolateHost{Action: bridge.IsolationOn},
		bridge.IsolateHost{Action: bridge.IsolationOff},
		bridge.TerminateProcess{Path: `C:\x.exe`},
		bridge.OnDemandScan{},
	})
	o := bridge.Order{
		ID: fmt.Sprintf("o%d", len(w.ids)), Host: rapid.SampledFrom([]string{"a", "A", "b", "c", "d"}).Draw(t, "host"), Task: tasks.Draw(t, "task"),
		Source: rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "source"), Rule: rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "rule"),
		Executor: rapid.SampledFrom([]string{bridge.ExecutorKSC, bridge.ExecutorKSC, bridge.ExecutorLocal}).Draw(t, "executor"),
		State:    bridge.StateQueued, For: time.Minute,
	}
	if o.Rule == "" {
		o.Source, o.Actor = "", "cli:bob"
	}
	want, why := bridge.StateQueued, bridge.ReasonNone
	if rapid.Bool().Draw(t, "at once") {
		o.State = bridge.StateSending
		want, why = w.expect(o)
	}
	w.note(w.admit(o), "", want, why)
}

func (w *limitWorld) step(t *rapid.T) {
	open := slices.DeleteFunc(slices.Clone(w.ids), func(id string) bool { return w.orders[id].State.End() })
	if len(open) == 0 {
		t.Skip("nothing to do")
	}
	o := w.orders[rapid.SampledFrom(open).Draw(t, "order")]
	next := map[bridge.State][]bridge.State{
		bridge.StateHeld:     {bridge.StateQueued},
		bridge.StateQueued:   {bridge.StateSending, bridge.StateSending, bridge.StateSending, bridge.StateExpired},
		bridge.StateAccepted: {bridge.StateDone, bridge.StateRunning, bridge.StateFailed, bridge.StateUnknown},
		bridge.StateRunning:  {bridge.StateDone, bridge.StateFailed},
		bridge.StateSending: {
			bridge.StateAccepted, bridge.StateDone, bridge.StateUnknown, bridge.StateQueued, bridge.StateFailed, bridge.StateRefused, bridge.StateCancelled,
		},
	}
	to := rapid.SampledFrom(next[o.State]).Draw(t, "to")
	want, why := to, bridge.ReasonNone
	if to == bridge.StateSending {
		want, why = w.expect(o)
	}
	if o.State == bridge.StateSending && (to == bridge.StateQueued || to.CameToNothing()) {
		w.takeBack(o.ID)
	}
	approve := o.State == bridge.StateHeld && o.Reason == bridge.ReasonDamping
	w.note(w.move(o.ID, to, func(o *bridge.Order) {
		if approve {
			o.Approval.By = "cli:alice"
		}
	}), o.State, want, why)
}

func (w *limitWorld) actions(t *rapid.T) map[string]func(*rapid.T) {
	pauses := rapid.SampledFrom([]time.Duration{-2 * time.Second, 10 * time.Millisecond, time.Second, 11 * time.Second, 4 * time.Minute, time.Hour})
	return map[string]func(*rapid.T){
		"":           w.check,
		"enter":      w.enter,
		"enter more": w.enter,
		"step":       w.step,
		"step more":  w.step,
		"wait":       func(t *rapid.T) { w.now = w.now.Add(pauses.Draw(t, "pause")) },
		"crash":      func(*rapid.T) { w.ledger = w.rebuilt() },
		"prune":      func(*rapid.T) { w.ledger.Prune(w.now) },
		"resume": func(t *rapid.T) {
			if !w.hold.Active {
				t.Skip("not on hold")
			}
			w.now = w.now.Add(time.Millisecond)
			if !w.now.After(w.fresh) || slices.ContainsFunc(w.list, func(b begun) bool { return !b.at.Before(w.now) }) {
				t.Skip("the clock was set back: what began later than now counts on")
			}
			w.list = nil
			w.resume()
		},
		"hold": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "hold") == 0 {
				w.setHold(bridge.Hold{Active: true, Reason: "drill", Since: w.now})
			}
		},
	}
}

func TestNothingBeginsOverABudgetOnHoldOrBeyondTheRoom(t *testing.T) {
	t.Parallel()
	for round := 0; round < cases/100 && !t.Failed(); round++ {
		rapid.Check(t, func(t *rapid.T) {
			hosts := rapid.SampledFrom([]int{0, 1, 4, 8, 12}).Draw(t, "hosts")
			w := &limitWorld{books: newBooks(drawPolicy(t, hosts)), hosts: hosts}
			t.Repeat(w.actions(t))
			w.windows(t)
		})
	}
}

func TestStrikesAreExactlyTheAlertsWithinTheTime(t *testing.T) {
	t.Parallel()
	for round := 0; round < cases/100 && !t.Failed(); round++ {
		rapid.Check(t, func(t *rapid.T) {
			b := newBooks(bridge.Policy{})
			within := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "within")
			count := rapid.IntRange(2, 5).Draw(t, "count")
			pauses := rapid.SampledFrom([]time.Duration{-time.Second, 0, time.Millisecond, 300 * time.Millisecond, 20 * time.Second, 20 * time.Minute})
			seen := map[string][]time.Time{}
			for i := range rapid.IntRange(1, 20).Draw(t, "alerts") {
				b.now = b.now.Add(pauses.Draw(t, "pause"))
				if rapid.IntRange(0, 5).Draw(t, "crash") == 0 {
					b.ledger = b.rebuilt()
				}
				o := ruled(fmt.Sprint("o", i), "ws", 0)
				o.Task = bridge.TerminateProcess{Path: "/x"}
				o.Strike, o.StrikeCount, o.StrikeWithin = rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "key"), count, within
				o.State = rapid.SampledFrom([]bridge.State{
					bridge.StateQueued, bridge.StateSending, bridge.StateHeld, bridge.StateShadow, bridge.StateRefused,
				}).Draw(t, "state")
				want := o.State
				if o.State != bridge.StateRefused {
					seen[o.Strike] = append(seen[o.Strike], b.now)
					n := 0
					for _, at := range seen[o.Strike] {
						if at.After(b.now.Add(-within)) {
							n++
						}
					}
					if n < count {
						want = bridge.StateRefused
					}
				}
				got := b.admit(o)
				if got.State != want || want != o.State && (got.Reason != bridge.ReasonThreshold || !strings.Contains(got.Detail, "rules.yaml:3")) {
					t.Fatalf("alert %d is %s %s (%s), want %s; seen %v at %s", i, got.State, got.Reason, got.Detail, want, seen, b.now)
				}
			}
		})
	}
}
