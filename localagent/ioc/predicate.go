package ioc

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// operation is how a predicate compares.
type operation uint8

const (
	equals operation = iota
	contains
	startsWith
	endsWith
	matches
	within  // an interval of an ordered field
	belongs // addresses
)

// question is what a term asks about one object, the same for all documents that ask it.
type question struct {
	kind          Kind
	field         int
	operation     operation
	negate, exact bool
	// text is what is compared with, folded unless exact.
	text string
	// greater and less tell the sides of an interval apart from the interval itself.
	greater, less bool
}

// predicate is a question with what is needed to answer it.
type predicate struct {
	question
	shape     shape
	interval  interval
	addresses *addresses
	pattern   *regexp.Regexp
}

// condition is what the words of a term's condition mean.
type condition struct {
	operation     operation
	negate        bool
	greater, less bool
}

// conditionOf knows the conditions of both versions (support.kaspersky.com/kes12/220828).
func conditionOf(v Version, word string) (condition, bool) {
	word = fold(word)
	switch word {
	case "is":
		return condition{operation: equals}, true
	case "contains":
		return condition{operation: contains}, true
	}
	if v == Version10 {
		switch word {
		case "isnot":
			return condition{operation: equals, negate: true}, true
		case "containsnot":
			return condition{operation: contains, negate: true}, true
		}
		return condition{}, false
	}
	switch word {
	case "starts-with":
		return condition{operation: startsWith}, true
	case "ends-with":
		return condition{operation: endsWith}, true
	case "matches":
		return condition{operation: matches}, true
	case "greater-than":
		return condition{operation: within, greater: true}, true
	case "less-than":
		return condition{operation: within, less: true}, true
	}
	return condition{}, false
}

// ask turns a term into a question; the error says why the term is not understood here.
func ask(v Version, t term) (question, shape, error) {
	if !t.context || !t.filled {
		return question{}, 0, errors.New("it has no Context or no Content")
	}
	search := strings.TrimSpace(t.search)
	kind, name, _ := strings.Cut(search, "/")
	k, known := kindOf(kind)
	switch {
	case !known:
		return question{}, 0, errors.New("this kind of object is not collected")
	case t.document != "" && !strings.EqualFold(strings.TrimSpace(t.document), kind):
		return question{}, 0, errors.New("its document and its search are about different kinds")
	}
	if why := uncollected(k); why != "" {
		return question{}, 0, errors.New(why)
	}
	at, found := fieldOf(k, name)
	if !found || unknownHere(k, at) {
		return question{}, 0, fmt.Errorf("this field of %s is not known on this system", k)
	}
	c, found := conditionOf(v, strings.TrimSpace(t.condition))
	if !found {
		return question{}, 0, fmt.Errorf("OpenIOC %s has no such condition", v)
	}
	negate, err := flag(v, t.negate)
	if err != nil {
		return question{}, 0, fmt.Errorf("negate: %w", err)
	}
	exact, err := flag(v, t.exact)
	if err != nil {
		return question{}, 0, fmt.Errorf("preserve-case: %w", err)
	}
	s := fields(k)[at].shape
	q := question{
		kind: k, field: at, operation: c.operation, negate: negate || c.negate, exact: exact,
		text: trimmed(s, t.content), greater: c.greater, less: c.less,
	}
	if q.text == "" {
		return question{}, 0, errors.New("its value is empty")
	}
	return fit(q, s)
}

// fit chooses the operation for the shape of the field.
func fit(q question, s shape) (question, shape, error) {
	switch {
	case s.ordered() && q.operation == equals:
		q.operation = within
	case s.ordered() && q.operation != within:
		return q, s, errors.New("the condition compares text, and the field is none")
	case !s.ordered() && q.operation == within:
		return q, s, errors.New("the condition compares sizes, and the field has none")
	case s == address && q.operation == equals:
		q.operation = belongs
	case q.operation == matches, q.operation == within:
	default:
		if q.operation == equals {
			q.text = normal(s, q.text)
		}
		if !q.exact || s.digest() || s == hardware {
			q.text, q.exact = fold(q.text), false
		}
	}
	if q.operation == within || q.operation == belongs {
		q.exact = false
	}
	if s.digest() && q.operation == equals {
		if err := checkDigest(s, q.text); err != nil {
			return q, s, err
		}
	}
	return q, s, nil
}

// flag reads an attribute of type xs:boolean that only 1.1 has.
func flag(v Version, t string) (bool, error) {
	switch strings.TrimSpace(t) {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		if v != Version11 {
			return false, errors.New("it belongs to OpenIOC 1.1")
		}
		return true, nil
	default:
		return false, errors.New("it is neither true nor false")
	}
}

// trimmed takes away the white space that surrounds a value: all of it, or for text only what an editor's line breaks left,
// because a blank at the end of a command line may be meant.
func trimmed(s shape, content string) string {
	cut := strings.TrimSpace(content)
	if s == text && cut != "" && !strings.ContainsAny(content, "\r\n") {
		return content
	}
	return cut
}

// answerable makes a question a predicate.
func answerable(q question, s shape, patterns *patternBudget) (predicate, error) {
	p := predicate{question: q, shape: s}
	var err error
	switch q.operation {
	case within:
		if p.interval, err = parseInterval(s, q.text); err != nil {
			return p, err
		}
		switch {
		case q.greater && p.interval.high == math.MaxInt64, q.less && p.interval.low == math.MinInt64:
			return p, errors.New("nothing lies beyond its value")
		case q.greater:
			p.interval = interval{p.interval.high + 1, math.MaxInt64}
		case q.less:
			p.interval = interval{math.MinInt64, p.interval.low - 1}
		}
	case belongs:
		var a addresses
		a, err = parseAddresses(q.text)
		p.addresses = &a
	case matches:
		p.pattern, err = patterns.compile(q.text, q.exact)
	case equals, contains, startsWith, endsWith:
	}
	return p, err
}

// holds answers the question about an object. A field without a value answers no, also a negated question: what
// is not known is no match.
func (p *predicate) holds(o *object) bool {
	values := o.values[p.field]
	if len(values) == 0 {
		return false
	}
	if slices.ContainsFunc(values, p.one) {
		return !p.negate
	}
	return p.negate
}

// one answers the question about one value, without regard to negate.
func (p *predicate) one(v value) bool {
	switch p.operation {
	case within:
		return p.interval.low <= v.n && v.n <= p.interval.high
	case belongs:
		return p.addresses.hold(v.text)
	case matches:
		return p.pattern.MatchString(v.text)
	case equals, contains, startsWith, endsWith:
	}
	t := v.text
	if !p.exact {
		if t = v.folded; t == "" {
			t = fold(v.text)
		}
	}
	if p.operation == equals {
		t = normal(p.shape, t)
	}
	switch p.operation {
	case contains:
		return strings.Contains(t, p.text)
	case startsWith:
		return strings.HasPrefix(t, p.text)
	case endsWith:
		return strings.HasSuffix(t, p.text)
	case equals, matches, within, belongs:
	}
	return t == p.text
}

// kindOf finds a kind by its name, in any case.
func kindOf(name string) (Kind, bool) {
	for _, k := range kinds() {
		if strings.EqualFold(string(k), name) {
			return k, true
		}
	}
	return "", false
}
