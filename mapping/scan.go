package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// errMalformed is met only where a document is not JSON.
var errMalformed = errors.New("not valid JSON")

// skipSpace returns the position of the next byte that is no JSON white space, or len(doc).
func skipSpace(doc []byte, i int) int {
	for i < len(doc) {
		switch doc[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// scanString returns the end of the string that begins with the quote at i and whether it holds escapes.
func scanString(doc []byte, i int) (end int, escaped bool, err error) {
	n := bytes.IndexByte(doc[i+1:], '"')
	if n < 0 {
		return 0, false, errMalformed
	}
	end = i + 1 + n
	if bytes.IndexByte(doc[i+1:end], '\\') < 0 {
		return end + 1, false, nil
	}
	for j := i + 1; j < len(doc); j++ {
		switch doc[j] {
		case '\\':
			j++
		case '"':
			return j + 1, true, nil
		}
	}
	return 0, true, errMalformed
}

// skipValue returns the end of the value that begins at i.
func skipValue(doc []byte, i int) (int, error) {
	if i >= len(doc) {
		return 0, errMalformed
	}
	switch doc[i] {
	case '"':
		end, _, err := scanString(doc, i)
		return end, err
	case '{', '[':
		return skipNested(doc, i)
	default:
		return scanScalar(doc, i)
	}
}

func skipNested(doc []byte, i int) (int, error) {
	depth := 0
	for i < len(doc) {
		switch doc[i] {
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
			if depth == 0 {
				return i, nil
			}
		case '"':
			end, _, err := scanString(doc, i)
			if err != nil {
				return 0, err
			}
			i = end
		default:
			i++
		}
	}
	return 0, errMalformed
}

// scanScalar returns the end of the number, true, false or null at i.
func scanScalar(doc []byte, i int) (int, error) {
	start := i
	for i < len(doc) {
		switch doc[i] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			if i == start {
				return 0, errMalformed
			}
			return i, nil
		default:
			i++
		}
	}
	return 0, errMalformed
}

// unquote returns the text of a string token without its quotes. Lone surrogates and NUL are errors: the
// first has no text, the second ends it early for half of all readers.
func unquote(token []byte, escaped bool) (string, error) {
	body := token[1 : len(token)-1]
	if !escaped {
		return string(body), nil
	}
	out := make([]byte, 0, len(body))
	for i := 0; i < len(body); {
		if run := bytes.IndexByte(body[i:], '\\'); run != 0 {
			if run < 0 {
				run = len(body) - i
			}
			out = append(out, body[i:i+run]...)
			i += run
			continue
		}
		if i+1 >= len(body) {
			return "", errMalformed
		}
		c := body[i+1]
		if c != 'u' {
			plain, ok := unescape(c)
			if !ok {
				return "", errMalformed
			}
			out = append(out, plain)
			i += 2
			continue
		}
		r, n, err := unescapeRune(body[i:])
		if err != nil {
			return "", err
		}
		out = utf8.AppendRune(out, r)
		i += n
	}
	return string(out), nil
}

func unescape(c byte) (byte, bool) {
	switch c {
	case '"', '\\', '/':
		return c, true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	default:
		return 0, false
	}
}

// unescapeRune reads \uXXXX or a surrogate pair of them and returns its length in bytes.
func unescapeRune(b []byte) (rune, int, error) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0, errMalformed
	}
	if r == 0 {
		return 0, 0, errors.New("must not hold NUL")
	}
	if !utf16.IsSurrogate(r) {
		return r, 6, nil
	}
	low, ok := hex4(b[6:])
	if !ok {
		return 0, 0, errors.New("must not hold half a surrogate pair")
	}
	pair := utf16.DecodeRune(r, low)
	if pair == utf8.RuneError {
		return 0, 0, errors.New("must not hold half a surrogate pair")
	}
	return pair, 12, nil
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// quoteJSON returns s as a JSON string. The text is already valid UTF-8, so nothing is lost.
func quoteJSON(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return b
}
