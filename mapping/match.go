package mapping

// condition decides whether a rule applies. All conditions of a rule must hold. The keys of `match` compile
// to conditions here; an expression language for `when` is one more implementation that is appended to
// rule.conditions. A condition that cannot decide does not hold.
type condition interface {
	holds(v *view) bool
}

var (
	_ condition = (*clause)(nil)
	_ condition = (*presence)(nil)
)

// presence holds when the fact is there, or with want false when it is not.
type presence struct {
	ref  ref
	want bool
}

func (p *presence) holds(v *view) bool { return (len(v.values(p.ref)) > 0) == p.want }

// verdict is what a test says of one value.
type verdict int

const (
	unfit verdict = iota // the value has a type the test cannot compare
	no
	yes
)

func verdictOf(ok bool) verdict {
	if ok {
		return yes
	}
	return no
}

type test func(*value) verdict

// clause compares a fact with the patterns of one key of `match`. An absent fact never holds, not even under
// negation. Without all, one pattern must fit one value; with all, every pattern must fit some value.
type clause struct {
	ref         ref
	negate, all bool
	tests       []test
}

func (c *clause) holds(v *view) bool {
	values := v.values(c.ref)
	switch {
	case len(values) == 0:
		return false
	case c.negate:
		return c.none(values)
	case c.all:
		return c.every(values)
	default:
		return c.some(values)
	}
}

func (c *clause) some(values []value) bool {
	for i := range values {
		for _, t := range c.tests {
			if t(&values[i]) == yes {
				return true
			}
		}
	}
	return false
}

func (c *clause) every(values []value) bool {
	for _, t := range c.tests {
		fits := false
		for i := range values {
			if t(&values[i]) == yes {
				fits = true
				break
			}
		}
		if !fits {
			return false
		}
	}
	return true
}

// none holds when every value could be compared and none fits: a value of another type decides nothing.
func (c *clause) none(values []value) bool {
	for i := range values {
		compared := false
		for _, t := range c.tests {
			switch t(&values[i]) {
			case yes:
				return false
			case no:
				compared = true
			case unfit:
			default:
				return false
			}
		}
		if !compared {
			return false
		}
	}
	return true
}
