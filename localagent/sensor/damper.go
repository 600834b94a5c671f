package sensor

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	// maxDamped bounds the chains and rules that are remembered; the oldest are forgotten, which lets an alert through.
	maxDamped = 4096
	// summaryEvery is how often alerts that were left out are told when no other alert carries their number.
	summaryEvery = time.Minute
)

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
	began time.Time
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
	left   uint64 // alerts left out and not told
	latest time.Time
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
	rule := d.rules[l.rule]
	if rule == nil {
		d.forgetRules()
		rule = &ruleState{}
		d.rules[l.rule] = rule
	}
	rule.latest = now
	if d.window > 0 {
		if last, known := d.seen[l]; known && now.Sub(last) < d.window && !now.Before(last) {
			rule.left++
			return 0, false
		}
	}
	d.all.fill(d.total, now)
	rule.fill(d.byRule, now)
	if !d.total.unlimited() && d.all.tokens < 1 || !d.byRule.unlimited() && rule.tokens < 1 {
		rule.left++
		return 0, false
	}
	d.all.tokens--
	rule.tokens--
	if d.window > 0 {
		d.forgetSeen(now)
		d.seen[l] = now
	}
	left, rule.left = rule.left, 0
	return left, true
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

// omitted returns what no alert has told for summaryEvery, and counts it as told; with all set everything.
func (d *damper) omitted(now time.Time, all bool) []omission {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.began.IsZero() {
		d.began = now
	}
	if !all && now.Sub(d.began) < summaryEvery {
		return nil
	}
	d.began = now
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
