package mapping

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/yamltree"
)

// The modifiers of a key of `match`. The first group are operators, of which a key has at most one.
const (
	opEqual      = "" // the whole value; * and ? are wildcards in text
	opContains   = "contains"
	opStartsWith = "startswith"
	opEndsWith   = "endswith"
	opRegexp     = "re"
	opCIDR       = "cidr"
	opGTE        = "gte"
	opGT         = "gt"
	opLTE        = "lte"
	opLT         = "lt"
	opExists     = "exists"

	modAll   = "all"
	modNot   = "not"
	modCased = "cased"

	maxPattern  = 1024 // bytes of one pattern
	maxPatterns = 2000 // values of one key
)

var (
	operators = []string{opContains, opStartsWith, opEndsWith, opRegexp, opCIDR, opGTE, opGT, opLTE, opLT, opExists}
	modifiers = append(slices.Clone(operators), modAll, modNot, modCased)
)

// operatorsOf lists what can be asked about each kind of fact.
func operatorsOf(k kind) []string {
	switch k {
	case kindText, kindID, kindMD5, kindSHA256:
		return []string{opEqual, opContains, opStartsWith, opEndsWith, opRegexp, opExists}
	case kindLevel, kindPID, kindTicks:
		return []string{opEqual, opGTE, opGT, opLTE, opLT, opExists}
	case kindAddress:
		return []string{opEqual, opCIDR, opExists}
	case kindTime:
		return []string{opExists}
	case kindRaw:
		return append([]string{opEqual}, operators...)
	default:
		return nil
	}
}

// matchKey is a key of `match`, taken apart.
type matchKey struct {
	name            string
	ref             ref
	kind            kind
	op              string
	all, not, cased bool
}

func (l *loader) match(n *yamltree.Node) []condition {
	entries, ok := l.Entries(n, keyMatch, nil)
	if !ok {
		return nil
	}
	var list []condition
	for _, e := range entries {
		key, ok := l.matchKey(e)
		if !ok {
			continue
		}
		if c := l.condition(key, e.Value); c != nil {
			list = append(list, c)
		}
	}
	return list
}

func (l *loader) matchKey(e yamltree.Entry) (matchKey, bool) {
	parts := strings.Split(e.Key, "|")
	k := matchKey{name: parts[0]}
	var ok bool
	if k.ref, k.kind, ok = l.factNamed(yamltree.TextNode(e.Place, e.Key), k.name); !ok {
		return k, false
	}
	for _, mod := range parts[1:] {
		switch {
		case mod == modAll:
			k.all = true
		case mod == modNot:
			k.not = true
		case mod == modCased:
			k.cased = true
		case !slices.Contains(operators, mod):
			l.FailAt(e.Place, "unknown modifier %q%s", mod, bridge.DidYouMean(mod, modifiers))
			return k, false
		case k.op != opEqual:
			l.FailAt(e.Place, "%s and %s cannot stand together", k.op, mod)
			return k, false
		default:
			k.op = mod
		}
	}
	return k, l.fitting(k, e.Place)
}

// fitting refuses combinations that could not mean anything.
func (l *loader) fitting(k matchKey, at yamltree.Place) bool {
	textual := slices.Contains([]kind{kindText, kindID, kindMD5, kindSHA256, kindRaw}, k.kind) &&
		slices.Contains([]string{opEqual, opContains, opStartsWith, opEndsWith, opRegexp}, k.op)
	switch {
	case !slices.Contains(operatorsOf(k.kind), k.op) && k.kind == kindTime:
		l.FailAt(at, "%s can only be asked with |exists: the age of an alert is judged by the guards", k.name)
	case !slices.Contains(operatorsOf(k.kind), k.op):
		l.FailAt(at, "%s is %s, which |%s cannot compare", k.name, k.kind, k.op)
	case k.op == opExists && (k.all || k.not || k.cased):
		l.FailAt(at, "|exists takes true or false and no other modifier")
	case k.all && k.not:
		l.FailAt(at, "|all and |not cannot stand together: |not holds when no pattern fits")
	case k.cased && !textual:
		l.FailAt(at, "|cased is for text")
	default:
		return true
	}
	return false
}

func (l *loader) condition(k matchKey, n *yamltree.Node) condition {
	if k.op == opExists {
		want, ok := n.Value.(bool)
		if !ok {
			l.Fail(n, "%s|exists takes true or false", k.name)
			return nil
		}
		return &presence{ref: k.ref, want: want}
	}
	patterns := yamltree.ItemsOrOne(n)
	if n.Kind == yamltree.List {
		if len(patterns) == 0 {
			l.Fail(n, "%s is an empty list, which never matches", k.name)
		}
		if len(patterns) > maxPatterns {
			l.Fail(n, "%s has more than %d values", k.name, maxPatterns)
			return nil
		}
		if slices.Contains([]string{opGTE, opGT, opLTE, opLT}, k.op) {
			l.Fail(n, "%s|%s takes one value, not a list", k.name, k.op)
			return nil
		}
	}
	c := &clause{ref: k.ref, negate: k.not, all: k.all}
	for _, p := range patterns {
		if t := l.test(k, p); t != nil {
			c.tests = append(c.tests, t)
		}
	}
	return c
}

// test compiles one pattern; nil after noting a problem.
func (l *loader) test(k matchKey, n *yamltree.Node) test {
	switch {
	case k.op == opRegexp:
		return l.regexpTest(k, n)
	case k.op == opCIDR, k.kind == kindAddress:
		return l.addressTest(k, n)
	case k.kind == kindLevel:
		return l.levelTest(k, n)
	case k.kind == kindPID, k.kind == kindTicks, k.op == opGTE, k.op == opGT, k.op == opLTE, k.op == opLT:
		return l.numberTest(k, n)
	}
	if k.kind == kindRaw && k.op == opEqual {
		switch v := n.Value.(type) {
		case bool:
			return boolTest(v)
		case int64, uint64, float64:
			return l.numberTest(k, n)
		}
	}
	want, ok := l.pattern(k, n)
	if !ok {
		return nil
	}
	if k.op == opEqual {
		return equalTest(want, k.cased)
	}
	return partTest(k.op, want, k.cased)
}

func (l *loader) pattern(k matchKey, n *yamltree.Node) (string, bool) {
	want, ok := l.Text(n, k.name)
	if !ok {
		return "", false
	}
	switch {
	case len(want) > maxPattern:
		l.Fail(n, "the pattern is longer than %d bytes", maxPattern)
	case want == "" && k.op != opEqual:
		l.Fail(n, "an empty text is part of everything: leave %s out or write |exists: true", k.name)
	case want == "" && k.kind != kindRaw:
		l.Fail(n, "%s is never empty: write %s|exists: false", k.name, k.name)
	case (k.kind == kindMD5 || k.kind == kindSHA256) && k.op == opEqual && !strings.ContainsAny(want, "*?") && !isHex(want, digestLength(k.kind)):
		l.Fail(n, "%s has %d hex digits, not %q", k.name, digestLength(k.kind), want)
	default:
		return want, true
	}
	return "", false
}

func (l *loader) regexpTest(k matchKey, n *yamltree.Node) test {
	want, ok := l.pattern(k, n)
	if !ok {
		return nil
	}
	if !k.cased {
		want = "(?i)" + want
	}
	re, err := regexp.Compile(want)
	if err != nil {
		l.Fail(n, "%s: %s (RE2 syntax)", k.name, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil
	}
	return regexpTest(re)
}

func (l *loader) addressTest(k matchKey, n *yamltree.Node) test {
	want, ok := l.Text(n, k.name)
	if !ok {
		return nil
	}
	if k.op == opCIDR {
		p, err := netip.ParsePrefix(want)
		if err != nil {
			l.Fail(n, "%q is not an address range like 10.0.5.0/24", want)
			return nil
		}
		if p != p.Masked() {
			l.Fail(n, "%q has address bits behind the mask: write %s", want, p.Masked())
			return nil
		}
		return addressTest(p)
	}
	addr, err := netip.ParseAddr(want)
	if err != nil || addr.Zone() != "" {
		l.Fail(n, "%q is not an IP address; for a range write %s|cidr: 10.0.5.0/24", want, k.name)
		return nil
	}
	addr = addr.Unmap()
	return addressTest(netip.PrefixFrom(addr, addr.BitLen()))
}

func (l *loader) levelTest(k matchKey, n *yamltree.Node) test {
	word, ok := l.Text(n, k.name)
	if !ok {
		return nil
	}
	want := strings.ToUpper(word)
	if levelRank(want) == 0 {
		l.Fail(n, "unknown level %q: want LOW, MEDIUM, HIGH or CRITICAL%s", word, bridge.DidYouMean(want, []string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}))
		return nil
	}
	return levelTest(k.op, want)
}

func (l *loader) numberTest(k matchKey, n *yamltree.Node) test {
	var word string
	switch v := n.Value.(type) {
	case int64:
		return numberTest(k.op, wholeNumber(v))
	case uint64:
		word = strconv.FormatUint(v, 10)
	case float64:
		return numberTest(k.op, number{f: v})
	default:
		l.Fail(n, "%s must be compared with a number, not %s", k.name, n.Kind)
		return nil
	}
	want, ok := parseNumber(word)
	if !ok {
		l.Fail(n, "%s: the number is out of range", k.name)
		return nil
	}
	return numberTest(k.op, want)
}
