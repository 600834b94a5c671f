package ksctest

import (
	"fmt"
	"strings"
	"time"
)

// Limits of a filter: what passes them is cheap to judge.
const (
	maxFilter      = 64 << 10 // bytes
	maxFilterDepth = 64
	maxFilterItems = 1000
)

// filterParser reads the grammar of support.kaspersky.com/help/KSC/16/KSCAPI/a00002.html:
//
//	filter = "(" and|or|not|item ")" ; and = "&" 1*filter ; or = "|" 1*filter ; not = "!" filter
//	item   = attr op value | attr ("&"|"|") mask op int
//
// White space may stand anywhere and the outermost parentheses may be missing.
type filterParser struct {
	text   string
	pos    int
	items  int
	schema schema
	now    time.Time
}

// filterError says where a filter is wrong.
type filterError struct {
	pos     int
	problem string
}

// Error renders the position and the problem.
func (e *filterError) Error() string { return fmt.Sprintf("position %d: %s", e.pos, e.problem) }

// parseFilter reads a whole filter; an empty one is nil. CURTIME is now.
func parseFilter(text string, sch schema, now time.Time) (filter, error) {
	p := &filterParser{text: text, schema: sch, now: now.UTC()}
	if len(text) > maxFilter {
		return nil, &filterError{maxFilter, "filter too long"}
	}
	p.space()
	if p.pos == len(text) {
		return nil, nil // no filter is a filter: it lets everything through
	}
	var f filter
	var err error
	if p.peek() == '(' {
		f, err = p.group(0)
	} else {
		f, err = p.body(0)
	}
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos != len(p.text) {
		return nil, p.fail("end of filter expected")
	}
	return f, nil
}

// group reads "(" body ")".
func (p *filterParser) group(depth int) (filter, error) {
	if !p.take('(') {
		return nil, p.fail("( expected")
	}
	f, err := p.body(depth + 1)
	if err != nil {
		return nil, err
	}
	if !p.take(')') {
		return nil, p.fail(") expected")
	}
	return f, nil
}

// body reads what stands between parentheses.
func (p *filterParser) body(depth int) (filter, error) {
	if depth > maxFilterDepth {
		return nil, p.fail("too deep")
	}
	switch p.space(); p.peek() {
	case '&':
		p.pos++
		list, err := p.list(depth)
		return allOf(list), err
	case '|':
		p.pos++
		list, err := p.list(depth)
		return anyOf(list), err
	case '!':
		p.pos++
		if p.space(); p.peek() == '(' {
			f, err := p.group(depth)
			return not{f}, err
		}
		f, err := p.item() // (!KLINCDT_ID = 0) is seen too
		return not{f}, err
	default:
		return p.item()
	}
}

func (p *filterParser) list(depth int) ([]filter, error) {
	var list []filter
	for p.space(); p.peek() == '('; p.space() {
		f, err := p.group(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	if len(list) == 0 {
		return nil, p.fail("( expected")
	}
	return list, nil
}

// item reads a comparison.
func (p *filterParser) item() (filter, error) {
	if p.items++; p.items > maxFilterItems {
		return nil, p.fail("too many items")
	}
	p.space()
	start := p.pos
	for p.pos < len(p.text) && isNameByte(p.text[p.pos]) {
		p.pos++
	}
	name := p.text[start:p.pos]
	if name == "" {
		return nil, p.fail("attribute expected")
	}
	attr, ok := p.schema[name]
	if !ok || attr.noFilter {
		return nil, &filterError{start, "no filter by " + name}
	}
	p.space()
	var bits byte
	var mask int64
	if c := p.peek(); c == '&' || c == '|' {
		if attr.kind != kindInt {
			return nil, p.fail(name + " has no bits")
		}
		p.pos++
		bits = c
		var err error
		if mask, err = p.number(); err != nil {
			return nil, err
		}
	}
	op, err := p.operator()
	if err != nil {
		return nil, err
	}
	switch attr.kind {
	case kindInt:
		n, err := p.number()
		return intItem{name, bits, mask, op, n}, err
	case kindTime:
		t, err := p.time()
		return timeItem{name, op, t}, err
	case kindString:
		return p.stringItem(name, op)
	case kindText:
		return p.textItem(name, op)
	case kindNone:
		return nil, p.fail("no filter by " + name)
	default:
		return nil, p.fail("no filter by " + name)
	}
}

func (p *filterParser) stringItem(name string, op compareOp) (filter, error) {
	start := p.pos
	s, err := p.quoted()
	if err != nil {
		return nil, err
	}
	item := stringItem{attr: name, op: op, want: strings.ToLower(s)}
	if op == opEqual && strings.ContainsAny(s, "*?[") {
		if item.glob, err = parseGlob(item.want); err != nil {
			return nil, &filterError{start, err.Error()}
		}
	}
	return item, nil
}

func (p *filterParser) textItem(name string, op compareOp) (filter, error) {
	start := p.pos
	s, err := p.quoted()
	if err != nil {
		return nil, err
	}
	if op != opEqual && op != opNotEqual {
		return nil, &filterError{start, name + " is searched with = only"}
	}
	query, err := parseTextQuery(s)
	if err != nil {
		return nil, &filterError{start, err.Error()}
	}
	return textItem{name, op, query}, nil
}

func (p *filterParser) operator() (compareOp, error) {
	p.space()
	for _, o := range [...]struct {
		sign string
		op   compareOp
	}{{"<>", opNotEqual}, {"<=", opLessEqual}, {">=", opGreaterEqual}, {"=", opEqual}, {"<", opLess}, {">", opGreater}} {
		if strings.HasPrefix(p.text[p.pos:], o.sign) {
			p.pos += len(o.sign)
			return o.op, nil
		}
	}
	return 0, p.fail("= < > <> <= or >= expected")
}

func (p *filterParser) space() {
	p.pos = skipSpaceString(p.text, p.pos)
}

func (p *filterParser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// take steps over white space and c; it is false when another byte stands there.
func (p *filterParser) take(c byte) bool {
	p.space()
	if p.peek() != c {
		return false
	}
	p.pos++
	return true
}

func (p *filterParser) fail(problem string) error { return &filterError{p.pos, problem} }

func isNameByte(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
}

func skipSpaceString(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}
