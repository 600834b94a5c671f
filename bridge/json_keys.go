package bridge

import (
	"bytes"
	"hash/maphash"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonKey is the place of a key between its quotes and the hash of its folded text.
type jsonKey struct {
	hash       uint64
	start, end int
	plain      bool
}

func (s *jsonScanner) key() (jsonKey, *jsonError) {
	k := jsonKey{start: s.pos + 1}
	plain, err := s.str()
	if err != nil {
		return k, err
	}
	k.end, k.plain = s.pos-1, plain
	s.fold = s.folded(s.fold[:0], k)
	k.hash = maphash.Bytes(s.seed, s.fold)
	return k, nil
}

// repeated looks for an earlier key of the same text. The seed of the hash is random, so nobody can
// prepare keys that collide, and a match is compared in full before it counts.
func (s *jsonScanner) repeated(k jsonKey, base int, wide map[uint64]int) (jsonKey, bool) {
	if wide != nil {
		i, ok := wide[k.hash]
		if !ok {
			return jsonKey{}, false
		}
		return s.keys[i], s.same(s.keys[i], k)
	}
	for _, other := range s.keys[base:] {
		if other.hash == k.hash && s.same(other, k) {
			return other, true
		}
	}
	return jsonKey{}, false
}

func (s *jsonScanner) same(a, b jsonKey) bool {
	return bytes.Equal(s.folded(nil, a), s.folded(nil, b))
}

// folded appends the text of the key with its letters in one case, in the way encoding/json matches keys
// to fields: all runes that unicode.SimpleFold joins count as one.
func (s *jsonScanner) folded(to []byte, k jsonKey) []byte {
	raw := s.doc[k.start:k.end]
	if k.plain {
		for _, c := range raw {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			to = append(to, c)
		}
		return to
	}
	for i := 0; i < len(raw); {
		r, n := rune(0), 0
		if raw[i] == '\\' {
			r, n, _ = unescape(raw[i:])
		} else {
			r, n = utf8.DecodeRune(raw[i:])
		}
		to = utf8.AppendRune(to, foldRune(r))
		i += n
	}
	return to
}

// foldRune returns the smallest rune of the case orbit, ASCII letters in lower case.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}

func (s *jsonScanner) keyStep(k jsonKey) string { return keyStep(string(s.doc[k.start:k.end])) }

// keyStep is a key as a step of a place: ".name", or ["…"] where the name is not a plain word.
func keyStep(name string) string {
	name = name[:min(len(name), maxJSONPath)]
	if name == "" {
		return `[""]`
	}
	for _, c := range []byte(name) {
		if c != '_' && c != '-' && !isDigit(c) && !isLetter(c) {
			return "[" + strconv.QuoteToASCII(name) + "]"
		}
	}
	return "." + name
}

// unescape reads the escape sequence b starts with and returns its character and its length,
// or what is wrong with it.
func unescape(b []byte) (r rune, n int, msg string) {
	if len(b) < 2 {
		return 0, 0, "ends inside a string"
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2, ""
	case 'b':
		return '\b', 2, ""
	case 'f':
		return '\f', 2, ""
	case 'n':
		return '\n', 2, ""
	case 'r':
		return '\r', 2, ""
	case 't':
		return '\t', 2, ""
	case 'u':
	default:
		return 0, 0, "holds an unknown escape in a string: a backslash is written twice in JSON"
	}
	r, ok := hex4(b)
	switch {
	case !ok:
		return 0, 0, `holds a \u escape without four hex digits`
	case r == 0:
		return 0, 0, "holds a NUL in a string"
	case !utf16.IsSurrogate(r):
		return r, 6, ""
	}
	if low, ok := hex4(b[6:]); ok {
		if r = utf16.DecodeRune(r, low); r != unicode.ReplacementChar {
			return r, 12, ""
		}
	}
	return 0, 0, `holds half of a surrogate pair in a string`
}

// hex4 reads \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
