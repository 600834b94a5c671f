package ksctest

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxTextWords bounds a full-text search.
const maxTextWords = 100

// globToken is one element of a wildcard pattern: * or one rune out of a set.
type globToken struct {
	star    bool
	any     bool // ?
	negated bool
	ranges  []runeRange
}

// runeRange is a closed range of a set; a literal rune is a range of one.
type runeRange struct{ low, high rune }

// glob is a pattern with ? * [set] [^set]; a set may hold ranges such as a-f.
type glob []globToken

func parseGlob(pattern string) (glob, error) {
	g := glob{}
	for i := 0; i < len(pattern); {
		r, size := utf8.DecodeRuneInString(pattern[i:])
		i += size
		switch r {
		case '*':
			if len(g) == 0 || !g[len(g)-1].star { // ** is *
				g = append(g, globToken{star: true})
			}
		case '?':
			g = append(g, globToken{any: true})
		case '[':
			end := strings.IndexByte(pattern[i:], ']')
			if end <= 0 {
				return nil, errors.New("[set] expected")
			}
			t, err := parseSet(pattern[i : i+end])
			if err != nil {
				return nil, err
			}
			g = append(g, t)
			i += end + 1
		default:
			g = append(g, globToken{ranges: []runeRange{{r, r}}})
		}
	}
	return g, nil
}

func parseSet(set string) (globToken, error) {
	var t globToken
	set, t.negated = strings.CutPrefix(set, "^")
	runes := []rune(set)
	if len(runes) == 0 {
		return t, errors.New("[set] is empty")
	}
	for i := 0; i < len(runes); i++ {
		low := runes[i]
		if i+2 < len(runes) && runes[i+1] == '-' {
			t.ranges = append(t.ranges, runeRange{low, runes[i+2]})
			i += 2
			continue
		}
		t.ranges = append(t.ranges, runeRange{low, low})
	}
	return t, nil
}

func (t *globToken) takes(r rune) bool {
	if t.any {
		return true
	}
	for _, rg := range t.ranges {
		if r >= rg.low && r <= rg.high {
			return !t.negated
		}
	}
	return t.negated
}

// match reports whether the whole of s fits. It needs at most len(g)·len(s) steps.
func (g glob) match(s string) bool {
	pos, tok := 0, 0
	starTok, starPos := -1, 0
	for pos < len(s) {
		r, size := utf8.DecodeRuneInString(s[pos:])
		switch {
		case tok < len(g) && g[tok].star:
			starTok, starPos = tok, pos
			tok++
		case tok < len(g) && g[tok].takes(r):
			tok++
			pos += size
		case starTok >= 0:
			_, size := utf8.DecodeRuneInString(s[starPos:])
			starPos += size
			tok, pos = starTok+1, starPos
		default:
			return false
		}
	}
	for tok < len(g) && g[tok].star {
		tok++
	}
	return tok == len(g)
}

// textQuery is a full-text search: any of the alternatives must hold.
type textQuery []textClause

// textClause holds when every word of must is in the text and none of mustNot.
type textClause struct{ must, mustNot []glob }

// parseTextQuery reads words joined by AND (also by nothing), OR, NOT, +word, -word;
// ? and * stand for letters, though not first.
func parseTextQuery(s string) (textQuery, error) {
	query := textQuery{{}}
	negate, words := false, 0
	for word := range strings.FieldsSeq(s) {
		switch word {
		case "AND":
			continue
		case "OR":
			query = append(query, textClause{})
			continue
		case "NOT":
			negate = !negate
			continue
		}
		word, minus := strings.CutPrefix(word, "-")
		word = strings.TrimPrefix(word, "+")
		if strings.HasPrefix(word, "*") || strings.HasPrefix(word, "?") {
			return nil, errors.New("a word must not start with a wildcard")
		}
		clause := &query[len(query)-1]
		for _, part := range textWords(word, "*?") {
			if words++; words > maxTextWords {
				return nil, errors.New("too many words")
			}
			g, err := parseGlob(part)
			if err != nil {
				return nil, err
			}
			if minus != negate {
				clause.mustNot = append(clause.mustNot, g)
			} else {
				clause.must = append(clause.must, g)
			}
		}
		negate = false
	}
	for _, clause := range query {
		if len(clause.must)+len(clause.mustNot) == 0 {
			return nil, errors.New("a word is expected")
		}
	}
	return query, nil
}

func (q textQuery) match(s string) bool {
	words := textWords(s, "")
	found := func(g glob) bool {
		return slices.ContainsFunc(words, g.match)
	}
	for _, clause := range q {
		ok := true
		for _, g := range clause.must {
			ok = ok && found(g)
		}
		for _, g := range clause.mustNot {
			ok = ok && !found(g)
		}
		if ok {
			return true
		}
	}
	return false
}

// textWords splits a text into lower-case words of letters, digits and the extra bytes.
func textWords(s, extra string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(extra, r)
	})
}
