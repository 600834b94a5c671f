package api

import "errors"

// errBroken marks bytes that are no JSON value, whatever follows.
var errBroken = errors.New("is no whole JSON value")

// skipJSON returns where the JSON value at doc[at] ends. It looks at brackets, strings and what stands before an opening bracket
// only, so that it is fast and cannot be led into a later document by a broken one; whether the value is valid is for its reader to
// say. errDeep when limit > 0 and more than limit objects and arrays are inside one another, else errBroken.
func skipJSON(doc []byte, at, limit int) (int, error) {
	if at >= len(doc) {
		return at, errBroken
	}
	switch doc[at] {
	case '{', '[':
		return skipNested(doc, at, limit)
	case '"':
		return skipString(doc, at)
	default:
		return skipWord(doc, at)
	}
}

func skipNested(doc []byte, at, limit int) (int, error) {
	depth := 0
	before := byte(',') // the last byte that is not space
	for i := at; i < len(doc); {
		c := doc[i]
		switch c {
		case '"':
			end, err := skipString(doc, i)
			if err != nil {
				return i, err
			}
			i = end
		case '{', '[':
			if before != ',' && before != ':' && before != '[' {
				return i, errBroken
			}
			if depth++; limit > 0 && depth > limit {
				return i, errDeep
			}
			i++
		case '}', ']':
			i++
			if depth--; depth == 0 {
				return i, nil
			}
		case ' ', '\t', '\n', '\r':
			i++
			continue
		default:
			i++
		}
		before = c
	}
	return len(doc), errBroken
}

// skipString ends at a line break too: JSON has none inside a string.
func skipString(doc []byte, at int) (int, error) {
	for i := at + 1; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			return i + 1, nil
		case '\\':
			i++
		case '\n', '\r':
			return i, errBroken
		}
	}
	return len(doc), errBroken
}

// skipWord passes over a number, true, false, null or what stands in their place.
func skipWord(doc []byte, at int) (int, error) {
	i := at
	for i < len(doc) {
		switch doc[i] {
		case ' ', '\t', '\n', '\r', ',', ']', '}', '[', '{', ':', '"':
			if i == at {
				return i, errBroken
			}
			return i, nil
		}
		i++
	}
	return i, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func skipSpace(doc []byte, at int) int {
	for at < len(doc) && isSpace(doc[at]) {
		at++
	}
	return at
}

func trimSpace(doc []byte) []byte {
	from, to := skipSpace(doc, 0), len(doc)
	for to > from && isSpace(doc[to-1]) {
		to--
	}
	return doc[from:to]
}
