package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

// effect is one order that reached an executor.
type effect struct {
	order   bridge.Order
	machine int
	began   bridge.AuditRecord // its record with to=sending
	in      bridge.AuditRecord // the record of its admission
	from    delivered          // the alert it comes from
	nothing bool               // it did not happen after all, whatever the bridge knows about that
}

func (e *effect) isolation() bool { return e.order.Task.Kind() == bridge.KindIsolateHost }

// consent is what a person agreed to.
type consent struct {
	order bridge.Order // as it was when it was shown
	who   string
	at    time.Time
	set   *setup // the settings in force
}

// delivered is an alert as the bridge got it.
type delivered struct {
	alert alert
	at    time.Time
}

// oracle judges each effect by a reading of the policy of its own. It shares no code with the guards: it looks at the plan,
// the world, the audit records and its own list of effects.
type oracle struct {
	plan *plan

	mu       sync.Mutex // guards everything below
	set      *setup     // in force
	store    *store.Store
	problems []string
	effects  []*effect
	seen     map[string]int       // how often each clause let an effect pass that it is about
	alerts   map[string]delivered // by the digest of the document
	consents map[string]consent
	held     bool      // a person's hold is in force
	latched  time.Time // when a guard latched the hold; zero = it did not
	undone   bool      // it did because people took back too much
	resumes  []time.Time
	began    []start
	changed  int64 // the last record under other settings: budgets and damping count what came after it
}

func newOracle(p *plan) *oracle {
	return &oracle{plan: p, seen: map[string]int{}, alerts: map[string]delivered{}, consents: map[string]consent{}}
}

// verdicts collects what is wrong with one effect.
type verdicts struct {
	*oracle
	order bridge.Order
}

// must notes a clause that is about the effect.
func (v verdicts) must(clause string, holds bool, format string, args ...any) {
	if v.seen[clause]++; !holds {
		v.problems = append(v.problems, fmt.Sprintf("%s: %s %s%+v on %q rule %q actor %q: %s", clause, v.order.ID, v.order.Task.Kind(), shortTask(v.order.Task), v.order.Host,
			v.order.Rule, v.order.Actor, fmt.Sprintf(format, args...)))
	}
}

func shortTask(t bridge.Task) any {
	if scan, is := t.(bridge.IOCScan); is {
		scan.IOC = "…"
		return scan
	}
	return t
}

// judge is asked right before an effect.
func (o *oracle) judge(order bridge.Order, executor string, m int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v, now := verdicts{o, order}, time.Now()
	e := o.audited(v, executor, m)
	if e == nil {
		return
	}
	release := bridge.IsRelease(order.Task)
	if !release {
		o.protected(v, m, executor)
		// What began before a budget was used up is inside it and goes on; any other hold stops it as well.
		inside := o.latched.IsZero() || !o.undone && !e.began.Time.After(o.latched) || !now.After(o.latched)
		v.must("hold", !o.held && inside, "the bridge is on hold")
	}
	o.permitted(v, e, now)
	o.young(v, e, now)
	if order.AlertID != "" {
		o.entitled(v, e)
	}
	if order.Actor != bridge.ActorLease && !release {
		o.live(v, e)
	}
	o.effects = slices.DeleteFunc(o.effects, func(x *effect) bool { return x.order.ID == order.ID })
	o.effects = append(o.effects, e)
	o.budgets(v)
	o.repeated(v, e)
}

// done takes note of an effect that did not happen.
func (o *oracle) done(order bridge.Order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.effects {
		if e.order.ID == order.ID {
			e.nothing = true
		}
	}
}

// audited looks for the record that has to be on disk before an effect.
func (o *oracle) audited(v verdicts, executor string, m int) *effect {
	records, err := o.store.Audit(context.Background(), bridge.AuditFilter{Order: v.order.ID, Limit: 1000})
	if err != nil || len(records) == 0 {
		v.must("audit", false, "no record: %v", err)
		return nil
	}
	payload := []byte(v.order.Intent.Body)
	if len(payload) == 0 {
		payload, _ = bridge.EncodeParams(v.order.Task)
	}
	digest := sha256.Sum256(payload)
	last := records[len(records)-1]
	v.must("audit", last.To == bridge.StateSending && bytes.Equal(last.Payload, digest[:]), "the last record says %q", last.To)
	meant := whoIs(v.order.Host)
	v.must("executor", v.order.Executor == executor && m == meant && (executor == bridge.ExecutorKSC || m == ownMachine), "it went to machine %d through %s, meant is %d", m, executor, meant)
	return &effect{order: v.order, machine: m, began: last, in: records[0], from: o.alerts[string(records[0].Alert)]}
}

// permitted looks at modes, approvals and hours.
func (o *oracle) permitted(v verdicts, e *effect, now time.Time) {
	order := v.order
	kind := order.Task.Kind()
	listed := slices.Contains(o.set.Approve, kind)
	if o.set.Approve == nil {
		listed = kind == bridge.KindStartProcess || kind == bridge.KindDeleteFile
	}
	needs := ""
	switch {
	case order.Actor == bridge.ActorLease:
		return
	case order.Rule == "":
		if o.set.FourEyes && listed {
			needs = "four eyes"
		}
	default:
		r := o.rule(order.Rule)
		rank := []string{"off", "", "shadow", "approve", "enforce"}
		mode := r.Mode
		if slices.Index(rank, string(o.set.Ceiling)) < slices.Index(rank, mode) {
			mode = string(o.set.Ceiling)
		}
		v.must("mode", mode == "enforce" || mode == "approve", "the mode is %q", mode)
		switch {
		case mode == "approve":
			needs = "mode approve"
		case listed:
			needs = "a task that always waits for a person"
		case !o.open(kind, now):
			needs = "the hour"
		case o.flapped(e):
			needs = "damping"
		}
		if len(o.set.Hours) > 0 {
			v.seen["hours"]++
		}
		if o.set.FlapMax > 0 && e.isolation() {
			v.seen["damping"]++
		}
	}
	yes, asked := o.consents[order.ID]
	if needs != "" {
		v.must("approval", asked, "nobody approved it: %s", needs)
	}
	if !asked {
		return
	}
	same := cmp.Equal(yes.order.Task, order.Task) && yes.order.Host == order.Host && yes.order.For == order.For && yes.order.Subject == order.Subject
	v.must("digest", same, "approved was %+v on %q for %s, process %+v", yes.order.Task, yes.order.Host, yes.order.For, yes.order.Subject)
	if order.Rule == "" && o.set.FourEyes {
		v.must("four eyes", !strings.Contains(order.Actor, bareName(yes.who)), "approved by %s", yes.who)
	}
}

func bareName(actor string) string {
	_, name, _ := strings.Cut(actor, ":")
	name, _, _ = strings.Cut(name, " ")
	return name
}

// open reports whether rules may act with a task at this hour; the zone is UTC.
func (o *oracle) open(kind bridge.Kind, now time.Time) bool {
	about := false
	for _, h := range o.set.Hours {
		if !h.All && h.Task != kind {
			continue
		}
		about = true
		// Minute by minute back from now: the span begins on one of its days and must not have ended since.
		midnight := now.Truncate(24 * time.Hour)
		for _, day := range []time.Time{midnight, midnight.Add(-24 * time.Hour)} {
			from, to := day.Add(h.From), day.Add(h.To)
			if h.From >= h.To {
				to = to.Add(24 * time.Hour)
			}
			if (len(h.Days) == 0 || slices.Contains(h.Days, day.Weekday())) && !now.Before(from) && now.Before(to) {
				return true
			}
		}
	}
	return !about
}

// flapped reports whether the machine went back and forth more than it may.
func (o *oracle) flapped(e *effect) bool {
	if o.set.FlapMax == 0 || !bridge.IsIsolation(e.order.Task) {
		return false
	}
	n := 0
	for _, x := range o.effects {
		if x.order.ID != e.order.ID && x.isolation() && x.order.Actor != bridge.ActorLease && x.machine == e.machine && !x.nothing && x.began.Seq < e.began.Seq &&
			x.began.Time.After(e.began.Time.Add(-o.set.FlapWithin)) && x.began.Seq > o.changed {
			n++
		}
	}
	return n >= o.set.FlapMax
}

// young looks at the deadline: the age of the alert, or of the approval.
func (o *oracle) young(v verdicts, e *effect, now time.Time) {
	order, set := v.order, o.under(e.in)
	from := order.Created
	if order.AlertID != "" {
		d := e.from
		from = d.at
		if d.alert.Age != noTime && d.alert.Age >= -5*time.Minute {
			from = d.at.Add(-d.alert.Age)
		} else {
			v.must("age of a pid", order.Subject.PID == 0, "the alert tells no time")
		}
	}
	yes, asked := o.consents[order.ID]
	if asked {
		from, set = yes.at, yes.set
	}
	limit := set.MaxAge
	if d, is := set.MaxAgeOf[order.Task.Kind()]; is {
		limit = d
	}
	if order.Subject.PID > 0 {
		limit = min(limit, set.MaxAgePID)
	}
	if bridge.IsRelease(order.Task) && order.AlertID == "" {
		limit = 24 * time.Hour
	}
	v.must("age", !now.After(from.Add(limit)), "it is %s old, allowed are %s", now.Sub(from), limit)
}

// entitled looks at what the source and the threshold of the rule allow.
func (o *oracle) entitled(v verdicts, e *effect) {
	d := e.from
	v.must("origin", !d.at.IsZero() && d.alert.Source == v.order.Source, "nobody delivered its alert")
	if v.order.Source == "hook" && o.plan.HookTasks != nil {
		v.must("source", slices.Contains(o.plan.HookTasks, v.order.Task.Kind()), "the source may only %v", o.plan.HookTasks)
	}
	r := o.rule(v.order.Rule)
	if r.Count == 0 {
		return
	}
	n := 0
	for _, x := range o.alerts {
		if strings.EqualFold(hostOf(x.alert), hostOf(d.alert)) && !x.at.After(e.in.Time) && x.at.After(e.in.Time.Add(-r.Within)) {
			n++
		}
	}
	v.must("after", n >= r.Count, "%d alerts within %s, wanted are %d", n, r.Within, r.Count)
}

func hostOf(a alert) string {
	if a.Host == "" && a.Source == "legacy" {
		return machines()[ownMachine].netbios
	}
	return a.Host
}

func (o *oracle) rule(name string) rule {
	i := slices.IndexFunc(o.plan.Rules, func(r rule) bool { return r.Name == name })
	if i < 0 {
		return rule{Mode: "off"}
	}
	return o.plan.Rules[i]
}

// live counts the tasks KSC had not finished when the order began.
func (o *oracle) live(v verdicts, e *effect) {
	budget := o.set.Live
	if budget.Hold == 0 || v.order.Executor != bridge.ExecutorKSC {
		return
	}
	room := budget.Hold
	switch v.order.Task.Kind() {
	case bridge.KindIsolateHost:
		room += budget.Keep
	case bridge.KindOnDemandScan:
		room = budget.Hold * 3 / 4
	}
	n := 0
	for _, x := range o.effects {
		if x.order.ID == v.order.ID || x.order.Executor != bridge.ExecutorKSC || budget.PerHost && x.machine != e.machine {
			continue
		}
		records, err := o.store.Audit(context.Background(), bridge.AuditFilter{Order: x.order.ID, Limit: 1000})
		if err != nil {
			v.must("live tasks", false, "%v", err)
		}
		state := bridge.State("")
		for _, r := range records {
			if r.Seq < e.began.Seq {
				state = r.To
			}
		}
		if state == bridge.StateSending || state == bridge.StateAccepted || state == bridge.StateRunning {
			n++
		}
	}
	v.must("live tasks", n < room, "%d were unfinished, room is for %d", n, room)
}

// budgets counts, for every effect there is, those that began within the span before it.
func (o *oracle) budgets(v verdicts) {
	for i, l := range o.set.Limits {
		var counted []*effect
		for _, e := range o.effects {
			if (l.All || e.order.Task.Kind() == l.Task) && !bridge.IsRelease(e.order.Task) && e.order.Actor != bridge.ActorLease && !e.nothing &&
				e.began.Seq > o.changed {
				counted = append(counted, e)
			}
		}
		for _, e := range counted {
			var fresh time.Time
			for _, at := range o.resumes {
				if !at.After(e.began.Time) {
					fresh = at
				}
			}
			n := 0
			for _, x := range counted {
				together := l.By == "" || l.By == bridge.LimitByRule && x.order.Rule == e.order.Rule || l.By == bridge.LimitBySource && x.order.Source == e.order.Source
				if together && x.began.Seq <= e.began.Seq && x.began.Time.After(e.began.Time.Add(-l.Per)) && x.began.Time.After(fresh) {
					n++
				}
			}
			most, shared := l.Max, 0
			if l.Share > 0 {
				shared = max(1, int(l.Share*100+0.5)*o.set.Known/100)
				if most = shared; l.Max > 0 {
					most = min(most, l.Max)
				}
			}
			v.must("budget", n <= most && (l.Share == 0 || o.set.Known > 0), "limit %d: %d began within %s, allowed are %d", i, n, l.Per, most)
		}
	}
}

// repeated looks for an effect of the same rule, task, host, parameters and process in whose window the order was admitted.
func (o *oracle) repeated(v verdicts, e *effect) {
	r := o.rule(e.order.Rule)
	if e.order.Rule == "" {
		return
	}
	window := o.plan.Window
	if r.Window != "" {
		window, _ = time.ParseDuration(r.Window)
	}
	for _, x := range o.effects {
		if x.order.ID == e.order.ID || x.nothing || !alike(x, e, r) {
			continue
		}
		first, second := x, e
		if first.in.Seq > second.in.Seq {
			first, second = e, x
		}
		stands, err := o.store.Order(context.Background(), first.order.ID)
		if err != nil || stands.State.CameToNothing() || o.turned(first, second) {
			continue
		}
		v.must("dedupe", !second.in.Time.Before(first.in.Time.Add(window)), "%s did the same %s before", first.order.ID, second.in.Time.Sub(first.in.Time))
	}
}

// turned reports whether the machine of two isolations or releases was to go the other way in between: that ends the window.
func (o *oracle) turned(first, second *effect) bool {
	if !first.isolation() {
		return false
	}
	between, err := o.store.Audit(context.Background(), bridge.AuditFilter{After: first.in.Seq, Limit: int(second.in.Seq - first.in.Seq)})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(between, func(r bridge.AuditRecord) bool {
		if r.Task != bridge.KindIsolateHost || whoIs(r.Host) != first.machine || r.To != bridge.StateQueued && r.To != bridge.StateSending {
			return false
		}
		other, err := o.store.Order(context.Background(), r.Order)
		return err == nil && other.Task != first.order.Task
	})
}

func alike(x, y *effect, r rule) bool {
	a, b := x.order, y.order
	if a.Rule != b.Rule || !strings.EqualFold(a.Host, b.Host) || r.ByUser && x.from.alert.User != y.from.alert.User {
		return false
	}
	if a.Subject.PID > 0 || b.Subject.PID > 0 {
		// A number without a start may be another process in the next alert.
		start := x.from.alert.Start
		return start > 0 && start == y.from.alert.Start && a.Subject.PID == b.Subject.PID && a.Task.Kind() == b.Task.Kind()
	}
	return cmp.Equal(a.Task, b.Task)
}

func (o *oracle) failf(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.problems = append(o.problems, fmt.Sprintf(format, args...))
}

// start is a process that began: its settings hold for what stands in the audit chain behind its place.
type start struct {
	set *setup
	seq int64
}

// starts takes note of a process that begins.
func (o *oracle) starts(s *setup, st *store.Store, seq int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set != s {
		o.changed = seq
	}
	o.set, o.store, o.began = s, st, append(o.began, start{s, seq})
}

// under returns the settings that were in force when a record was written.
func (o *oracle) under(r bridge.AuditRecord) *setup {
	set := o.set
	for _, s := range slices.Backward(o.began) {
		if set = s.set; s.seq < r.Seq {
			break
		}
	}
	return set
}

// latch takes note of a hold of the guards. Orders that begin at the same instant may have passed before it.
func (o *oracle) latch(at time.Time, undone bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.latched, o.undone = at, undone
}

// press takes note of a hold or resume by a person, at a moment when nothing else happens.
func (o *oracle) press(active bool, set func()) {
	if !active {
		o.mu.Lock()
		o.held, o.latched, o.resumes = false, time.Time{}, append(o.resumes, time.Now())
		o.mu.Unlock()
	}
	set()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = o.held || active
}

func (o *oracle) delivered(document []byte, d delivered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	digest := sha256.Sum256(document)
	if _, again := o.alerts[string(digest[:])]; !again {
		o.alerts[string(digest[:])] = d
	}
}

// agreed takes note of what a person approved.
func (o *oracle) agreed(order bridge.Order, who string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.consents[order.ID] = consent{order, who, time.Now(), o.set}
}

// count takes note of how an order ended, for the figures.
func (o *oracle) count(order bridge.Order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen["state "+string(order.State)]++
	if order.Reason != "" {
		o.seen["reason "+string(order.Reason)]++
	}
}
