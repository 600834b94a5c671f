package mapping

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/yamltree"
)

const (
	keyRules  = "rules"
	keyName   = "name"
	keyMode   = "mode"
	keyMatch  = "match"
	keyDo     = "do"
	keyDedupe = "dedupe"
	keyAfter  = "after"
	keyWhen   = "when"
	keyTests  = "tests"
	keyBy     = "by"
	keyFor    = "for"
	keyCount  = "count"
	keyWithin = "within"

	keyTask    = "task"
	keyParams  = "params"
	keySubject = "subject"
	keyTree    = "tree"
	keyHost    = "host"

	maxRules    = 2000
	maxRuleName = 64 // characters
	maxSteps    = 32 // elements of one `do`
)

var (
	fileKeys   = []string{keyRules}
	ruleKeys   = []string{keyName, keyMode, keyMatch, keyDo, keyAfter, keyDedupe, keyWhen, keyTests}
	stepKeys   = []string{keyTask, keyParams, keySubject, keyTree, keyFor, keyHost}
	dedupeKeys = []string{keyBy, keyFor}
	afterKeys  = []string{keyCount, keyWithin, keyBy}
)

// loader compiles rule files one after the other.
type loader struct {
	// window is the dedupe window of rules that name none.
	window time.Duration
	// lease is how long an isolation lasts whose step does not say for.
	lease time.Duration
	*document
	rules    []*rule
	places   map[string]string // rule name → where it stands
	rawPaths []string
	rawIndex map[string]int
}

func newLoader(window, lease time.Duration) *loader {
	return &loader{window: window, lease: lease, places: map[string]string{}, rawIndex: map[string]int{}}
}

// load compiles one file and returns its problems.
func (l *loader) load(f RuleFile) []Problem {
	l.document = newDocument(f)
	if root := l.Parse(f.Data); root != nil {
		l.file(root)
	}
	return l.shown()
}

func (l *loader) file(root *yamltree.Node) {
	entries, ok := l.Entries(root, "the file", fileKeys)
	if !ok {
		return
	}
	for _, e := range entries {
		if e.Value.Kind == yamltree.Null {
			continue
		}
		items, ok := l.Items(e.Value, keyRules)
		if !ok {
			continue
		}
		for _, item := range items {
			if len(l.rules) >= maxRules {
				l.Fail(item, "more than %d rules", maxRules)
				return
			}
			l.rule(item)
		}
	}
}

// rule compiles one rule; a rule with problems is compiled as far as it goes, so that all are found.
func (l *loader) rule(n *yamltree.Node) {
	entries, ok := l.Entries(n, "a rule", ruleKeys)
	if !ok {
		return
	}
	r := &rule{file: l.name, line: n.Place.Line, mode: bridge.ModeShadow, window: l.window}
	r.at = fmt.Sprintf("%s:%d", r.file, r.line)
	given := map[string]bool{}
	for _, e := range entries {
		given[e.Key] = true
		switch e.Key {
		case keyName:
			r.name = l.ruleName(e.Value, r.at)
		case keyMode:
			r.mode = l.mode(e.Value)
		case keyMatch:
			r.conditions = append(r.conditions, l.match(e.Value)...)
		case keyDo:
			r.steps = l.steps(e.Value)
		case keyDedupe:
			r.by, r.window = l.dedupe(e.Value)
		case keyAfter:
			r.after = l.after(e.Value)
		case keyWhen, keyTests:
			l.FailAt(e.Place, "%q is not available in this version: remove it", e.Key)
		}
	}
	if !given[keyName] {
		l.Fail(n, "the rule has no name")
	}
	if !given[keyMatch] {
		l.Fail(n, "the rule has no match: write match: {} to take every alert")
	}
	if !given[keyDo] {
		l.Fail(n, "the rule has no do: say which tasks it asks for")
	}
	l.rules = append(l.rules, r)
}

// isRuleName reports whether name begins with a letter or digit and holds only those, dots, dashes and
// underscores, 64 characters at most.
func isRuleName(name string) bool {
	n := 0
	for _, c := range name {
		word := unicode.IsLetter(c) || unicode.IsNumber(c)
		if !word && (n == 0 || !strings.ContainsRune("._-", c)) || c == unicode.ReplacementChar {
			return false
		}
		n++
	}
	return n > 0 && n <= maxRuleName
}

func (l *loader) ruleName(n *yamltree.Node, at string) string {
	name, ok := l.Text(n, keyName)
	if !ok {
		return ""
	}
	if !isRuleName(name) {
		l.Fail(n, "name %q must be 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first", name)
		return ""
	}
	if first, taken := l.places[name]; taken {
		l.Fail(n, "rule name %q is taken by the rule at %s", name, first)
		return name
	}
	l.places[name] = at
	return name
}

func (l *loader) mode(n *yamltree.Node) bridge.Mode {
	word, ok := l.Text(n, keyMode)
	if !ok {
		return bridge.ModeShadow
	}
	mode, err := bridge.ParseMode(word)
	if err != nil {
		modes := []string{string(bridge.ModeOff), string(bridge.ModeShadow), string(bridge.ModeApprove), string(bridge.ModeEnforce)}
		l.Fail(n, "%v%s", err, bridge.DidYouMean(word, modes))
		return bridge.ModeShadow
	}
	return mode
}

func (l *loader) dedupe(n *yamltree.Node) (by []ref, window time.Duration) {
	window = l.window
	entries, ok := l.Entries(n, keyDedupe, dedupeKeys)
	if !ok {
		return nil, window
	}
	for _, e := range entries {
		switch e.Key {
		case keyBy:
			items, ok := l.Items(e.Value, keyBy)
			if !ok {
				continue
			}
			for _, item := range items {
				if f, ok := l.fact(item); ok {
					by = append(by, f.ref)
				}
			}
		case keyFor:
			if d, ok := l.duration(e.Value, "for"); ok {
				window = d
				if d < 0 || d > maxFor {
					l.Fail(e.Value, "for must be from 0s (no dedupe) to %s", hours(maxFor))
				}
			}
		}
	}
	return by, window
}

func (l *loader) duration(n *yamltree.Node, what string) (time.Duration, bool) {
	word, ok := l.Text(n, what)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(word)
	if err != nil {
		l.Fail(n, "%s: %q is not a time span: write it like 30s, 10m, 4h or 1h30m (a day is 24h)", what, word)
		return 0, false
	}
	return d, true
}

// fact returns the fact an element of `by` names.
func (l *loader) fact(n *yamltree.Node) (fact, bool) {
	name, ok := l.Text(n, "a field of by")
	if !ok {
		return fact{}, false
	}
	name = strings.TrimPrefix(name, alertPrefix)
	at, k, ok := l.factNamed(n, name)
	return fact{name: name, ref: at, kind: k}, ok
}

func hours(d time.Duration) string { return fmt.Sprintf("%dh", int(d.Hours())) }

// factNamed resolves the name of a fact as rules write it and notes unknown names at n.
func (l *loader) factNamed(n *yamltree.Node, name string) (ref, kind, bool) {
	if path, ok := strings.CutPrefix(name, rawPrefix); ok {
		if !isRawPath(path) {
			l.Fail(n, "%q names no place in a document: %s", name, rawAdvice)
			return ref{}, 0, false
		}
		index, known := l.rawIndex[path]
		if !known {
			index = len(l.rawPaths)
			l.rawIndex[path] = index
			l.rawPaths = append(l.rawPaths, path)
		}
		return ref{raw: true, index: index}, kindRaw, true
	}
	if index := fieldNamed(name); index >= 0 {
		return ref{index: index}, alertFields[index].kind, true
	}
	switch name {
	case "age":
		l.Fail(n, "the age of an alert is judged by the guards, not by rules")
	case "raw":
		l.Fail(n, "%q is the whole document: %s", name, rawAdvice)
	default:
		l.Fail(n, "unknown field %q%s", name, bridge.DidYouMean(strings.TrimPrefix(name, alertPrefix), fieldNames()))
	}
	return ref{}, 0, false
}
