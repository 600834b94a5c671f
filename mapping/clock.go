package mapping

import (
	"strconv"
	"strings"
	"time"
)

// maxEpoch is the last second of the year 9999.
const maxEpoch = 253402300799

// clock reads the moment a value names in one of the declared forms; false when it names none. Without a zone a time is a wall
// clock only where naive-local or naive-utc is declared.
func (f forms) clock(v scalar, local *time.Location) (time.Time, bool) {
	text, ok := v.read()
	if !ok || len(text) > 64 {
		return time.Time{}, false
	}
	text = strings.TrimSpace(text)
	if f.has(formEpochs) {
		if t, ok := f.epoch(text); ok {
			return t, true
		}
	}
	if !v.isText() {
		return time.Time{}, false
	}
	var wall *time.Location
	switch {
	case f.has(formNaiveLocal):
		wall = local
	case f.has(formNaiveUTC):
		wall = time.UTC
	}
	if f.has(formRFC3339 | formNoColon) {
		if t, ok := f.iso(text, wall); ok {
			return t, true
		}
	}
	if f.has(formCEFDate) {
		if t, ok := written(text, "Jan 2 2006 15:04:05", wall); ok {
			return t, true
		}
	}
	if f.has(formUSDate) {
		return written(text, "1/2/2006 3:04:05 PM", wall)
	}
	return time.Time{}, false
}

// iso reads ISO 8601 with T or a space between date and time, and with the kinds of offset that are declared.
func (f forms) iso(text string, wall *time.Location) (time.Time, bool) {
	if len(text) > 10 && text[10] == ' ' {
		text = text[:10] + "T" + text[11:]
	}
	if n := len(text); n > 19 && strings.ContainsAny(text[19:], "+-Z") {
		short := n >= 24 && (text[n-5] == '+' || text[n-5] == '-')
		if short && !f.has(formNoColon) || !short && !f.has(formRFC3339) {
			return time.Time{}, false
		}
	}
	return parseISO(text, wall)
}

// written reads a date with a layout without zone, behind which UTC, GMT, Z or an offset may stand.
func written(text, layout string, wall *time.Location) (time.Time, bool) {
	if i := strings.LastIndexByte(text, ' '); i > 0 {
		switch text[i+1:] {
		case "UTC", "GMT", "Z":
			text, wall = text[:i], time.UTC
		}
	}
	for _, offset := range []string{" -0700", " -07:00"} {
		if t, err := time.Parse(layout+offset, text); err == nil {
			return t, true
		}
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		return time.Time{}, false
	}
	return inLocation(t, wall)
}

// epoch reads a count since 1970 in the declared unit, with or without a fraction, no exponent.
func (f forms) epoch(text string) (time.Time, bool) {
	whole, fraction, dotted := strings.Cut(text, ".")
	n, ok := wholeCount(whole)
	if !ok || dotted && (fraction == "" || strings.Trim(fraction, "0123456789") != "") {
		return time.Time{}, false
	}
	unit := int64(0)
	for _, u := range [...]struct {
		form forms
		per  int64
	}{{formEpochS, 1}, {formEpochMS, 1e3}, {formEpochUS, 1e6}, {formEpochNS, 1e9}} {
		if f.has(u.form) {
			unit = u.per
		}
	}
	if unit == 0 || n/unit > maxEpoch {
		return time.Time{}, false
	}
	step := int64(time.Second) / unit
	nanos := (n % unit) * step
	for _, c := range fraction {
		if step /= 10; step == 0 {
			break
		}
		nanos += int64(c-'0') * step
	}
	return time.Unix(n/unit, nanos), true
}

func wholeCount(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
