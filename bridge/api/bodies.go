package api

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

var (
	errNoDocument    = errors.New("the body holds no document")
	errManyDocuments = errors.New("the body holds too many documents")
	errMarked        = errors.New("the body starts with a byte order mark: send UTF-8 without it")
	errWide          = errors.New("the body is UTF-16 or UTF-32: send UTF-8")
	errDeep          = errors.New("the body is nested too deeply")
)

// checkText refuses bodies of another encoding by their first bytes. Bytes further on that are no UTF-8 are left to whoever reads the
// document, because a document that nobody can read is kept as a dead letter and a body that is refused here is not.
func checkText(body []byte) error {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return errMarked
	case bytes.HasPrefix(body, []byte("\xff\xfe")), bytes.HasPrefix(body, []byte("\xfe\xff")):
		return errWide
	case len(body) >= 2 && (body[0] == 0) != (body[1] == 0): // the ASCII sign every format begins with, in two or four bytes
		return errWide
	case len(trimSpace(body)) == 0:
		return errNoDocument
	default:
		return nil
	}
}

// checkDepth refuses a JSON body with more than limit objects and arrays inside one another. What does not begin like one is text.
func checkDepth(body []byte, limit int) error {
	at := skipSpace(body, 0)
	for at < len(body) && (body[at] == '{' || body[at] == '[') {
		end, err := skipJSON(body, at, limit)
		if errors.Is(err, errDeep) {
			return fmt.Errorf("%w: at most %d levels", errDeep, limit)
		}
		if err != nil {
			return nil //nolint:nilerr // the preset says what is wrong with it
		}
		at = skipSpace(body, end)
	}
	return nil
}

// splitBody cuts the body of a kuma-http request into its documents, in their order: the objects of NDJSON and of concatenated JSON,
// the elements of arrays, and every other line as it stands (CEF). It does not decide whether a document is readable: what does not
// hold together becomes a document of its own (the line, or the rest of an array), so that nothing is lost and the bridge keeps
// it as a dead letter. The documents share body's memory. It takes time linear in len(body); more than limit documents are
// errManyDocuments, none errNoDocument.
//
// Not documented: that KUMA separates events by newlines, and whether it ever sends arrays (support.kaspersky.com/kuma/3.2/en-US/232961).
func splitBody(body []byte, limit int) ([][]byte, error) {
	s := splitter{body: body, limit: limit}
	if err := s.split(); err != nil {
		return nil, err
	}
	if len(s.docs) == 0 {
		return nil, errNoDocument
	}
	return s.docs, nil
}

type splitter struct {
	body  []byte
	limit int
	docs  [][]byte
}

func (s *splitter) split() error {
	lines := false
	for at := skipSpace(s.body, 0); at < len(s.body); at = skipSpace(s.body, at) {
		within := s.body
		if lines {
			within = s.body[:lineEnd(s.body, at)]
		}
		end, err := s.take(within, at)
		if errors.Is(err, errBroken) {
			// A later line may be sound. From here on no document is longer than a line, which also keeps the work linear.
			lines = true
			end, err = s.line(at)
		}
		if err != nil {
			return err
		}
		at = end
	}
	return nil
}

// take adds the documents of the value at the place and returns where it ends; nothing is read beyond within.
func (s *splitter) take(within []byte, at int) (int, error) {
	switch s.body[at] {
	case '{':
		end, err := skipJSON(within, at, 0)
		if err != nil {
			return 0, err
		}
		return end, s.add(at, end)
	case '[':
		return s.array(within, at)
	default:
		return s.line(at)
	}
}

func (s *splitter) line(at int) (int, error) {
	end := lineEnd(s.body, at)
	return end, s.add(at, end)
}

func (s *splitter) array(within []byte, start int) (int, error) {
	at := skipSpace(within, start+1)
	if at < len(within) && within[at] == ']' {
		return at + 1, nil
	}
	for from := start; ; from = at {
		end, err := skipJSON(within, at, 0)
		next := skipSpace(within, end)
		if err != nil || next == len(within) || within[next] != ',' && within[next] != ']' {
			return len(within), s.add(from, len(within))
		}
		if err := s.add(at, end); err != nil {
			return 0, err
		}
		if within[next] == ']' {
			return next + 1, nil
		}
		at = skipSpace(within, next+1)
	}
}

// add takes body[from:to] without the space around it as a document.
func (s *splitter) add(from, to int) error {
	doc := trimSpace(s.body[from:to])
	if len(doc) == 0 {
		return nil
	}
	if len(s.docs) == s.limit {
		return fmt.Errorf("%w: at most %d", errManyDocuments, s.limit)
	}
	s.docs = append(s.docs, slices.Clip(doc))
	return nil
}

func lineEnd(body []byte, at int) int {
	if n := bytes.IndexByte(body[at:], '\n'); n >= 0 {
		return at + n
	}
	return len(body)
}
