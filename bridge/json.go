package bridge

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxJSONDepth  = 64  // objects and arrays inside one another
	fewKeys       = 32  // up to here comparing with every key of the object is cheaper than a map
	maxJSONPath   = 200 // bytes of the place named in an error
	safeNumberLen = 300 // a number this short without an exponent fits a float64
)

// CheckJSON reports the first reason why doc is not one JSON value every reader understands alike
// (RFC 8259 with the demands of RFC 7493): UTF-8 without a byte order mark, no data after the value,
// at most 64 levels, no key twice in one object (keys that differ in case only count as the same,
// because encoding/json mixes them up), no lone surrogate, no NUL in a string, numbers that fit a float64.
// The error names the place ("process.pid: …") and the byte. It does not block, takes time linear in
// len(doc), and bounds no length: the reader of doc does.
func CheckJSON(doc []byte) error {
	if err := checkJSON(doc); err != nil {
		return err
	}
	return nil
}

// jsonError is what is wrong with a document. path is ".a[3].b", empty for the document itself.
type jsonError struct {
	path, msg string
	offset    int
}

func (e *jsonError) Error() string {
	where := strings.TrimPrefix(e.path, ".")
	if where != "" {
		where += ": "
	}
	return fmt.Sprintf("%s%s (byte %d)", where, e.msg, e.offset)
}

// within puts a step in front of the place. The outer steps tell more than the inner ones, so a long
// place is cut at its end.
func (e *jsonError) within(step string) *jsonError {
	e.path = step + e.path
	if len(e.path) > maxJSONPath {
		e.path = e.path[:maxJSONPath] + "…"
	}
	return e
}

type jsonScanner struct {
	doc  []byte
	pos  int
	keys []jsonKey // keys of the open objects, those of the innermost last
	fold []byte    // scratch
	seed maphash.Seed
}

func checkJSON(doc []byte) *jsonError {
	switch {
	case bytes.HasPrefix(doc, []byte("\xef\xbb\xbf")):
		return &jsonError{msg: "starts with a byte order mark: send UTF-8 without it"}
	case bytes.HasPrefix(doc, []byte("\xff\xfe")), bytes.HasPrefix(doc, []byte("\xfe\xff")):
		return &jsonError{msg: "is UTF-16: send UTF-8"}
	case !utf8.Valid(doc):
		return &jsonError{msg: "is not valid UTF-8", offset: firstInvalid(doc)}
	}
	var some [fewKeys]jsonKey
	s := jsonScanner{doc: doc, keys: some[:0], seed: maphash.MakeSeed()}
	s.space()
	if s.pos == len(doc) {
		return &jsonError{msg: "is empty"}
	}
	if err := s.value(0); err != nil {
		return err
	}
	s.space()
	if s.pos < len(doc) {
		return s.fail("holds more than one value: send one document at a time")
	}
	return nil
}

func firstInvalid(doc []byte) int {
	for i := 0; i < len(doc); {
		r, n := utf8.DecodeRune(doc[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(doc)
}

func (s *jsonScanner) fail(msg string) *jsonError { return &jsonError{msg: msg, offset: s.pos} }

func (s *jsonScanner) unexpected(want string) *jsonError {
	if s.pos >= len(s.doc) {
		return s.fail("ends too early: want " + want)
	}
	r, _ := utf8.DecodeRune(s.doc[s.pos:])
	return s.fail("unexpected " + strconv.QuoteRuneToASCII(r) + ": want " + want)
}

func (s *jsonScanner) space() {
	for s.pos < len(s.doc) {
		switch s.doc[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the byte at pos, or 0 at the end; a 0 in the document is never wanted either.
func (s *jsonScanner) peek() byte {
	if s.pos < len(s.doc) {
		return s.doc[s.pos]
	}
	return 0
}

func (s *jsonScanner) value(depth int) *jsonError {
	switch c := s.peek(); c {
	case '{', '[':
		if depth == maxJSONDepth {
			return s.fail("is nested deeper than " + strconv.Itoa(maxJSONDepth) + " levels")
		}
		if c == '{' {
			return s.object(depth + 1)
		}
		return s.array(depth + 1)
	case '"':
		_, err := s.str()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		if c == '-' || isDigit(c) {
			return s.number()
		}
		return s.unexpected("a value")
	}
}

func (s *jsonScanner) object(depth int) *jsonError {
	s.pos++
	s.space()
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	base := len(s.keys)
	var wide map[uint64]int
	for {
		if s.peek() != '"' {
			return s.unexpected("a key in quotes")
		}
		key, err := s.key()
		if err != nil {
			return err
		}
		if wide == nil && len(s.keys)-base == fewKeys {
			wide = make(map[uint64]int, 4*fewKeys)
			for i := base; i < len(s.keys); i++ {
				wide[s.keys[i].hash] = i
			}
		}
		if first, ok := s.repeated(key, base, wide); ok {
			return (&jsonError{msg: "the object has this key twice (also at byte " + strconv.Itoa(first.start-1) + ")", offset: key.start - 1}).within(s.keyStep(key))
		}
		if wide != nil {
			wide[key.hash] = len(s.keys)
		}
		s.keys = append(s.keys, key)
		s.space()
		if s.peek() != ':' {
			return s.unexpected("a colon").within(s.keyStep(key))
		}
		s.pos++
		s.space()
		if err := s.value(depth); err != nil {
			return err.within(s.keyStep(key))
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case '}':
			s.pos++
			s.keys = s.keys[:base]
			return nil
		default:
			return s.unexpected("a comma or }").within(s.keyStep(key))
		}
	}
}

func (s *jsonScanner) array(depth int) *jsonError {
	s.pos++
	s.space()
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for i := 0; ; i++ {
		err := s.value(depth)
		if err == nil {
			s.space()
			switch s.peek() {
			case ',':
				s.pos++
				s.space()
				continue
			case ']':
				s.pos++
				return nil
			default:
				err = s.unexpected("a comma or ]")
			}
		}
		return err.within("[" + strconv.Itoa(i) + "]")
	}
}

// str passes over a string. plain means that its text is its bytes and ASCII.
func (s *jsonScanner) str() (plain bool, err *jsonError) {
	plain = true
	doc, i := s.doc, s.pos+1
	for i < len(doc) {
		switch c := doc[i]; {
		case c == '"':
			s.pos = i + 1
			return plain, nil
		case c == '\\':
			plain = false
			_, n, msg := unescape(doc[i:])
			if msg != "" {
				s.pos = i
				return false, s.fail(msg)
			}
			i += n
		case c < ' ':
			s.pos = i
			return false, s.fail("holds a raw control character in a string: escape it")
		default:
			plain = plain && c < utf8.RuneSelf
			i++
		}
	}
	s.pos = len(doc)
	return false, s.fail("ends inside a string")
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (s *jsonScanner) word(w string) *jsonError {
	if !bytes.HasPrefix(s.doc[s.pos:], []byte(w)) {
		return s.unexpected("a value (" + w + "?)")
	}
	s.pos += len(w)
	return nil
}

func (s *jsonScanner) number() *jsonError {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.peek() == '.' {
		s.pos++
		if err := s.digits(); err != nil {
			return err
		}
	}
	exponent := s.peek()|' ' == 'e'
	if exponent {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if err := s.digits(); err != nil {
			return err
		}
	}
	if exponent || s.pos-start > safeNumberLen {
		if _, err := strconv.ParseFloat(string(s.doc[start:s.pos]), 64); err != nil {
			s.pos = start
			return s.fail("holds a number that does not fit a 64-bit float")
		}
	}
	return nil
}

func (s *jsonScanner) digits() *jsonError {
	start := s.pos
	for isDigit(s.peek()) {
		s.pos++
	}
	if s.pos == start {
		return s.unexpected("a digit")
	}
	return nil
}
