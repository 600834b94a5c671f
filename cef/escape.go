package cef

import (
	"strconv"
	"strings"
)

// unescape reads a header field (end is '|') or a value (end is '=', which knows \n and \r too). A string without backslashes
// is returned as it is.
func unescape(s string, end byte) string {
	first := strings.IndexByte(s, '\\')
	if first < 0 {
		return s
	}
	literal := foreign(s[first:], end)
	b := make([]byte, first, len(s))
	copy(b, s)
	for i := first; i < len(s); i++ {
		c := s[i]
		if c != '\\' || i+1 == len(s) {
			b = append(b, c)
			continue
		}
		next := s[i+1]
		switch {
		case next == end:
			b = append(b, end)
		case literal:
			b = append(b, c)
			continue // what follows may be a backslash that escapes the end
		case next == 'n':
			b = append(b, '\n')
		case next == 'r':
			b = append(b, '\r')
		default:
			b = append(b, next)
		}
		i++
	}
	return string(b)
}

// foreign reports whether a backslash in s stands before something that no product escapes: the one that wrote s does not
// escape backslashes at all.
func foreign(s string, end byte) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		i++
		if i == len(s) {
			return true
		}
		switch c := s[i]; {
		case c == end, c == '\\', end == '=' && (c == 'n' || c == 'r'):
		default:
			return true
		}
	}
	return false
}

// Append appends r as one line without a line break and returns the extended slice. What Parse returned it gives back in full;
// of other records, Parse drops the spaces at the ends of values and refuses keys that are none. A line break in a header field,
// for which the format has no escape, is written as a space.
func Append(dst []byte, r Record) []byte {
	dst = append(dst, prefix...)
	dst = strconv.AppendInt(dst, int64(r.Version), 10)
	for _, f := range []string{r.Vendor, r.Product, r.DeviceVersion, r.ClassID, r.Name, r.Severity} {
		dst = append(dst, '|')
		dst = appendField(dst, f)
	}
	dst = append(dst, '|')
	for i, p := range r.Extension {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, p.Key...)
		dst = append(dst, '=')
		dst = appendValue(dst, p.Value)
	}
	return dst
}

func appendField(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '|':
			dst = append(dst, '\\', c)
		case '\n', '\r':
			dst = append(dst, ' ')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func appendValue(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '=':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
