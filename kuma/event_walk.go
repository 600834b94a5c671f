package kuma

import (
	"encoding/json"
	"errors"
	"strings"
)

// eventWalk calls visit for every field of a JSON object. It relies on the document being valid JSON, so that it only has to find where
// values end, which is several times faster than decoding all of some two hundred fields. Keys and values share the document's memory.
func eventWalk(doc string, visit func(key string, value string) error) error {
	i := eventSpace(doc, 0)
	if i == len(doc) || doc[i] != '{' {
		return errors.New("want a JSON object")
	}
	for i = eventSpace(doc, i+1); i < len(doc) && doc[i] == '"'; {
		end := eventStringEnd(doc, i)
		key, ok := eventString(doc[i:end])
		if !ok {
			return errors.New("a key cannot be read")
		}
		i = eventSpace(doc, eventSpace(doc, end)+1) // over the colon
		end = eventValueEnd(doc, i)
		if end <= i {
			return errors.New("the document ends too early")
		}
		if err := visit(key, doc[i:end]); err != nil {
			return err
		}
		if i = eventSpace(doc, end); i < len(doc) && doc[i] == ',' {
			i = eventSpace(doc, i+1)
		}
	}
	return nil
}

func eventSpace(doc string, i int) int {
	for i < len(doc) && (doc[i] == ' ' || doc[i] == '\t' || doc[i] == '\n' || doc[i] == '\r') {
		i++
	}
	return min(i, len(doc))
}

// eventStringEnd returns the place behind the string that begins at i.
func eventStringEnd(doc string, i int) int {
	for i++; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			return i + 1
		case '\\':
			i++ // over what is escaped
		}
	}
	return len(doc)
}

// eventValueEnd returns the place behind the value that begins at i.
func eventValueEnd(doc string, i int) int {
	if i >= len(doc) {
		return i
	}
	switch doc[i] {
	case '"':
		return eventStringEnd(doc, i)
	case '{', '[':
		depth := 0
		for i < len(doc) {
			switch doc[i] {
			case '"':
				i = eventStringEnd(doc, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			i++
			if depth == 0 {
				return i
			}
		}
		return i
	default:
		for i < len(doc) && strings.IndexByte(",}] \t\r\n", doc[i]) < 0 {
			i++
		}
		return i
	}
}

// eventString returns the text of a JSON string.
func eventString(value string) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	if inner := value[1 : len(value)-1]; strings.IndexByte(inner, '\\') < 0 {
		return inner, true
	}
	out := make([]byte, 0, len(value))
	for i := 1; i < len(value)-1; i++ {
		c := value[i]
		if c == '\\' {
			i++
			n := strings.IndexByte(`"\/bfnrt`, value[i])
			if n < 0 {
				var s string // \u and its surrogates
				err := json.Unmarshal([]byte(value), &s)
				return s, err == nil
			}
			c = "\"\\/\b\f\n\r\t"[n]
		}
		out = append(out, c)
	}
	return string(out), true
}
