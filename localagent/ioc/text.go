package ioc

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// Text is a text from outside: from an IOC or from this machine, with whatever bytes it has. Its JSON form is ASCII only, so that
// it deceives no terminal, and loses nothing: a byte that is not part of UTF-8 is written as the lone surrogate \udc80 to
// \udcff, as Python does (PEP 383), and read back as that byte.
type Text string

// String returns the text fit for logs and terminals, quoted as soon as a character is not printable.
func (t Text) String() string { return verdict.Shown(string(t)) }

// loneByte is what is added to a byte outside of UTF-8.
const loneByte = 0xdc00

// MarshalJSON writes printable ASCII as it is and all else as \u escapes.
func (t Text) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, len(t)+2)
	b = append(b, '"')
	for rest := string(t); rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			b = fmt.Appendf(b, `\u%04x`, loneByte+int(rest[0]))
		case r == '"' || r == '\\':
			b = append(b, '\\', rest[0])
		case r < utf8.RuneSelf && unicode.IsPrint(r) && !strings.ContainsRune("<>&", r):
			b = append(b, rest[0])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	return append(b, '"'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *Text) UnmarshalJSON(b []byte) error {
	var plain string
	if err := json.Unmarshal(b, &plain); err != nil {
		return fmt.Errorf("read a text: %w", err)
	}
	if !strings.Contains(strings.ToLower(string(b)), `\udc`) {
		*t = Text(plain)
		return nil
	}
	var out strings.Builder
	for in := b[1 : len(b)-1]; len(in) > 0; {
		// The JSON decoder turns lone surrogates into U+FFFD: they are taken out before it sees the pieces between them.
		if r, ok := escape(in); ok && r >= loneByte+0x80 && r <= loneByte+0xff {
			out.WriteByte(byte(r - loneByte))
			in = in[6:]
			continue
		}
		n := piece(in)
		if err := json.Unmarshal([]byte(`"`+string(in[:n])+`"`), &plain); err != nil {
			return fmt.Errorf("read a text: %w", err)
		}
		out.WriteString(plain)
		in = in[n:]
	}
	*t = Text(out.String())
	return nil
}

// piece is the length of the first character of a JSON string, surrogate pairs and escapes whole.
func piece(in []byte) int {
	if r, ok := escape(in); ok {
		if low, pair := escape(in[6:]); pair && utf16.IsSurrogate(r) && utf16.DecodeRune(r, low) != unicode.ReplacementChar {
			return 12
		}
		return 6
	}
	if in[0] == '\\' {
		return min(2, len(in))
	}
	_, size := utf8.DecodeRune(in)
	return size
}

// escape reads a \u escape at the beginning.
func escape(in []byte) (rune, bool) {
	if len(in) < 6 || in[0] != '\\' || in[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(in[2:6]), 16, 16)
	return rune(n), err == nil
}
