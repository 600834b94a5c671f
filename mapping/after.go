package mapping

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/yamltree"
)

const (
	minStrikes      = 2
	maxStrikes      = 10000
	minStrikeWithin = time.Second
	maxStrikeWithin = 24 * time.Hour
)

// threshold is what `after` says: how many alerts that agree in the facts of by must come within a time span
// before the orders of the rule act. The count itself is kept by the guards.
type threshold struct {
	count  int
	within time.Duration
	by     []fact
}

// strike gives an order the key its alert counts under. The step's index is part of it, so that each element of
// `do` has a count of its own. An alert without one of the facts counts for nobody: its order is refused.
func (t *threshold) strike(o *bridge.Order, index int, v *view) (bridge.Reason, error) {
	key := make([]string, 0, 3+2*len(t.by))
	key = append(key, o.Rule, string(o.Task.Kind()), strconv.Itoa(index))
	for _, f := range t.by {
		values := v.values(f.ref)
		if len(values) == 0 {
			return bridge.ReasonInvalid, fmt.Errorf("after.by: the alert has no %s", f.name)
		}
		key = append(key, strconv.Itoa(len(values)))
		for i := range values {
			if f.name == keyHost {
				// WS1 and ws1 are one host; of other facts only the product knows whether case matters.
				_, profile, _ := strings.Cut(o.Host, hostSeparator)
				key = append(key, strings.TrimSuffix(values[i].fold()+hostSeparator+strings.ToLower(profile), hostSeparator))
				continue
			}
			b, ok := values[i].json()
			if !ok {
				return bridge.ReasonInvalid, fmt.Errorf("after.by: %s holds more than plain values", f.name)
			}
			key = append(key, string(b))
		}
	}
	o.Strike, o.StrikeCount, o.StrikeWithin = digest("s", key...), t.count, t.within
	return bridge.ReasonNone, nil
}

// after compiles the threshold of a rule; nil when it is no mapping.
func (l *loader) after(n *yamltree.Node) *threshold {
	before := len(l.Problems)
	entries, ok := l.Entries(n, keyAfter, afterKeys)
	if !ok {
		return nil
	}
	t := &threshold{by: []fact{{name: keyHost, ref: ref{index: fieldNamed(keyHost)}, kind: kindText}}}
	given := map[string]bool{}
	for _, e := range entries {
		given[e.Key] = true
		switch e.Key {
		case keyCount:
			t.count = l.strikes(e.Value)
		case keyWithin:
			if d, ok := l.duration(e.Value, keyWithin); ok {
				t.within = d
				if d < minStrikeWithin || d > maxStrikeWithin {
					l.Fail(e.Value, "within must be from %s to %s", minStrikeWithin, hours(maxStrikeWithin))
				}
			}
		case keyBy:
			t.by = l.strikeFacts(e.Value)
		}
	}
	if len(l.Problems) > before {
		return t
	}
	if !given[keyCount] {
		l.Fail(n, "after has no count: say how many alerts it takes")
	}
	if !given[keyWithin] {
		l.Fail(n, "after has no within: say in which time span the alerts must come, like 10m")
	}
	return t
}

func (l *loader) strikes(n *yamltree.Node) int {
	if i, ok := n.Value.(uint64); ok && i >= minStrikes && i <= maxStrikes {
		return int(i)
	}
	l.Fail(n, "count must be a whole number from %d to %d", minStrikes, maxStrikes)
	return 0
}

// strikeFacts reads `by` of a threshold. An empty list would count alerts about any two things together.
func (l *loader) strikeFacts(n *yamltree.Node) []fact {
	items, ok := l.Items(n, keyBy)
	if !ok {
		return nil
	}
	if len(items) == 0 {
		l.Fail(n, "by is empty: name the fields in which the alerts must agree, or leave by out for [host]")
	}
	var by []fact
	for _, item := range items {
		f, ok := l.fact(item)
		if ok && f.kind == kindTime {
			l.Fail(item, "alerts cannot be counted by their time: within says how close together they must come")
			continue
		}
		if ok {
			by = append(by, f)
		}
	}
	return by
}
