package mapping

import (
	"net/netip"
	"regexp"
	"strings"
	"unicode/utf8"
)

// textTest lifts a predicate on text; fold hands it the text in lower case.
func textTest(fold bool, fits func(string) bool) test {
	return func(v *value) verdict {
		if v.kind != valueText {
			return unfit
		}
		if fold {
			return verdictOf(fits(v.fold()))
		}
		return verdictOf(fits(v.text))
	}
}

func equalTest(want string, cased bool) test {
	if !cased {
		want = strings.ToLower(want)
	}
	if strings.ContainsAny(want, "*?") {
		return textTest(!cased, newGlob(want).fits)
	}
	return textTest(!cased, func(s string) bool { return s == want })
}

func partTest(op, want string, cased bool) test {
	if !cased {
		want = strings.ToLower(want)
	}
	switch op {
	case opStartsWith:
		return textTest(!cased, func(s string) bool { return strings.HasPrefix(s, want) })
	case opEndsWith:
		return textTest(!cased, func(s string) bool { return strings.HasSuffix(s, want) })
	default:
		return textTest(!cased, func(s string) bool { return strings.Contains(s, want) })
	}
}

func regexpTest(re *regexp.Regexp) test { return textTest(false, re.MatchString) }

func boolTest(want bool) test {
	return func(v *value) verdict {
		if v.kind != valueBool {
			return unfit
		}
		return verdictOf(v.truth == want)
	}
}

func numberTest(op string, want number) test {
	return func(v *value) verdict {
		if v.kind != valueNumber {
			return unfit
		}
		return verdictOf(ordered(op, v.num.compare(want)))
	}
}

// levelTest orders severities; the value is always one of the four.
func levelTest(op, want string) test {
	rank := levelRank(want)
	return func(v *value) verdict {
		if v.kind != valueText {
			return unfit
		}
		return verdictOf(ordered(op, levelRank(v.text)-rank))
	}
}

func levelRank(level string) int {
	switch level {
	case "LOW":
		return 1
	case "MEDIUM":
		return 2
	case "HIGH":
		return 3
	case "CRITICAL":
		return 4
	default:
		return 0
	}
}

func ordered(op string, cmp int) bool {
	switch op {
	case opGTE:
		return cmp >= 0
	case opGT:
		return cmp > 0
	case opLTE:
		return cmp <= 0
	case opLT:
		return cmp < 0
	default:
		return cmp == 0
	}
}

// addressTest compares alert addresses, and raw texts that are addresses, with a prefix.
func addressTest(p netip.Prefix) test {
	return func(v *value) verdict {
		addr := v.addr
		switch v.kind {
		case valueAddress:
		case valueText:
			parsed, err := netip.ParseAddr(v.text)
			if err != nil {
				return unfit
			}
			addr = parsed.Unmap()
		case valueNumber, valueBool, valueTime, valueNested:
			return unfit
		default:
			return unfit
		}
		return verdictOf(p.Contains(addr.WithZone("")))
	}
}

// glob is a pattern in which * stands for any text and ? for one character. There is no escape.
type glob struct {
	parts       []string // between the stars
	left, right bool     // no star at the left, at the right
}

func newGlob(pattern string) *glob {
	g := &glob{left: !strings.HasPrefix(pattern, "*"), right: !strings.HasSuffix(pattern, "*")}
	for part := range strings.SplitSeq(pattern, "*") {
		if part != "" {
			g.parts = append(g.parts, part)
		}
	}
	return g
}

// fits reports whether the whole text matches. Each part is taken at its leftmost place, so the work grows
// with the text, not with the ways to split it.
func (g *glob) fits(s string) bool {
	parts := g.parts
	if len(parts) == 0 {
		return true
	}
	if g.left {
		n := matchPart(s, parts[0])
		if n < 0 {
			return false
		}
		s, parts = s[n:], parts[1:]
		if len(parts) == 0 {
			return !g.right || s == ""
		}
	}
	last := ""
	if g.right {
		last = parts[len(parts)-1]
		parts = parts[:len(parts)-1]
	}
	for _, part := range parts {
		at, n := findPart(s, part)
		if at < 0 {
			return false
		}
		s = s[at+n:]
	}
	return last == "" || endsWithPart(s, last)
}

// matchPart returns how many bytes of s the part takes at its beginning, or -1.
func matchPart(s, part string) int {
	i := 0
	for _, want := range part {
		if i >= len(s) {
			return -1
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if want != '?' && want != r {
			return -1
		}
		i += size
	}
	return i
}

func findPart(s, part string) (at, size int) {
	if !strings.Contains(part, "?") {
		return strings.Index(s, part), len(part)
	}
	for at = 0; at <= len(s); {
		if n := matchPart(s[at:], part); n >= 0 {
			return at, n
		}
		_, size := utf8.DecodeRuneInString(s[at:])
		at += max(size, 1)
	}
	return -1, 0
}

func endsWithPart(s, part string) bool {
	i := len(s)
	for j := len(part); j > 0; {
		if i == 0 {
			return false
		}
		want, n := utf8.DecodeLastRuneInString(part[:j])
		r, size := utf8.DecodeLastRuneInString(s[:i])
		if want != '?' && want != r {
			return false
		}
		i, j = i-size, j-n
	}
	return true
}
