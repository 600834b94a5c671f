// Package yamltree reads the YAML files people write for this program (rules, presets) as a tree whose every node knows its place, so
// that each mistake is told with its line and column, and all of them at once. A file means what it shows: anchors, aliases, merge keys,
// tags, a second document and keys given twice are refused. What the keys mean is the caller's business.
package yamltree

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// MaxProblems is how many problems of one file are told; what follows the first dozens is noise.
	MaxProblems = 50

	maxFile    = 1 << 20 // bytes
	maxNesting = 32      // brackets and dashes open at once
)

// Kind is what a node holds.
type Kind int

// The kinds of nodes.
const (
	Null Kind = iota // nothing, null or ~
	Text
	Integer
	Float
	NotFinite // .inf or .nan
	Bool
	List
	Map
)

// String returns the words people read, such as "a list".
func (k Kind) String() string {
	switch k {
	case Null:
		return "nothing"
	case Text:
		return "text"
	case Integer, Float:
		return "a number"
	case NotFinite:
		return "infinity or no number"
	case Bool:
		return "true or false"
	case List:
		return "a list"
	case Map:
		return "a mapping"
	default:
		return fmt.Sprintf("Kind(%d)", int(k))
	}
}

// Place is where something begins. Line and Column count from 1, columns in characters.
type Place struct{ Line, Column int }

// Node is one value of a file.
type Node struct {
	Kind Kind
	// Place of a mapping over several lines is that of its first key.
	Place Place
	// Value is a string of Text, an int64 or uint64 of Integer, a float64 of Float, a bool of Bool, nil of the others.
	Value any
	// Written is an Integer, Float or Bool as it stands in the file.
	Written string

	items   []*Node
	entries []Entry
}

// TextNode returns a node of the kind Text that stands at place.
func TextNode(place Place, text string) *Node { return &Node{Kind: Text, Place: place, Value: text} }

// Entry is one key of a mapping with its value, which is never nil.
type Entry struct {
	Key string
	// Place is that of the key.
	Place Place
	Value *Node

	noText bool // the key
}

// Problem is one mistake in a file.
type Problem struct {
	Place
	Message string
}

// File is a YAML file being read. It collects problems; the zero value has none.
type File struct {
	// Problems are in the order in which they were found, at most MaxProblems.
	Problems []Problem
}

// Sorted returns the problems by their places.
func (f *File) Sorted() []Problem {
	return slices.SortedStableFunc(slices.Values(f.Problems), func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// FailAt notes a problem; the zero Place is the beginning of the file.
func (f *File) FailAt(at Place, format string, args ...any) {
	if len(f.Problems) >= MaxProblems {
		return
	}
	at.Line, at.Column = max(at.Line, 1), max(at.Column, 1)
	f.Problems = append(f.Problems, Problem{Place: at, Message: fmt.Sprintf(format, args...)})
}

// Fail notes a problem of n; nil is the file as a whole.
func (f *File) Fail(n *Node, format string, args ...any) {
	var at Place
	if n != nil {
		at = n.Place
	}
	f.FailAt(at, format, args...)
}

// Entries returns the keys of a mapping with their values. Keys given twice, and keys that are no text, are noted and left out; so are
// those not in known (unless it is nil), with the nearest known one. what is how a problem calls n. It is false when n is no mapping.
func (f *File) Entries(n *Node, what string, known []string) ([]Entry, bool) {
	if n.Kind != Map {
		f.Fail(n, "%s must be a mapping of keys to values, not %s", what, n.Kind)
		return nil, false
	}
	first := map[string]int{}
	var list []Entry
	for _, e := range n.entries {
		if e.noText {
			f.FailAt(e.Place, "the key must be text")
			continue
		}
		if line, given := first[e.Key]; given {
			f.FailAt(e.Place, "key %q is given twice, first in line %d", e.Key, line)
			continue
		}
		first[e.Key] = e.Place.Line
		if known != nil && !slices.Contains(known, e.Key) {
			f.FailAt(e.Place, "unknown field %q%s", e.Key, bridge.DidYouMean(e.Key, known))
			continue
		}
		list = append(list, e)
	}
	return list, true
}

// Items returns the elements of a list. It is false, and a problem noted, when n is none.
func (f *File) Items(n *Node, what string) ([]*Node, bool) {
	if n.Kind != List {
		f.Fail(n, "%s must be a list, not %s", what, n.Kind)
		return nil, false
	}
	return n.items, true
}

// ItemsOrOne returns the elements of a list, or n itself when it is none.
func ItemsOrOne(n *Node) []*Node {
	if n.Kind != List {
		return []*Node{n}
	}
	return n.items
}

// Text returns a text. It is false, and a problem noted, when n is none.
func (f *File) Text(n *Node, what string) (string, bool) {
	switch n.Kind {
	case Text:
		return n.Value.(string), true
	case Integer, Float, Bool:
		f.Fail(n, "%s must be text: put %s in quotes", what, n.Written)
	default:
		f.Fail(n, "%s must be text, not %s", what, n.Kind)
	}
	return "", false
}

// Bool returns true or false. The second result is false, and a problem noted, when n is neither.
func (f *File) Bool(n *Node, what string) (value, ok bool) {
	if value, ok = n.Value.(bool); !ok {
		f.Fail(n, "%s must be true or false, not %s", what, n.Kind)
	}
	return value, ok
}
