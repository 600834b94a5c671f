package mapping

import (
	"fmt"
	"strconv"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxDocument  = 1 << 20 // bytes of one document
	maxRawValues = 4096    // values at one raw place of one document
	maxExcerpt   = 40      // bytes of a document shown in an error
)

// fieldError says what is wrong with one field of a document.
type fieldError struct{ path, what string }

func (e *fieldError) Error() string { return e.path + ": " + e.what }

// excerpt returns the beginning of hostile text, safe to print on one line.
func excerpt(b []byte) string {
	if len(b) > maxExcerpt {
		return strconv.QuoteToASCII(string(b[:maxExcerpt])) + "…"
	}
	return strconv.QuoteToASCII(string(b))
}

// reader goes once over a document and takes what the tree names.
type reader struct {
	doc    []byte
	preset *preset
	alert  *bridge.Alert
	raw    [][]value
	// slots are the places that a preset which is not strict reads.
	slots []slot
	// seen holds for each node the scope it was last met in; scopes are 1 for the document and one more for
	// each element of an array, so that elements may repeat what one object may not.
	seen   []int
	scopes int
	// have marks the alert fields that are filled in; clock is the text of the time.
	have  [fieldCount]bool
	clock string
}

// read fills in the alert and the raw values from the document.
func (r *reader) read(t *tree) error {
	i := skipSpace(r.doc, 0)
	if i >= len(r.doc) || r.doc[i] != '{' {
		return fmt.Errorf("must be one JSON object, begins with %s", excerpt(r.doc[i:min(len(r.doc), i+8)]))
	}
	if r.slots == nil {
		r.seen = make([]int, t.count)
	}
	r.scopes = 1
	end, err := r.object(i, t.root, 1)
	if err != nil {
		return err
	}
	if skipSpace(r.doc, end) != len(r.doc) {
		return fmt.Errorf("trailing data after the JSON object")
	}
	return nil
}

// object reads the object whose brace is at i and returns its end.
func (r *reader) object(i int, n *node, scope int) (int, error) {
	i = skipSpace(r.doc, i+1)
	if i < len(r.doc) && r.doc[i] == '}' {
		return i + 1, nil
	}
	for {
		child, next, err := r.key(i, n)
		if err != nil {
			return 0, err
		}
		if child == nil {
			i, err = skipValue(r.doc, next)
		} else {
			i, err = r.value(next, child, scope)
		}
		if err != nil {
			return 0, err
		}
		i = skipSpace(r.doc, i)
		if i >= len(r.doc) {
			return 0, errMalformed
		}
		switch r.doc[i] {
		case ',':
			i = skipSpace(r.doc, i+1)
		case '}':
			return i + 1, nil
		default:
			return 0, errMalformed
		}
	}
}

// key reads a key and its colon; it returns the node it names, or nil, and where the value begins.
func (r *reader) key(i int, n *node) (*node, int, error) {
	if i >= len(r.doc) || r.doc[i] != '"' {
		return nil, 0, errMalformed
	}
	end, escaped, err := scanString(r.doc, i)
	if err != nil {
		return nil, 0, err
	}
	name := r.doc[i+1 : end-1]
	if escaped {
		text, err := unquote(r.doc[i:end], true)
		if err != nil {
			return nil, 0, fmt.Errorf("key %s: %w", excerpt(name), err)
		}
		name = []byte(text)
	}
	i = skipSpace(r.doc, end)
	if i >= len(r.doc) || r.doc[i] != ':' {
		return nil, 0, errMalformed
	}
	child, err := n.find(name)
	return child, skipSpace(r.doc, i+1), err
}

// value reads the value at i for a node and returns its end.
func (r *reader) value(i int, n *node, scope int) (int, error) {
	if i >= len(r.doc) {
		return 0, errMalformed
	}
	if r.slots == nil {
		if r.seen[n.id] == scope {
			return 0, &fieldError{n.path, "is given twice"}
		}
		r.seen[n.id] = scope
	}
	switch r.doc[i] {
	case '{':
		if n.row >= 0 {
			return 0, &fieldError{n.path, "must not be an object"}
		}
		if err := r.keep(n, value{kind: valueNested}); err != nil {
			return 0, err
		}
		var end int
		var err error
		if len(n.children) == 0 {
			end, err = skipNested(r.doc, i)
		} else {
			end, err = r.object(i, n, scope)
		}
		if n.slot >= 0 && err == nil {
			r.slots[n.slot].hold(r.doc[i:end])
		}
		return end, err
	case '[':
		if n.row >= 0 || n.branch {
			return 0, &fieldError{n.path, "must not be a list"}
		}
		if len(n.children) == 0 && n.rawIndex < 0 && n.slot < 0 {
			return skipNested(r.doc, i)
		}
		end, err := r.list(i, n)
		if n.slot >= 0 && err == nil {
			r.slots[n.slot].hold(r.doc[i:end])
		}
		return end, err
	default:
		end, err := skipValue(r.doc, i)
		if err != nil {
			return 0, err
		}
		return end, r.scalar(r.doc[i:end], n)
	}
}

// list reads the array at i: its scalars are values of the node, its objects are read below it.
func (r *reader) list(i int, n *node) (int, error) {
	i = skipSpace(r.doc, i+1)
	if i < len(r.doc) && r.doc[i] == ']' {
		return i + 1, nil
	}
	for {
		if i >= len(r.doc) {
			return 0, errMalformed
		}
		var err error
		switch r.doc[i] {
		case '{', '[':
			if err = r.keep(n, value{kind: valueNested}); err != nil {
				return 0, err
			}
			if n.slot >= 0 {
				r.slots[n.slot].mixed = true
			}
			if r.doc[i] == '[' || len(n.children) == 0 {
				i, err = skipNested(r.doc, i)
				break
			}
			r.scopes++
			i, err = r.object(i, n, r.scopes)
		default:
			var end int
			if end, err = skipValue(r.doc, i); err == nil {
				err = r.scalar(r.doc[i:end], n)
			}
			i = end
		}
		if err != nil {
			return 0, err
		}
		i = skipSpace(r.doc, i)
		if i >= len(r.doc) {
			return 0, errMalformed
		}
		switch r.doc[i] {
		case ',':
			i = skipSpace(r.doc, i+1)
		case ']':
			return i + 1, nil
		default:
			return 0, errMalformed
		}
	}
}

// scalar takes a string, number, true, false or null for a node. Null is the same as absent.
func (r *reader) scalar(token []byte, n *node) error {
	if string(token) == "null" {
		return nil
	}
	if n.branch {
		return &fieldError{n.path, "must be an object, not " + excerpt(token)}
	}
	if n.row >= 0 {
		if err := r.take(token, &r.preset.rows[n.row]); err != nil {
			return &fieldError{n.path, err.Error()}
		}
	}
	if n.slot >= 0 {
		r.slots[n.slot].put(scalar{token: token})
	}
	if n.rawIndex < 0 {
		return nil
	}
	v, err := rawValue(token)
	if err != nil {
		return &fieldError{n.path, err.Error()}
	}
	return r.keep(n, v)
}

// keep adds a value to the raw place of a node, if it has one.
func (r *reader) keep(n *node, v value) error {
	if n.rawIndex < 0 {
		return nil
	}
	if len(r.raw[n.rawIndex]) >= maxRawValues {
		return &fieldError{n.path, fmt.Sprintf("holds more than %d values", maxRawValues)}
	}
	r.raw[n.rawIndex] = append(r.raw[n.rawIndex], v)
	return nil
}

// rawValue reads a scalar token as rules compare it.
func rawValue(token []byte) (value, error) {
	switch token[0] {
	case '"':
		text, err := textOf(token)
		return value{kind: valueText, text: text}, err
	case 't', 'f':
		return value{kind: valueBool, truth: token[0] == 't'}, nil
	default:
		num, ok := parseNumber(string(token))
		if !ok {
			return value{}, fmt.Errorf("must be a number in range, not %s", excerpt(token))
		}
		return value{kind: valueNumber, num: num}, nil
	}
}
