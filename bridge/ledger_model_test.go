package bridge_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// What the model believes, said in its own words: a machine has reasons with an end, KSC has seen effects one after the other. It
// knows nothing of leases.

// reason is why a machine is to be isolated.
type reason struct {
	until  time.Time // zero = for ever
	sure   bool      // KSC took the isolation it rests on
	effect string    // that isolation
	doubt  bool      // a release by another name may have ended it, or not
}

func (r reason) live(now time.Time) bool { return r.until.IsZero() || now.Before(r.until) }

// effect is what KSC has seen.
type effect struct {
	order    string
	isolates bool
	void     bool // the host did not do it
	at       time.Time
}

// maxAge is how long after its intent an order may still be sent.
const maxAge = 15 * time.Minute

// leaseWorld is a ledger between people, rules and a KSC that loses answers.
type leaseWorld struct {
	*books
	lanes   map[string][]string // by host as named: orders that go one after the other
	lost    map[string]bool     // orders being sent whose answer was lost
	effects map[string][]effect // by machine
	reasons map[string]map[string]reason
	taken   map[string]map[string]reason // by release: the reasons it ended
	named   map[string]map[string]bool   // by machine: under which names orders came
	began   map[string]bool              // releases whose machine became known
	vague   map[string]bool              // machines a release did not find the reasons of
	failure string
	story   []string // for people who read a failure
}

func newLeaseWorld(p bridge.Policy) *leaseWorld {
	return &leaseWorld{
		books: newBooks(p), lanes: map[string][]string{}, lost: map[string]bool{}, effects: map[string][]effect{},
		reasons: map[string]map[string]reason{"1": {}, "2": {}}, taken: map[string]map[string]reason{},
		named: map[string]map[string]bool{"1": {}, "2": {}}, began: map[string]bool{}, vague: map[string]bool{},
	}
}

// machineOf tells which machine a name stands for: "WS-1" and "GUID-1" are machine 1.
func machineOf(host string) string { return host[len(host)-1:] }

func (w *leaseWorld) failf(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
	}
}

func (w *leaseWorld) lane(o bridge.Order) string { return strings.ToLower(o.Host) }

// before reports whether something in the lane stands before the order. Isolations whose answer was lost step aside for a release.
func (w *leaseWorld) before(o bridge.Order) bool {
	lane := w.lanes[w.lane(o)]
	for i, id := range lane {
		if id == o.ID {
			return false
		}
		if w.lost[id] && bridge.IsIsolation(w.orders[id].Task) && w.overtaken(lane[i+1:]) {
			continue
		}
		return true
	}
	return false
}

func (w *leaseWorld) overtaken(behind []string) bool {
	return slices.ContainsFunc(behind, func(id string) bool { return bridge.IsRelease(w.orders[id].Task) })
}

// ready returns the orders that may take a step, in the order of their admission.
func (w *leaseWorld) ready() []string {
	var ids []string
	for _, id := range w.ids {
		o := w.orders[id]
		waits := (o.State == bridge.StateQueued || o.State == bridge.StateSending && !w.lost[id]) && w.before(o)
		if !o.State.End() && o.State != bridge.StateHeld && !waits {
			ids = append(ids, id)
		}
	}
	return ids
}

func intent(o *bridge.Order, now time.Time) {
	o.Intent = bridge.Intent{Target: "guid-" + machineOf(o.Host), Second: now.Truncate(time.Second)}
}

// enter takes in an order as the pipeline does.
func (w *leaseWorld) enter(o bridge.Order, known bool) bridge.Order {
	o.Executor, o.Created, o.State = bridge.ExecutorKSC, w.now, bridge.StateQueued
	w.named[machineOf(o.Host)][w.lane(o)] = true
	switch {
	case w.hold.Active && !bridge.IsRelease(o.Task):
		o.State, o.Reason = bridge.StateHeld, bridge.ReasonHold
	case known && len(w.lanes[w.lane(o)]) == 0:
		o.State = bridge.StateSending
		intent(&o, w.now)
	}
	w.promise(o, "")
	o = w.admit(o)
	w.believe(o, "")
	w.line(o)
	return o
}

// line keeps the lanes.
func (w *leaseWorld) line(o bridge.Order) {
	key := w.lane(o)
	lane := w.lanes[key]
	if in := slices.Index(lane, o.ID); !o.State.Pending() && in >= 0 {
		w.lanes[key] = slices.Delete(lane, in, in+1)
	} else if o.State.Pending() && in < 0 {
		w.lanes[key] = append(lane, o.ID)
	}
}

func (w *leaseWorld) goes(id string, to bridge.State, why bridge.Reason) bridge.Order {
	from := w.orders[id].State
	change := func(o *bridge.Order) {
		o.State, o.Reason = to, why
		if to == bridge.StateSending {
			intent(o, w.now)
		}
	}
	next := w.orders[id]
	change(&next)
	w.promise(next, from)
	o := w.move(id, to, change)
	w.believe(o, from)
	if o.State != bridge.StateSending {
		delete(w.lost, id)
	}
	w.line(o)
	return o
}

// promise looks whether the ledger will let an order begin that it must not let begin.
func (w *leaseWorld) promise(next bridge.Order, from bridge.State) {
	if next.State != bridge.StateSending || from == bridge.StateSending || next.Actor != bridge.ActorLease {
		return
	}
	wanted := w.wanted(machineOf(next.Host))
	began := w.ledger.Begin(next, w.now).State == bridge.StateQueued
	if bridge.IsRelease(next.Task) && began && wanted != "" {
		w.failf("%s releases machine %s on behalf of its leases, and %s wants it isolated", next.ID, machineOf(next.Host), wanted)
	}
}

// pass lets time go by. A reason that lapsed stays so when the clock is set back.
func (w *leaseWorld) pass(d time.Duration) {
	w.now = w.now.Add(d)
	lapsed := func(_ string, r reason) bool { return !r.live(w.now) }
	for _, reasons := range w.reasons {
		maps.DeleteFunc(reasons, lapsed)
	}
	for _, reasons := range w.taken {
		maps.DeleteFunc(reasons, lapsed)
	}
}

// wanted returns a reason that is alive, or nothing.
func (w *leaseWorld) wanted(machine string) string {
	for id, r := range w.reasons[machine] {
		if r.live(w.now) && !r.doubt {
			return id
		}
	}
	return ""
}

// tell adds a line to the story.
func (w *leaseWorld) tell(format string, args ...any) {
	w.story = append(w.story, w.now.Format("02 15:04:05 ")+fmt.Sprintf(format, args...))
}

// believe keeps the reasons as orders come and go.
func (w *leaseWorld) believe(o bridge.Order, from bridge.State) {
	m := machineOf(o.Host)
	w.tell("%s %s (%T%v for %s) %s → %s %s", o.ID, o.Host, o.Task, o.Task, o.For, from, o.State, o.Reason)
	switch {
	case o.Actor == bridge.ActorLease && bridge.IsIsolation(o.Task):
	case bridge.IsRelease(o.Task):
		w.believeRelease(o, from, m)
	case o.State == bridge.StateSending && from != bridge.StateSending:
		w.reasons[m][o.ID] = reason{until: w.until(o), effect: o.ID}
	case o.State == bridge.StateDuplicate && o.Reason == bridge.ReasonLease:
		w.reasons[m][o.ID] = reason{until: w.until(o), effect: o.Covers, sure: true}
	case o.State == bridge.StateAccepted || o.State == bridge.StateDone:
		if r, is := w.reasons[m][o.ID]; is {
			r.sure = true
			w.reasons[m][o.ID] = r
		}
	case o.State.CameToNothing() || from == bridge.StateSending && o.State != bridge.StateUnknown:
		w.nothingCameOf(o.ID, w.reasons[m])
		for _, taken := range w.taken {
			w.nothingCameOf(o.ID, taken)
		}
	}
}

func (w *leaseWorld) nothingCameOf(effect string, reasons map[string]reason) {
	for id, r := range reasons {
		if r.effect == effect {
			// A reason more may go on for ever where an older isolation stands.
			m := machineOf(w.orders[id].Host)
			w.vague[m] = w.vague[m] || id != effect && r.until.IsZero()
			delete(reasons, id)
		}
	}
}

func (w *leaseWorld) believeRelease(o bridge.Order, from bridge.State, m string) {
	switch {
	case o.State.Pending() && from != bridge.StateSending:
		if w.taken[o.ID] == nil {
			w.taken[o.ID] = map[string]reason{}
		}
		if o.State == bridge.StateSending {
			w.began[o.ID] = true
			for release, taken := range w.taken {
				maps.DeleteFunc(taken, func(id string, r reason) bool {
					ours := machineOf(w.orders[id].Host) == m && w.orders[release].State == bridge.StateQueued
					if ours {
						w.taken[o.ID][id] = r
					}
					return ours
				})
			}
		}
		if o.Actor != bridge.ActorLease {
			maps.Copy(w.taken[o.ID], w.reasons[m])
			clear(w.reasons[m])
		}
	case o.State == bridge.StateCancelled || o.State == bridge.StateRefused:
		for id, r := range w.taken[o.ID] {
			r.doubt = r.doubt || !w.began[o.ID] && !strings.EqualFold(o.Host, w.orders[id].Host)
			w.reasons[m][id] = r
		}
		delete(w.taken, o.ID)
	case o.State == bridge.StateAccepted:
		delete(w.taken, o.ID)
	case o.State.End():
		if !w.began[o.ID] && len(w.named[m]) > 1 {
			// Nobody found out under which other name the machine was isolated: people see the release fail.
			for _, r := range w.taken[o.ID] {
				w.vague[m] = w.vague[m] || r.until.IsZero()
			}
		}
		delete(w.taken, o.ID)
	}
}

func (w *leaseWorld) until(o bridge.Order) time.Time {
	switch {
	case o.For < 0:
		return time.Time{}
	case o.For == 0:
		return w.now.Add(w.policy.Lease.Default)
	default:
		return w.now.Add(o.For)
	}
}

// sees is KSC taking an order.
func (w *leaseWorld) sees(id string) {
	o := w.orders[id]
	m := machineOf(o.Host)
	w.tell("KSC sees %s", id)
	w.effects[m] = append(w.effects[m], effect{order: id, isolates: bridge.IsIsolation(o.Task), at: w.now})
}

func (w *leaseWorld) seen(id string) bool {
	return slices.ContainsFunc(w.effects[machineOf(w.orders[id].Host)], func(e effect) bool { return e.order == id })
}

// fails is the host not doing what KSC took.
func (w *leaseWorld) fails(id string) {
	m := machineOf(w.orders[id].Host)
	for i := range w.effects[m] {
		if w.effects[m][i].order == id {
			w.effects[m][i].void = true
		}
	}
}

// isolated reports whether the machine is cut off in the end.
func (w *leaseWorld) isolated(m string) bool {
	for _, e := range slices.Backward(w.effects[m]) {
		if !e.void {
			off := w.policy.Lease.ProductOff
			return e.isolates && (off <= 0 || w.now.Before(e.at.Add(off)))
		}
	}
	return false
}

// step carries one order on; choose says how out of n ways.
func (w *leaseWorld) step(id string, choose func(n int) int) {
	o := w.orders[id]
	lane := w.lanes[w.lane(o)]
	late := bridge.IsIsolation(o.Task) && slices.Contains(lane, id) && w.overtaken(lane[slices.Index(lane, id)+1:])
	switch o.State {
	case bridge.StateQueued:
		w.stepQueued(o, late, choose)
	case bridge.StateSending:
		if w.lost[id] {
			w.stepLost(o, late, choose)
			return
		}
		w.stepSending(o, late, choose)
	case bridge.StateAccepted, bridge.StateRunning:
		switch choose(6) {
		case 0:
			w.fails(id)
			w.goes(id, bridge.StateFailed, bridge.ReasonNone)
		case 1:
			w.goes(id, bridge.StateUnknown, bridge.ReasonDeadline)
		case 2:
			if o.State == bridge.StateAccepted {
				w.goes(id, bridge.StateRunning, bridge.ReasonNone)
			}
		default:
			w.goes(id, bridge.StateDone, bridge.ReasonNone)
		}
	}
}

func (w *leaseWorld) stepQueued(o bridge.Order, late bool, choose func(n int) int) {
	switch n := choose(8); {
	case late:
		w.goes(o.ID, bridge.StateCancelled, bridge.ReasonNone)
	case n == 0:
		w.goes(o.ID, bridge.StateRefused, bridge.ReasonHostNotFound)
	case n == 1:
		w.goes(o.ID, bridge.StateExpired, bridge.ReasonAge)
	default:
		w.goes(o.ID, bridge.StateSending, bridge.ReasonNone)
	}
}

func (w *leaseWorld) stepSending(o bridge.Order, late bool, choose func(n int) int) {
	nothing := []bridge.State{bridge.StateQueued, bridge.StateFailed, bridge.StateRefused}
	switch n := choose(12); {
	case w.now.Sub(o.Intent.Second) > maxAge:
		w.goes(o.ID, bridge.StateExpired, bridge.ReasonAge)
	case n < 3:
		w.goes(o.ID, nothing[n], bridge.ReasonNone)
	case n == 3 && w.hold.Active && !bridge.IsRelease(o.Task):
		w.goes(o.ID, bridge.StateHeld, bridge.ReasonHold)
	case n == 4 && late:
		w.goes(o.ID, bridge.StateCancelled, bridge.ReasonNone)
	case n == 5:
		w.lost[o.ID] = true
	case n == 6:
		w.sees(o.ID)
		w.lost[o.ID] = true
	case n == 7:
		w.sees(o.ID)
		w.goes(o.ID, bridge.StateDone, bridge.ReasonNone)
	default:
		w.sees(o.ID)
		w.goes(o.ID, bridge.StateAccepted, bridge.ReasonNone)
	}
}

// stepLost searches for an order whose answer was lost.
func (w *leaseWorld) stepLost(o bridge.Order, late bool, choose func(n int) int) {
	switch n := choose(4); {
	case n == 0:
		w.goes(o.ID, bridge.StateUnknown, bridge.ReasonUnreachable)
	case w.seen(o.ID):
		w.goes(o.ID, bridge.StateAccepted, bridge.ReasonNone)
	case late || bridge.IsIsolation(o.Task) && !slices.Contains(w.lanes[w.lane(o)], o.ID):
		w.goes(o.ID, bridge.StateCancelled, bridge.ReasonNone)
	default:
		delete(w.lost, o.ID) // sent once more, as it is
	}
}

// keeper admits what the leases ask for.
func (w *leaseWorld) keeper(t *rapid.T, refuse bool) int {
	before := len(w.notes)
	due := w.due()
	again := w.due()
	n := 0
	for i, task := range due {
		o, err := task.Order()
		if err != nil {
			t.Fatal(err)
		}
		if twin, _ := again[i].Order(); twin.ID != o.ID {
			w.failf("asked twice at once, the leases name %s and %s", o.ID, twin.ID)
		}
		if _, known := w.orders[o.ID]; known {
			continue
		}
		n++
		if refuse {
			o.State, o.Reason, o.Created, o.Executor = bridge.StateRefused, bridge.ReasonProtectedHost, w.now, bridge.ExecutorKSC
			w.admit(o)
			continue
		}
		w.enter(o, false)
	}
	for _, note := range w.notes[before:] {
		w.productEnded(machineOf(strings.SplitN(note.Detail, ":", 2)[0]))
	}
	return n
}

// productEnded checks a machine the ledger has just recorded as ended by the product.
func (w *leaseWorld) productEnded(m string) {
	w.tell("machine %s counts as ended by the product", m)
	clear(w.reasons[m])
	for _, taken := range w.taken {
		for id := range taken {
			if machineOf(w.orders[id].Host) == m {
				delete(taken, id)
			}
		}
	}
	for _, l := range w.ledger.Leases() {
		if machineOf(l.Host) == m && l.Live() {
			w.failf("machine %s was ended by the product, and lease %s still says isolated", m, l.Order)
		}
	}
	for _, e := range slices.Backward(w.effects[m]) {
		if e.void {
			continue
		}
		if e.isolates && w.now.Sub(e.at) < w.policy.Lease.ProductOff-maxAge-time.Minute {
			w.failf("machine %s counts as ended by the product %s after it was isolated", m, w.now.Sub(e.at))
		}
		return
	}
}

// settle lets everything come to its end, with nothing going wrong any more.
func (w *leaseWorld) settle(t *rapid.T) {
	w.resumeAll()
	for range 400 {
		ready := w.ready()
		for _, id := range ready {
			w.step(id, func(n int) int { return n - 1 })
		}
		if w.keeper(t, false) == 0 && len(ready) == 0 {
			w.pass(47 * time.Minute)
		}
		if w.failure != "" {
			return
		}
	}
}

func (w *leaseWorld) resumeAll() {
	w.resume()
	for _, id := range slices.Clone(w.ids) {
		o := w.orders[id]
		if o.State != bridge.StateHeld {
			continue
		}
		es := w.effects[machineOf(o.Host)]
		late := slices.ContainsFunc(es, func(e effect) bool { return !e.isolates && !e.at.Before(o.Created) })
		if late && o.Actor != bridge.ActorLease {
			w.goes(id, bridge.StateCancelled, bridge.ReasonNone)
			continue
		}
		w.goes(id, bridge.StateQueued, bridge.ReasonNone)
	}
}

// settled checks a world in which nothing is on its way any more.
func (w *leaseWorld) settled() {
	for m := range w.reasons {
		permanent, sure := false, false
		for _, r := range w.reasons[m] {
			permanent = permanent || r.live(w.now)
			sure = sure || r.live(w.now) && r.sure && !r.doubt
		}
		if !permanent && w.isolated(m) && !w.vague[m] {
			w.failf("nothing wants machine %s isolated, and it is for ever: %v", m, w.effects[m])
		}
		if sure && len(w.named[m]) == 1 && !w.isolated(m) && w.policy.Lease.ProductOff == 0 {
			w.failf("machine %s is to stay isolated, and it is not: %v", m, w.effects[m])
		}
	}
	if due := w.due(); len(due) > 0 {
		w.failf("still due: %+v", due)
	}
	for id, l := range w.leases {
		if l.EndedBy != "" || l.Renewing != "" && l.Live() {
			w.failf("lease %s still waits for an order: %+v", id, l)
		}
	}
}

func (w *leaseWorld) fatal(t *rapid.T, what string) {
	t.Fatalf("%s\n%s", what, strings.Join(w.story, "\n"))
}

func (w *leaseWorld) check(t *rapid.T) {
	if w.failure != "" {
		w.fatal(t, w.failure)
	}
	if len(w.problems) > 0 {
		w.fatal(t, strings.Join(w.problems, "\n"))
	}
	if diff := w.sameAfterRestart(); diff != "" {
		w.fatal(t, "another ledger after a restart (-next +this):\n"+diff)
	}
}

func (w *leaseWorld) actions(t *rapid.T) map[string]func(*rapid.T) {
	hosts := rapid.SampledFrom([]string{"WS-1", "ws-1", "guid-1", "WS-2", "GUID-2"})
	if rapid.Bool().Draw(t, "one name each") {
		hosts = rapid.SampledFrom([]string{"WS-1", "ws-1", "WS-2"})
	}
	lasts := rapid.SampledFrom([]time.Duration{0, 5 * time.Second, 90 * time.Second, 10 * time.Minute, 6 * time.Hour, -1})
	pauses := rapid.SampledFrom([]time.Duration{
		-2 * time.Second, time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, time.Hour, 5 * time.Hour,
	})
	step := func(t *rapid.T) {
		ready := w.ready()
		if len(ready) == 0 {
			t.Skip("nothing to do")
		}
		id := rapid.SampledFrom(ready).Draw(t, "order")
		w.step(id, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "how") })
	}
	return map[string]func(*rapid.T){
		"": w.check,
		"isolate": func(t *rapid.T) {
			o := ruled(fmt.Sprintf("i%d", len(w.ids)), hosts.Draw(t, "host"), lasts.Draw(t, "for"))
			if rapid.IntRange(0, 3).Draw(t, "by hand") == 0 {
				o.Rule, o.AlertID, o.At, o.Actor = "", "", "", "cli:bob"
			}
			w.enter(o, rapid.Bool().Draw(t, "known"))
		},
		"release": func(t *rapid.T) {
			w.enter(released(fmt.Sprintf("r%d", len(w.ids)), hosts.Draw(t, "host")), rapid.Bool().Draw(t, "known"))
		},
		"step":       step,
		"step again": step,
		"step more":  step,
		"keeper":     func(t *rapid.T) { w.keeper(t, rapid.IntRange(0, 7).Draw(t, "refuse") == 0) },
		"wait": func(t *rapid.T) {
			w.pass(pauses.Draw(t, "pause"))
			w.keeper(t, false)
		},
		"cancel": func(t *rapid.T) {
			queued := slices.DeleteFunc(w.ready(), func(id string) bool { return w.orders[id].State != bridge.StateQueued })
			if len(queued) == 0 {
				t.Skip("nothing to cancel")
			}
			w.goes(rapid.SampledFrom(queued).Draw(t, "order"), bridge.StateCancelled, bridge.ReasonNone)
		},
		"crash": func(*rapid.T) { w.ledger = w.rebuilt() },
		"hold": func(*rapid.T) {
			if w.hold.Active {
				w.resumeAll()
				return
			}
			w.setHold(bridge.Hold{Active: true, Reason: "drill", Since: w.now})
		},
	}
}

func TestLeasesAgreeWithAModelOfReasonsAndEffects(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]bridge.LeasePolicy{
		"the product leaves it":     {},
		"the product ends it":       {ProductOff: 5 * time.Hour},
		"the product is asked anew": {ProductOff: 5 * time.Hour, Reassert: true},
		"quick product, asked anew": {ProductOff: 20 * time.Minute, Reassert: true, Default: 3 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for round := 0; round < cases/4/100 && !t.Failed(); round++ {
				rapid.Check(t, func(t *rapid.T) {
					w := newLeaseWorld(bridge.Policy{Lease: p})
					t.Repeat(w.actions(t))
					w.settle(t)
					w.settled()
					w.check(t)
				})
			}
		})
	}
}
