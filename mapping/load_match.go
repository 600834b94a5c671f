package mapping

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/edr-bridge/edr-bridge/bridge"
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

func (l *loader) match(n ast.Node) []condition {
	entries, ok := l.entries(n, keyMatch, nil)
	if !ok {
		return nil
	}
	var list []condition
	for _, e := range entries {
		key, ok := l.matchKey(e)
		if !ok {
			continue
		}
		if c := l.condition(key, e.value); c != nil {
			list = append(list, c)
		}
	}
	return list
}

func (l *loader) matchKey(e entry) (matchKey, bool) {
	parts := strings.Split(e.key, "|")
	k := matchKey{name: parts[0]}
	var ok bool
	if k.ref, k.kind, ok = l.factNamed(&ast.StringNode{Token: e.token, Value: e.key}, k.name); !ok {
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
			l.failAt(e.token, "unknown modifier %q%s", mod, bridge.DidYouMean(mod, modifiers))
			return k, false
		case k.op != opEqual:
			l.failAt(e.token, "%s and %s cannot stand together", k.op, mod)
			return k, false
		default:
			k.op = mod
		}
	}
	return k, l.fitting(k, e.token)
}

// fitting refuses combinations that could not mean anything.
func (l *loader) fitting(k matchKey, at *token.Token) bool {
	textual := slices.Contains([]kind{kindText, kindID, kindMD5, kindSHA256, kindRaw}, k.kind) &&
		slices.Contains([]string{opEqual, opContains, opStartsWith, opEndsWith, opRegexp}, k.op)
	switch {
	case !slices.Contains(operatorsOf(k.kind), k.op) && k.kind == kindTime:
		l.failAt(at, "%s can only be asked with |exists: the age of an alert is judged by the guards", k.name)
	case !slices.Contains(operatorsOf(k.kind), k.op):
		l.failAt(at, "%s is %s, which |%s cannot compare", k.name, k.kind, k.op)
	case k.op == opExists && (k.all || k.not || k.cased):
		l.failAt(at, "|exists takes true or false and no other modifier")
	case k.all && k.not:
		l.failAt(at, "|all and |not cannot stand together: |not holds when no pattern fits")
	case k.cased && !textual:
		l.failAt(at, "|cased is for text")
	default:
		return true
	}
	return false
}

func (l *loader) condition(k matchKey, n ast.Node) condition {
	if k.op == opExists {
		want, ok := n.(*ast.BoolNode)
		if !ok {
			l.fail(n, "%s|exists takes true or false", k.name)
			return nil
		}
		return &presence{ref: k.ref, want: want.Value}
	}
	patterns := []ast.Node{n}
	if s, ok := n.(*ast.SequenceNode); ok {
		patterns = s.Values
		if len(patterns) == 0 {
			l.fail(n, "%s is an empty list, which never matches", k.name)
		}
		if len(patterns) > maxPatterns {
			l.fail(n, "%s has more than %d values", k.name, maxPatterns)
			return nil
		}
		if slices.Contains([]string{opGTE, opGT, opLTE, opLT}, k.op) {
			l.fail(n, "%s|%s takes one value, not a list", k.name, k.op)
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
func (l *loader) test(k matchKey, n ast.Node) test {
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
		switch b := n.(type) {
		case *ast.BoolNode:
			return boolTest(b.Value)
		case *ast.IntegerNode, *ast.FloatNode:
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

func (l *loader) pattern(k matchKey, n ast.Node) (string, bool) {
	want, ok := l.text(n, k.name)
	if !ok {
		return "", false
	}
	switch {
	case len(want) > maxPattern:
		l.fail(n, "the pattern is longer than %d bytes", maxPattern)
	case want == "" && k.op != opEqual:
		l.fail(n, "an empty text is part of everything: leave %s out or write |exists: true", k.name)
	case want == "" && k.kind != kindRaw:
		l.fail(n, "%s is never empty: write %s|exists: false", k.name, k.name)
	case (k.kind == kindMD5 || k.kind == kindSHA256) && k.op == opEqual && !strings.ContainsAny(want, "*?") && !isHex(want, digestLength(k.kind)):
		l.fail(n, "%s has %d hex digits, not %q", k.name, digestLength(k.kind), want)
	default:
		return want, true
	}
	return "", false
}

func (l *loader) regexpTest(k matchKey, n ast.Node) test {
	want, ok := l.pattern(k, n)
	if !ok {
		return nil
	}
	if !k.cased {
		want = "(?i)" + want
	}
	re, err := regexp.Compile(want)
	if err != nil {
		l.fail(n, "%s: %s (RE2 syntax)", k.name, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil
	}
	return regexpTest(re)
}

func (l *loader) addressTest(k matchKey, n ast.Node) test {
	want, ok := l.text(n, k.name)
	if !ok {
		return nil
	}
	if k.op == opCIDR {
		p, err := netip.ParsePrefix(want)
		if err != nil {
			l.fail(n, "%q is not an address range like 10.0.5.0/24", want)
			return nil
		}
		if p != p.Masked() {
			l.fail(n, "%q has address bits behind the mask: write %s", want, p.Masked())
			return nil
		}
		return addressTest(p)
	}
	addr, err := netip.ParseAddr(want)
	if err != nil || addr.Zone() != "" {
		l.fail(n, "%q is not an IP address; for a range write %s|cidr: 10.0.5.0/24", want, k.name)
		return nil
	}
	addr = addr.Unmap()
	return addressTest(netip.PrefixFrom(addr, addr.BitLen()))
}

func (l *loader) levelTest(k matchKey, n ast.Node) test {
	word, ok := l.text(n, k.name)
	if !ok {
		return nil
	}
	want := strings.ToUpper(word)
	if levelRank(want) == 0 {
		l.fail(n, "unknown level %q: want LOW, MEDIUM, HIGH or CRITICAL%s", word, bridge.DidYouMean(want, []string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}))
		return nil
	}
	return levelTest(k.op, want)
}

func (l *loader) numberTest(k matchKey, n ast.Node) test {
	var word string
	switch v := n.(type) {
	case *ast.IntegerNode:
		switch i := v.Value.(type) {
		case int64:
			return numberTest(k.op, wholeNumber(i))
		case uint64:
			word = strconv.FormatUint(i, 10)
		}
	case *ast.FloatNode:
		return numberTest(k.op, number{f: v.Value})
	default:
		l.fail(n, "%s must be compared with a number, not %s", k.name, nodeWord(n))
		return nil
	}
	want, ok := parseNumber(word)
	if !ok {
		l.fail(n, "%s: the number is out of range", k.name)
		return nil
	}
	return numberTest(k.op, want)
}
