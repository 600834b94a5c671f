package mapping

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxDelivery = 4 << 20  // bytes of one delivery: the largest event of KUMA
	maxAlerts   = 10000    // elements of one delivery
	maxBroken   = 16       // places in a delivery behind which the reading begins anew
	maxAtOnce   = 16 << 10 // bytes up to which a delivery is first taken for one value, as most are
)

// errTooMany ends the reading of a delivery.
var errTooMany = fmt.Errorf("holds more than %d alerts: send smaller batches", maxAlerts)

// format is how the bytes of a delivery are read.
type format string

const (
	formatJSON   format = "json"
	formatCEF    format = "cef"
	formatSyslog format = "syslog"
	formatText   format = "text"
)

func formatNames() []string {
	return []string{string(formatJSON), string(formatCEF), string(formatSyslog), string(formatText)}
}

// formatOf tells the format of a delivery by how it begins: { or [ is JSON, CEF: is CEF, <digit is syslog, the rest is text.
func formatOf(doc []byte) format {
	doc = bytes.TrimLeft(doc, " \t\r\n")
	switch {
	case len(doc) > 0 && (doc[0] == '{' || doc[0] == '['):
		return formatJSON
	case bytes.HasPrefix(doc, []byte("CEF:")):
		return formatCEF
	case len(doc) > 1 && doc[0] == '<' && doc[1] >= '0' && doc[1] <= '9':
		return formatSyslog
	default:
		return formatText
	}
}

// part is one document of a delivery, or what could not be told apart.
type part struct {
	doc []byte
	err error
	// checked says that the document has passed bridge.CheckJSON.
	checked bool
}

// parts takes a delivery apart. JSON is an object, an array of objects, or any number of both one behind the other, with line
// breaks between them or without; CEF has one record a line; a syslog message and a text are the whole delivery, because a line
// break inside them is whoever wrote the message's.
func (f format) parts(doc []byte) ([]part, error) {
	switch f {
	case formatJSON:
		return jsonParts(doc)
	case formatCEF:
		var list []part
		for line := range bytes.Lines(doc) {
			if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if len(list) >= maxAlerts {
				return nil, errTooMany
			}
			list = append(list, part{doc: line})
		}
		return list, nil
	case formatSyslog, formatText:
		return []part{{doc: doc}}, nil
	default:
		return nil, fmt.Errorf("has the unknown format %q", f)
	}
}

func jsonParts(doc []byte) ([]part, error) {
	if doc = bytes.Trim(doc, " \t\r\n"); len(doc) <= maxAtOnce || doc[0] == '[' {
		if list, ok := wholeParts(doc); ok {
			return list, nil
		}
	}
	var list []part
	broken := 0
	for at := skipSpace(doc, 0); at < len(doc); at = skipSpace(doc, at) {
		if len(list) >= maxAlerts {
			return nil, errTooMany
		}
		if doc[at] == '[' {
			elements, end, err := arrayParts(doc, at)
			if err != nil {
				return nil, err
			}
			if list = append(list, elements...); len(list) > maxAlerts {
				return nil, errTooMany
			}
			at = end
			continue
		}
		end, err := 0, errNoObject
		if doc[at] == '{' {
			end, err = balanced(doc, at)
		}
		if err != nil {
			// What is broken ends where the next line begins with an object; the good ones behind it are not lost.
			end = len(doc)
			if next := bytes.Index(doc[at:], []byte("\n{")); next >= 0 && broken < maxBroken {
				end = at + next + 1
			}
			broken++
		}
		list = append(list, part{doc: doc[at:end], err: err})
		at = end
	}
	return list, nil
}

// wholeParts takes a delivery that is one flawless value: it is read once for everything it holds.
func wholeParts(doc []byte) ([]part, bool) {
	if bridge.CheckJSON(doc) != nil {
		return nil, false
	}
	list := []part{{doc: doc}}
	if doc[0] == '[' {
		var err error
		if list, _, err = arrayParts(doc, 0); err != nil {
			return nil, false
		}
	}
	for i := range list {
		list[i].checked = true
	}
	return list, true
}

var (
	errNoObject = errors.New("must be a JSON object")
	errCut      = errors.New("is cut off: brackets or quotes are not closed")
)

// arrayParts returns the elements of the array at i and its end.
func arrayParts(doc []byte, i int) ([]part, int, error) {
	var list []part
	at := skipSpace(doc, i+1)
	if at < len(doc) && doc[at] == ']' {
		return nil, at + 1, nil
	}
	for {
		end, err := skipValue(doc, at)
		if err != nil {
			return nil, 0, errCut
		}
		p := part{doc: doc[at:end]}
		if doc[at] != '{' {
			p.err = errNoObject
		}
		if list = append(list, p); len(list) > maxAlerts {
			return nil, 0, errTooMany
		}
		at = skipSpace(doc, end)
		if at >= len(doc) {
			return nil, 0, errCut
		}
		switch doc[at] {
		case ',':
			at = skipSpace(doc, at+1)
		case ']':
			return list, at + 1, nil
		default:
			return nil, 0, fmt.Errorf("the array goes on with %s behind element %d: want a comma or ]", excerpt(doc[at:at+1]), len(list)-1)
		}
	}
}

// balanced returns the end of the object at i. A line break inside quotes means that the quote was never closed.
func balanced(doc []byte, i int) (int, error) {
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
			if err != nil || bytes.IndexByte(doc[i:end], '\n') >= 0 {
				return 0, errCut
			}
			i = end
		default:
			i++
		}
	}
	return 0, errCut
}
