package sensor

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// maxDamped bounds the chains and rules that are remembered; the oldest are forgotten, which lets an alert through.
const maxDamped = 4096

// Rate is how many alerts may be made: so many a second, and Burst at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

func (r Rate) unlimited() bool { return r.PerSecond < 0 }

// damper decides which alerts are made when there are many. It is safe for many goroutines.
type damper struct {
	window        time.Duration // 0 = no two are alike
	total, byRule Rate

	// mu guards the rest.
	mu    sync.Mutex
	all   bucket
	rules map[string]*ruleState
	seen  map[likeness]time.Time
}

// likeness is what two alerts have in common that say the same: the rule, the process that did it, and what it did.
type likeness struct {
	rule         string
	parent       int
	parentImage  string
	child, extra string
}

type ruleState struct {
	bucket
	left uint64 // alerts left out and not told
}

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) fill(r Rate, now time.Time) {
	if b.at.IsZero() {
		b.tokens = float64(r.Burst)
	} else if d := now.Sub(b.at); d > 0 {
		b.tokens = min(b.tokens+d.Seconds()*r.PerSecond, float64(r.Burst))
	}
	b.at = now
}

func newDamper(window time.Duration, total, byRule Rate) *damper {
	return &damper{window: window, total: total, byRule: byRule, rules: map[string]*ruleState{}, seen: map[likeness]time.Time{}}
}

// admit reports whether an alert is made, and if so how many of its rule were left out since the one before.
func (d *damper) admit(l likeness, now time.Time) (left uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inWindow(l, now) {
		return 0, false
	}
	if left, ok = d.pass(l.rule, now); ok && d.window > 0 {
		d.forgetSeen(now)
		d.seen[l] = now
	}
	return left, ok
}

// alike reports whether the window is why an alert is not admitted.
func (d *damper) alike(l likeness, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inWindow(l, now)
}

func (d *damper) inWindow(l likeness, now time.Time) bool {
	last, known := d.seen[l]
	return known && now.Sub(last) < d.window && !now.Before(last)
}

// admitAgain does so for an alert that was not admitted: only the rates hold for it.
func (d *damper) admitAgain(rule string, now time.Time) (left uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pass(rule, now)
}

func (d *damper) pass(name string, now time.Time) (left uint64, ok bool) {
	rule := d.rule(name)
	d.all.fill(d.total, now)
	rule.fill(d.byRule, now)
	if !d.total.unlimited() && d.all.tokens < 1 || !d.byRule.unlimited() && rule.tokens < 1 {
		return 0, false
	}
	d.all.tokens--
	rule.tokens--
	left, rule.left = rule.left, 0
	return left, true
}

// leaveOut counts an alert that is not made.
func (d *damper) leaveOut(rule string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rule(rule).left++
}

func (d *damper) rule(name string) *ruleState {
	rule := d.rules[name]
	if rule == nil {
		d.forgetRules()
		rule = &ruleState{}
		d.rules[name] = rule
	}
	return rule
}

// forgetSeen makes room: what is over goes first, then everything.
func (d *damper) forgetSeen(now time.Time) {
	if len(d.seen) < maxDamped {
		return
	}
	for l, at := range d.seen {
		if now.Sub(at) >= d.window || now.Before(at) {
			delete(d.seen, l)
		}
	}
	if len(d.seen) >= maxDamped {
		clear(d.seen)
	}
}

func (d *damper) forgetRules() {
	if len(d.rules) < maxDamped {
		return
	}
	for name, r := range d.rules {
		if r.left == 0 {
			delete(d.rules, name)
		}
	}
}

// omission is how many alerts of a rule were left out.
type omission struct {
	rule  string
	count uint64
}

// omitted returns what no alert has told, and counts it as told.
func (d *damper) omitted() []omission {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []omission
	for name, r := range d.rules {
		if r.left > 0 {
			list = append(list, omission{name, r.left})
			r.left = 0
		}
	}
	slices.SortFunc(list, func(a, b omission) int { return cmp.Compare(a.rule, b.rule) })
	return list
}
