package ksctest

import (
	"cmp"
	"strings"
	"time"
)

// valueKind is the type of an attribute as a filter sees it.
type valueKind int

const (
	kindInt    valueKind = iota // int, long and bool
	kindString                  // compared without regard to case, as the vendor's databases do by default
	kindTime
	kindText // full-text attribute: words instead of values
	kindNone // may be returned, not compared
)

// attribute says what may be done with one attribute of a class.
type attribute struct {
	kind     valueKind
	noFilter bool
	noOrder  bool
}

// schema is the set of attributes of a class.
type schema map[string]attribute

// row is one record a filter judges and a result set returns; ok is false when it has no such value.
type row interface {
	value(name string) (v any, ok bool)
}

// compareOp is the relation of an item.
type compareOp int

const (
	opEqual compareOp = iota
	opNotEqual
	opGreater
	opLess
	opGreaterEqual
	opLessEqual
)

// holds reports whether the relation is true for a three-way comparison.
func (op compareOp) holds(order int) bool {
	switch op {
	case opEqual:
		return order == 0
	case opNotEqual:
		return order != 0
	case opGreater:
		return order > 0
	case opLess:
		return order < 0
	case opGreaterEqual:
		return order >= 0
	case opLessEqual:
		return order <= 0
	default:
		return false
	}
}

// filter is one parsed search condition. A nil filter lets everything through.
type filter interface {
	match(r row) bool
}

// allOf, anyOf and not combine conditions: (&…), (|…), (!…).
type (
	allOf []filter
	anyOf []filter
	not   struct{ inner filter }
)

// The items of a filter. A missing value never matches.
type (
	intItem struct {
		attr string
		// mask is combined with the value first when bits is '&' or '|'.
		bits byte
		mask int64
		op   compareOp
		want int64
	}
	timeItem struct {
		attr string
		op   compareOp
		want time.Time
	}
	stringItem struct {
		attr string
		op   compareOp
		want string // lower case
		glob glob   // of = with wildcards, else nil
	}
	textItem struct {
		attr  string
		op    compareOp
		query textQuery
	}
)

func (f allOf) match(r row) bool {
	for _, sub := range f {
		if !sub.match(r) {
			return false
		}
	}
	return true
}

func (f anyOf) match(r row) bool {
	for _, sub := range f {
		if sub.match(r) {
			return true
		}
	}
	return false
}

func (f not) match(r row) bool { return !f.inner.match(r) }

func (f intItem) match(r row) bool {
	v, ok := r.value(f.attr)
	if !ok {
		return false
	}
	n, ok := asInt(v)
	if !ok {
		return false
	}
	switch f.bits {
	case '&':
		n &= f.mask
	case '|':
		n |= f.mask
	}
	return f.op.holds(cmp.Compare(n, f.want))
}

func (f timeItem) match(r row) bool {
	v, ok := r.value(f.attr)
	if !ok {
		return false
	}
	t, ok := v.(time.Time)
	return ok && f.op.holds(t.Compare(f.want))
}

func (f stringItem) match(r row) bool {
	v, ok := r.value(f.attr)
	if !ok {
		return false
	}
	s, ok := v.(string)
	if !ok {
		return false
	}
	if f.glob != nil {
		return f.glob.match(strings.ToLower(s))
	}
	if f.op == opEqual && len(s) == len(f.want) && s == f.want {
		return true
	}
	return f.op.holds(cmp.Compare(strings.ToLower(s), f.want))
}

func (f textItem) match(r row) bool {
	v, ok := r.value(f.attr)
	if !ok {
		return false
	}
	s, ok := v.(string)
	return ok && f.query.match(s) == (f.op == opEqual)
}

// asInt turns int, long and bool into a number; bools compare with 0 and 1.
func asInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case long:
		return int64(v), true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	default:
		return 0, false
	}
}

// less orders two rows by one attribute; rows without a value come first.
func less(a, b row, name string) int {
	va, _ := a.value(name)
	vb, _ := b.value(name)
	switch x := va.(type) {
	case string:
		y, _ := vb.(string)
		return cmp.Compare(strings.ToLower(x), strings.ToLower(y))
	case time.Time:
		y, _ := vb.(time.Time)
		return x.Compare(y)
	default:
		x0, _ := asInt(va)
		y0, _ := asInt(vb)
		return cmp.Compare(x0, y0)
	}
}
