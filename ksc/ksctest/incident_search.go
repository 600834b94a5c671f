package ksctest

import "math"

// bounds are what a filter says for certain about the incidents it lets through.
type bounds struct {
	id       int    // 0 = any
	host     string // lower case; "" = any
	from, to int64  // seconds of KLINCDT_ADDED, both included
}

// boundsOf reads the conditions that must hold: the filter itself or the parts of its outer "and".
func boundsOf(f filter) bounds {
	b := bounds{from: math.MinInt64 / 2, to: math.MaxInt64 / 2}
	if all, ok := f.(allOf); ok {
		for _, sub := range all {
			b.narrow(sub)
		}
		return b
	}
	b.narrow(f)
	return b
}

func (b *bounds) narrow(f filter) {
	switch item := f.(type) {
	case stringItem:
		if item.attr == "KLHST_WKS_HOSTNAME" && item.op == opEqual && item.glob == nil {
			b.host = item.want
		}
	case intItem:
		if item.attr == "KLINCDT_ID" && item.op == opEqual && item.bits == 0 && item.want > 0 && item.want < math.MaxInt32 {
			b.id = int(item.want)
		}
	case timeItem:
		if item.attr != "KLINCDT_ADDED" {
			return
		}
		second := item.want.Unix()
		switch item.op {
		case opEqual:
			b.from, b.to = max(b.from, second), min(b.to, second)
		case opGreater, opGreaterEqual:
			b.from = max(b.from, second) // the filter itself refuses the second that only equals
		case opLess, opLessEqual:
			b.to = min(b.to, second)
		case opNotEqual:
		}
	}
}
