package mapping

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

type valueKind int

const (
	valueText valueKind = iota + 1
	valueNumber
	valueBool
	valueAddress
	valueTime
	valueNested // an object or an array inside an array: present, but nothing to compare
)

// value is one fact as rules compare it.
type value struct {
	kind   valueKind
	text   string
	lower  string // text in lower case once lowered is set
	folded bool
	truth  bool
	num    number
	addr   netip.Addr
}

// fold returns the text in lower case and keeps it for the next rule.
func (v *value) fold() string {
	if !v.folded {
		v.lower, v.folded = strings.ToLower(v.text), true
	}
	return v.lower
}

// json returns the value as a JSON scalar, or false when it has none.
func (v *value) json() ([]byte, bool) {
	switch v.kind {
	case valueText:
		return quoteJSON(v.text), true
	case valueAddress:
		return quoteJSON(v.addr.String()), true
	case valueNumber:
		return v.num.json(), true
	case valueBool:
		return strconv.AppendBool(nil, v.truth), true
	case valueTime, valueNested:
		return nil, false
	default:
		return nil, false
	}
}

// number keeps whole numbers exact; a float64 alone would round above 2^53.
type number struct {
	whole bool
	i     int64
	f     float64
}

func wholeNumber(i int64) number { return number{whole: true, i: i, f: float64(i)} }

// parseNumber reads a JSON number; it is false when the number does not fit a float64.
func parseNumber(s string) (number, bool) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return wholeNumber(i), true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return number{}, false
	}
	return number{f: f}, true
}

func (n number) compare(m number) int {
	if n.whole && m.whole {
		switch {
		case n.i < m.i:
			return -1
		case n.i > m.i:
			return 1
		default:
			return 0
		}
	}
	switch {
	case n.f < m.f:
		return -1
	case n.f > m.f:
		return 1
	default:
		return 0
	}
}

func (n number) json() []byte {
	if n.whole {
		return strconv.AppendInt(nil, n.i, 10)
	}
	return strconv.AppendFloat(nil, n.f, 'g', -1, 64)
}

// view is what the rules see of one alert. It belongs to one call of Map.
type view struct {
	alert *bridge.Alert
	// fields are the alert's facts, filled in on first use; ready marks which are.
	fields [fieldCount]value
	ready  [fieldCount]bool
	// raw holds the values found at each place the rules ask for.
	raw [][]value
}

// values returns the present values of a fact; none means the fact is absent.
func (v *view) values(r ref) []value {
	if r.raw {
		return v.raw[r.index]
	}
	if !v.ready[r.index] {
		v.fields[r.index], v.ready[r.index] = alertValue(v.alert, r.index), true
	}
	if v.fields[r.index].kind == 0 {
		return nil
	}
	return v.fields[r.index : r.index+1]
}

// alertValue returns one field of the alert; kind 0 says it is absent.
func alertValue(a *bridge.Alert, index int) value {
	f := &alertFields[index]
	switch {
	case f.text != nil:
		if s := *f.text(a); s != "" {
			return value{kind: valueText, text: s}
		}
	case f.addr != nil:
		if ip := *f.addr(a); ip.IsValid() {
			return value{kind: valueAddress, addr: ip}
		}
	case index == fieldTime:
		if !a.Time.IsZero() {
			return value{kind: valueTime}
		}
	case index == fieldPID:
		if a.Process.PID > 0 {
			return value{kind: valueNumber, num: wholeNumber(int64(a.Process.PID))}
		}
	case index == fieldStart:
		if s := a.Process.Start; s > 0 {
			n, ok := parseNumber(strconv.FormatUint(s, 10))
			if ok {
				return value{kind: valueNumber, num: n}
			}
		}
	}
	return value{}
}
