package bridge

import (
	"fmt"
	"time"
)

// chargeOf returns what an order counts as when it begins; false when no limit is about it.
func (l *Ledger) chargeOf(o Order, now time.Time) (Fact, bool) {
	if IsRelease(o.Task) {
		return Fact{}, false
	}
	f := Fact{What: FactCharge, Key: hostKey(o.Host), Order: o.ID, Task: o.Task.Kind(), Source: o.Source, Rule: o.Rule, At: l.notBefore(now)}
	counts := false
	for _, limit := range l.policy.Limits {
		if !limit.Covers(f.Task) {
			continue
		}
		counts = true
		if until := f.At.Add(limit.Per); until.After(f.Until) {
			f.Until = until
		}
	}
	return f, counts
}

func (l *Ledger) charge(f Fact) {
	for i, limit := range l.policy.Limits {
		if limit.Covers(f.Task) {
			l.counter(i, limit, f.Source, f.Rule).add(f.At, f.Order)
		}
	}
}

// uncharge reports whether the order counted.
func (l *Ledger) uncharge(o Order) bool {
	counted := false
	for i, limit := range l.policy.Limits {
		if limit.Covers(o.Task.Kind()) {
			l.counter(i, limit, o.Source, o.Rule).drop(o.ID)
			counted = true
		}
	}
	return counted
}

func (l *Ledger) counter(i int, limit Limit, source, rule string) *window {
	key := chargeKey{limit: i}
	switch limit.By {
	case LimitBySource:
		key.by = source
	case LimitByRule:
		key.by = rule
	}
	w := l.charges[key]
	if w == nil {
		w = &window{}
		l.charges[key] = w
	}
	return w
}

// overLimit stops an order whose budget is used up. For orders of rules it latches the hold: something is wrong, and a person
// has to look. A person who sends by hand is there already and is told.
func (l *Ledger) overLimit(o Order, now time.Time) Judgement {
	for i, limit := range l.policy.Limits {
		if !limit.Covers(o.Task.Kind()) {
			continue
		}
		most, known := l.most(limit)
		since := now.Add(-limit.Per)
		w := l.counter(i, limit, o.Source, o.Rule)
		if known && w.count(since) < most {
			continue
		}
		text := limit.text(most)
		if !known {
			text = limit.name() + ": nobody knows how many hosts there are (inventory.hosts), so a share of them is nothing"
		} else if first := w.oldest(since); o.Rule == "" && !first.IsZero() {
			text += "; the next one may begin at " + first.Add(limit.Per).UTC().Format(time.RFC3339)
		}
		text = place(text, limit.At)
		if o.Rule == "" {
			return Judgement{Verdict: Verdict{StateRefused, ReasonLimit, text}}
		}
		return Judgement{Verdict: Verdict{StateHeld, ReasonLimit, text}, Latch: "budget used up: " + text}
	}
	return Judgement{Verdict: Verdict{State: StateQueued}}
}

// most is how many orders the limit lets begin; false when that cannot be told.
func (l *Ledger) most(limit Limit) (int, bool) {
	if limit.Share <= 0 {
		return limit.Max, true
	}
	if l.policy.Known == nil {
		return 0, false
	}
	hosts, known := l.policy.Known()
	if !known || hosts <= 0 {
		return 0, false
	}
	// 29 % of 100 is 28.999… in binary fractions.
	most := max(1, int(limit.Share*float64(hosts)+1e-6))
	if limit.Max > 0 {
		most = min(most, limit.Max)
	}
	return most, true
}

func (l Limit) name() string {
	if l.All {
		return "orders"
	}
	return string(l.Task)
}

func (l Limit) text(most int) string {
	text := fmt.Sprintf("at most %d %s per %s", most, l.name(), l.Per)
	if l.By != "" {
		text += " and " + l.By
	}
	return text
}

// overLive keeps KSC from dropping unfinished tasks; such orders go on by themselves when there is room.
func (l *Ledger) overLive(o Order, _ time.Time) Judgement {
	ok := Judgement{Verdict: Verdict{State: StateQueued}}
	_, profile := SplitHost(machineKey(o))
	budget := l.policy.live(profile)
	if budget.Hold <= 0 || o.Executor != ExecutorKSC {
		return ok
	}
	used, where := l.onServer[profile], "KSC"
	if profile != "" {
		where = "KSC " + profile
	}
	if budget.PerHost {
		used, where = l.onHost[machineKey(o)], o.Host
	}
	if used < budget.room(o.Task.Kind()) {
		return ok
	}
	text := place(fmt.Sprintf("%s has %d unfinished tasks, %s waits from %d on", where, used, o.Task.Kind(), budget.room(o.Task.Kind())), budget.At)
	state := StateHeld
	if o.Rule == "" {
		state = StateRefused
	}
	return Judgement{Verdict: Verdict{state, ReasonLiveTasks, text}}
}

// follow keeps count of what KSC has not finished.
func (l *Ledger) follow(o Order) {
	if !l.policy.CountsLive() {
		return
	}
	unfinished := o.State == StateSending || o.State == StateAccepted || o.State == StateRunning
	if unfinished && o.Executor == ExecutorKSC {
		l.enter(o.ID, machineKey(o))
	} else {
		l.leave(o.ID)
	}
}

func (l *Ledger) enter(order, key string) {
	if _, in := l.live[order]; !in {
		l.live[order] = key
		l.onHost[key]++
		_, profile := SplitHost(key)
		l.onServer[profile]++
	}
}

func (l *Ledger) leave(order string) {
	key, in := l.live[order]
	if !in {
		return
	}
	delete(l.live, order)
	_, profile := SplitHost(key)
	l.onServer[profile]--
	if l.onHost[key]--; l.onHost[key] == 0 {
		delete(l.onHost, key)
	}
}

// LiveTasks returns how many tasks KSC has not finished, as far as this bridge knows.
func (l *Ledger) LiveTasks() int { return len(l.live) }

// Room reports whether an order that waits for KSC to finish tasks could begin.
func (l *Ledger) Room(o Order) bool { return l.overLive(o, time.Time{}).State == StateQueued }
