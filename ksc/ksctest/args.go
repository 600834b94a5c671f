package ksctest

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
)

// arg is one named value of a request: the raw JSON of an object that json.Valid passed.
type arg struct {
	name  []byte
	value []byte
}

// args are the members of a JSON object in their order.
type args []arg

// parseArgs splits a valid JSON object without decoding it; ok is false when it is none.
// Into may carry memory to reuse. The result points into data.
func parseArgs(into args, data []byte) (_ args, ok bool) {
	i := skipSpace(data, 0)
	if i >= len(data) || data[i] != '{' {
		return into, false
	}
	i = skipSpace(data, i+1)
	for i < len(data) && data[i] == '"' {
		end := skipValue(data, i)
		name := data[i+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			s, _ := unquote(data[i:end])
			name = []byte(s)
		}
		i = skipSpace(data, skipSpace(data, end)+1) // behind the colon
		end = skipValue(data, i)
		into = append(into, arg{name, data[i:end]})
		i = skipSpace(data, end)
		if i < len(data) && data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
	return into, true
}

// parseList splits a valid JSON array; ok is false when it is none.
func parseList(data []byte) (items [][]byte, ok bool) {
	i := skipSpace(data, 0)
	if i >= len(data) || data[i] != '[' {
		return nil, false
	}
	i = skipSpace(data, i+1)
	for i < len(data) && data[i] != ']' {
		end := skipValue(data, i)
		items = append(items, data[i:end])
		i = skipSpace(data, end)
		if i < len(data) && data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
	return items, true
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the index behind the JSON value that starts at i. The data is valid JSON.
func skipValue(data []byte, i int) int {
	depth := 0
	for i < len(data) {
		switch data[i] {
		case '"':
			i++
			for i < len(data) && data[i] != '"' {
				if data[i] == '\\' {
					i++
				}
				i++
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			i++
		default:
			for i < len(data) && !endsLiteral(data[i]) {
				i++
			}
		}
		if depth == 0 {
			break
		}
	}
	return min(i, len(data))
}

func endsLiteral(c byte) bool {
	return c == ',' || c == ']' || c == '}' || c == ' ' || c == '\n' || c == '\t' || c == '\r'
}

// get returns the raw value of name, or nil when it is missing or null. The last of doubled names counts.
func (a args) get(name string) []byte {
	for _, arg := range slices.Backward(a) {
		if string(arg.name) == name {
			if string(arg.value) == "null" {
				return nil
			}
			return arg.value
		}
	}
	return nil
}

// str returns a string argument; missing or null is "".
func (a args) str(name string) (string, error) {
	raw := a.get(name)
	if raw == nil {
		return "", nil
	}
	s, ok := unquote(raw)
	if !ok {
		return "", badParameter(name, "string expected")
	}
	return s, nil
}

// integer returns a 32-bit integer argument; missing or null is 0.
func (a args) integer(name string) (int, error) {
	raw := a.get(name)
	if raw == nil {
		return 0, nil
	}
	n, ok := parseInt(raw)
	if !ok {
		return 0, badParameter(name, "int expected")
	}
	return n, nil
}

// boolean returns a bool argument; missing or null is false.
func (a args) boolean(name string) (bool, error) {
	switch string(a.get(name)) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	default:
		return false, badParameter(name, "bool expected")
	}
}

// object returns an argument of type params, bare or wrapped; missing or null is empty.
func (a args) object(name string) (args, error) {
	raw := a.get(name)
	if raw == nil {
		return nil, nil
	}
	inner, ok := parseArgs(nil, raw)
	if !ok {
		return nil, badParameter(name, "params expected")
	}
	return unwrap(inner), nil
}

// names returns an argument that is an array of strings; missing or null is empty.
func (a args) names(name string) ([]string, error) {
	raw := a.get(name)
	if raw == nil {
		return nil, nil
	}
	items, ok := parseList(raw)
	if !ok {
		return nil, badParameter(name, "array expected")
	}
	list := make([]string, 0, len(items))
	for _, item := range items {
		s, ok := unquote(item)
		if !ok {
			return nil, badParameter(name, "array of strings expected")
		}
		list = append(list, s)
	}
	return list, nil
}

// unwrap returns the members inside {"type":"params","value":{…}}, or a itself when it is bare.
func unwrap(a args) args {
	if string(a.get("type")) != `"params"` {
		return a
	}
	if inner, ok := parseArgs(nil, a.get("value")); ok {
		return inner
	}
	return a
}

// datetime reads {"type":"datetime","value":"2006-01-02T15:04:05Z"}.
func datetime(raw []byte) (time.Time, bool) {
	var room [4]arg
	inner, ok := parseArgs(room[:0], raw)
	if !ok || string(inner.get("type")) != `"datetime"` {
		return time.Time{}, false
	}
	value := inner.get("value")
	if len(value) < 2 || value[0] != '"' {
		return time.Time{}, false
	}
	return parseWireTime(value[1 : len(value)-1])
}

func parseInt(raw []byte) (int, bool) {
	if len(raw) == 0 || len(raw) > 11 {
		return 0, false
	}
	n, err := strconv.Atoi(string(raw))
	return n, err == nil && n >= math.MinInt32 && n <= math.MaxInt32
}

// unquote decodes a JSON string; ok is false when raw is another kind of value.
func unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(bytes.ToValidUTF8(inner, []byte("\uFFFD"))), true
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", false
	}
	return s, true
}
