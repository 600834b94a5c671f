package ioc

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// value is one value of a field: text, or a number for the shapes that count.
type value struct {
	text string
	// folded is the text without regard to case, empty until somebody asks.
	folded string
	n      int64
}

// object is one thing of this machine. A field may have several values or none.
type object struct {
	kind   Kind
	values [][]value
}

func newObject(k Kind) *object { return &object{kind: k, values: make([][]value, len(fields(k)))} }

// clear makes the object ready for the next thing.
func (o *object) clear() {
	for i := range o.values {
		o.values[i] = o.values[i][:0]
	}
}

// text adds values; empty ones are none.
func (o *object) text(field int, texts ...string) {
	for _, s := range texts {
		if s != "" {
			o.values[field] = append(o.values[field], value{text: s})
		}
	}
}

func (o *object) number(field int, n int64) {
	o.values[field] = append(o.values[field], value{n: n})
}

// moment adds a time; the zero time and times too far away for nanoseconds are none.
func (o *object) moment(field int, t time.Time) {
	if !t.IsZero() && inNanoseconds(t) {
		o.number(field, t.UnixNano())
	}
}

func (o *object) span(field int, d time.Duration) { o.number(field, int64(d)) }

func (o *object) address(field int, a netip.Addr) {
	if a.IsValid() {
		o.text(field, a.Unmap().WithZone("").String())
	}
}

func (o *object) truth(field int, b bool) { o.text(field, strconv.FormatBool(b)) }

// inNanoseconds reports whether the time fits into an int64 of nanoseconds, with a day to spare.
func inNanoseconds(t time.Time) bool { return t.Year() > 1678 && t.Year() < 2262 }

// fold makes sure that the folded texts of a field are there.
func (o *object) fold(field int) {
	for i := range o.values[field] {
		if v := &o.values[field][i]; v.folded == "" {
			v.folded = fold(v.text)
		}
	}
}

// shown returns the value as a result has it.
func (v value) shown(s shape) string {
	switch s {
	case number:
		return strconv.FormatInt(v.n, 10)
	case moment:
		return time.Unix(0, v.n).UTC().Format(time.RFC3339Nano)
	case span:
		return time.Duration(v.n).String()
	default:
		return v.text
	}
}

// normal brings a text into the form in which the shape compares it for equality.
func normal(s shape, t string) string {
	switch s {
	case folder:
		if cut := strings.TrimRight(t, `/\`); cut != "" {
			return cut
		}
		return t
	case ending:
		return strings.TrimPrefix(t, ".")
	case hardware:
		return strings.NewReplacer(":", "", "-", "", ".", "").Replace(t)
	default:
		return t
	}
}
