package ksctest

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// wireTime is the only form of a datetime on the wire: UTC, whole seconds.
const wireTime = "2006-01-02T15:04:05Z"

// long is a 64-bit integer, which travels wrapped: {"type":"long","value":1}.
type long int64

// member is one named value of params. Values are string, int, bool, long, time.Time, params or
// []any of these; a nil value is left out, because params hold no null.
type member struct {
	name  string
	value any
}

// params is the vendor's container type: an object with an order.
type params []member

// appendBare writes {…}: the form of an argument, an out-parameter and PxgRetVal.
func (p params) appendBare(dst []byte) []byte {
	dst = append(dst, '{')
	first := true
	for _, m := range p {
		if m.value == nil {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendString(dst, m.name)
		dst = append(dst, ':')
		dst = appendValue(dst, m.value)
	}
	return append(dst, '}')
}

// appendValue writes a value as it stands inside params or an array: params are wrapped there.
func appendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendString(dst, v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case bool:
		return strconv.AppendBool(dst, v)
	case long:
		dst = append(dst, `{"type":"long","value":`...)
		dst = strconv.AppendInt(dst, int64(v), 10)
		return append(dst, '}')
	case time.Time:
		dst = append(dst, `{"type":"datetime","value":"`...)
		if !v.IsZero() {
			dst = v.UTC().AppendFormat(dst, wireTime)
		}
		return append(dst, `"}`...)
	case params:
		dst = append(dst, `{"type":"params","value":`...)
		dst = v.appendBare(dst)
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, e)
		}
		return append(dst, ']')
	default:
		// Only an array may hold null; nothing else reaches this line.
		return append(dst, "null"...)
	}
}

// appendString writes a JSON string; bytes that are no UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
			continue
		}
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
		i++
	}
	return append(dst, '"')
}

// parseWireTime reads exactly "2006-01-02T15:04:05Z".
func parseWireTime(s []byte) (time.Time, bool) {
	if len(s) != len(wireTime) || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != 'Z' {
		return time.Time{}, false
	}
	return makeTime(s[0:4], s[5:7], s[8:10], s[11:13], s[14:16], s[17:19])
}

// makeTime builds a UTC time from decimal parts; dates that do not exist are refused.
func makeTime(parts ...[]byte) (time.Time, bool) {
	var n [6]int
	for i, p := range parts {
		for _, c := range p {
			if c < '0' || c > '9' {
				return time.Time{}, false
			}
			n[i] = n[i]*10 + int(c-'0')
		}
	}
	if n[1] < 1 || n[1] > 12 || n[3] > 23 || n[4] > 59 || n[5] > 59 {
		return time.Time{}, false
	}
	t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC)
	return t, t.Day() == n[2]
}
