package mapping

import (
	"bytes"
	"slices"
)

// maxText is how many bytes of text one field may have. A longer text is no name, path or title; cut short it would be another.
const maxText = 64 << 10

// slot is what one document holds at a place that a preset reads.
type slot struct {
	scalar
	// several says that there are different values, mixed that lists or objects stand beside them.
	several, mixed bool
	// whole is the object or list at the place, brackets included.
	whole []byte
}

// scalar is one plain value: the JSON token of it, or text from a format that knows only text. The zero value is none.
type scalar struct {
	token []byte
	text  string
}

// put adds a value. Empty texts say nothing, and the same value again (a dotted and a nested spelling of one place) is one value.
func (s *slot) put(v scalar) {
	switch {
	case string(v.token) == `""` || v.none():
	case s.none():
		s.scalar = v
	case s.text != v.text || !bytes.Equal(s.token, v.token):
		s.several = true
	}
}

// hold keeps an object or list; a second one makes the place unclear.
func (s *slot) hold(span []byte) {
	if s.whole != nil {
		s.several = true
		return
	}
	s.whole = span
}

func (s scalar) none() bool { return len(s.token) == 0 && s.text == "" }

// number says that the value is written as a JSON number, or could be one because its format knows only text.
func (s scalar) number() bool {
	if len(s.token) == 0 {
		return s.text != ""
	}
	return s.token[0] == '-' || s.token[0] >= '0' && s.token[0] <= '9'
}

// isText says that the value is text.
func (s scalar) isText() bool {
	return len(s.token) == 0 && s.text != "" || len(s.token) > 0 && s.token[0] == '"'
}

// read returns the value as text, numbers, true and false as written; false when it is too long.
func (s scalar) read() (string, bool) {
	switch {
	case len(s.token) == 0:
		return s.text, len(s.text) <= maxText
	case len(s.token) > maxText:
		return "", false
	case s.token[0] == '"':
		text, err := textOf(s.token)
		return text, err == nil
	default:
		return string(s.token), true
	}
}

// isOneOf reports whether the value is one of the words, in any case.
func (s scalar) isOneOf(words [][]byte) bool {
	b := s.token
	switch {
	case len(b) == 0:
		b = []byte(s.text)
	case b[0] == '"' && bytes.IndexByte(b, '\\') < 0:
		b = b[1 : len(b)-1]
	case b[0] == '"':
		// The longest escape has six bytes for one of text.
		if !slices.ContainsFunc(words, func(w []byte) bool { return len(b)-2 <= 6*len(w) }) {
			return false
		}
		text, ok := s.read()
		if !ok {
			return false
		}
		b = []byte(text)
	}
	return slices.ContainsFunc(words, func(w []byte) bool { return bytes.EqualFold(w, b) })
}
