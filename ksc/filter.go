package ksc

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxFilterText bounds a value; the longest name Windows or DNS know has 255 characters.
const maxFilterText = 256

// Filter is a search condition in KSC's own language, which resembles LDAP filters and is not one:
//
//	(&(KLHST_WKS_HOSTNAME="8910f900-…")(KLINCDT_ADDED>T"2026-11-20 17:06:55"))
//
// A Filter that cannot be written carries the reason, and so do filters built from it; the zero Filter is
// such a one. (support.kaspersky.com/help/KSC/16/KSCAPI/a00002.html, "Search filter syntax".)
type Filter struct {
	text string
	err  error
}

// Value is the right side of a comparison.
type Value struct {
	text string
	err  error
}

var attribute = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

// Text is a string, compared as it is. Inside the quotes of the language * ? [ ] are wildcards for which no escape is
// documented, and how a quote is doubled differs between versions: a text with one of them, with control
// characters, or longer than 256 bytes is refused instead of guessed at.
func Text(s string) Value {
	switch {
	case s == "":
		return Value{err: errors.New("filter: text is empty")}
	case len(s) > maxFilterText:
		return Value{err: fmt.Errorf("filter: text is longer than %d bytes", maxFilterText)}
	case !utf8.ValidString(s) || !printable(s):
		return Value{err: fmt.Errorf("filter: %.64q holds control characters or is not UTF-8", s)}
	case strings.ContainsAny(s, `"*?[]`):
		return Value{err: fmt.Errorf(`filter: %.64q holds one of " * ? [ ], which have a meaning in filters`, s)}
	default:
		return Value{text: `"` + s + `"`}
	}
}

// Number is a whole number.
func Number(n int64) Value { return Value{text: strconv.FormatInt(n, 10)} }

// Flag is a boolean, which the language writes as 0 or 1.
func Flag(b bool) Value {
	if b {
		return Value{text: "1"}
	}
	return Value{text: "0"}
}

// Moment is a time, in UTC and whole seconds: T"2006-01-02 15:04:05".
func Moment(t time.Time) Value {
	t = t.UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return Value{err: fmt.Errorf("filter: year %d cannot be written", t.Year())}
	}
	return Value{text: t.Format(`T"2006-01-02 15:04:05"`)}
}

// Eq is true where the attribute equals the value.
func Eq(attr string, v Value) Filter { return item(attr, "=", v) }

// Present is true where the attribute is a text that is not empty.
func Present(attr string) Filter { return item(attr, "=", Value{text: `"*"`}) }

// Lt is true where the attribute is less than the value.
func Lt(attr string, v Value) Filter { return item(attr, "<", v) }

// Gt is true where the attribute is greater than the value.
func Gt(attr string, v Value) Filter { return item(attr, ">", v) }

// And is true where all filters are; it needs at least one.
func And(fs ...Filter) Filter { return join("&", fs) }

// Or is true where at least one filter is; it needs at least one.
func Or(fs ...Filter) Filter { return join("|", fs) }

// Not is true where the filter is not.
func Not(f Filter) Filter { return join("!", []Filter{f}) }

// String returns the text to send, or the reason why there is none.
func (f Filter) String() string {
	if err := f.Err(); err != nil {
		return err.Error()
	}
	return f.text
}

// Err returns why the filter cannot be written.
func (f Filter) Err() error {
	if f.err == nil && f.text == "" {
		return errors.New("filter: empty")
	}
	return f.err
}

func item(attr, op string, v Value) Filter {
	switch {
	case !attribute.MatchString(attr):
		return Filter{err: fmt.Errorf("filter: %.64q is no attribute", attr)}
	case v.err != nil:
		return Filter{err: fmt.Errorf("%s: %w", attr, v.err)}
	case v.text == "":
		return Filter{err: fmt.Errorf("filter: %s is compared with nothing", attr)}
	default:
		return Filter{text: "(" + attr + op + v.text + ")"}
	}
}

func join(op string, fs []Filter) Filter {
	if len(fs) == 0 {
		return Filter{err: errors.New("filter: nothing to combine")}
	}
	var b strings.Builder
	b.WriteString("(" + op)
	for _, f := range fs {
		if err := f.Err(); err != nil {
			return Filter{err: err}
		}
		b.WriteString(f.text)
	}
	b.WriteByte(')')
	return Filter{text: b.String()}
}
