package mapping

import (
	"bytes"
	"slices"
	"strings"
)

// node is one name on the way to a fact of a document. The tree holds only the names that a preset or a rule
// asks for; everything else of a document is skipped unread.
type node struct {
	id   int
	path string // full dotted name, for messages
	name []byte // last part of it
	// children are found by exact name; branch says that a preset reads below this node.
	children map[string]*node
	branch   bool
	// declared are the children a preset reads or reads below.
	declared []*node
	// row is the row of a strict preset read here, slot the place of another preset, rawIndex the place of rules; -1 = none.
	row, slot, rawIndex int
}

// tree is the set of facts read from the documents of one preset.
type tree struct {
	root  *node
	count int
}

// newTree returns the tree of a strict preset's rows, or of the places another preset reads, and of the places rules ask
// for; an empty place of those is not in this document.
func newTree(rows []row, slots, rawPaths []string) *tree {
	t := &tree{}
	t.root = t.grow("")
	for i := range rows {
		n := t.at(rows[i].Path, true)
		n.row = i
	}
	for i, path := range slots {
		t.at(path, false).slot = i
	}
	for i, path := range rawPaths {
		if path != "" {
			t.at(path, false).rawIndex = i
		}
	}
	return t
}

func (t *tree) grow(path string) *node {
	n := &node{id: t.count, path: path, row: -1, slot: -1, rawIndex: -1}
	t.count++
	return n
}

// at returns the node of a dotted path, making it if need be.
func (t *tree) at(path string, preset bool) *node {
	n := t.root
	for seg := range strings.SplitSeq(path, ".") {
		n.branch = n.branch || preset
		child := n.children[seg]
		if child == nil {
			full := seg
			if n.path != "" {
				full = n.path + "." + seg
			}
			child = t.grow(full)
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			n.children[seg] = child
			child.name = []byte(seg)
		}
		if preset && !slices.Contains(n.declared, child) {
			n.declared = append(n.declared, child)
		}
		n = child
	}
	return n
}

// find returns the node a key of an object names, taking "a.b" for b inside a, or nil for a name nobody asks
// for. A name that differs from one of the preset's only by case is an error: other readers of the same
// document would take it.
func (n *node) find(key []byte) (*node, error) {
	if child := n.children[string(key)]; child != nil {
		return child, nil
	}
	if bytes.IndexByte(key, '.') < 0 {
		return nil, n.checkCase(key)
	}
	at := n
	for rest := key; ; {
		seg, tail, dotted := cutDot(rest)
		child := at.children[string(seg)]
		if child == nil {
			return nil, at.checkCase(seg)
		}
		if !dotted {
			return child, nil
		}
		at, rest = child, tail
	}
}

func cutDot(key []byte) (seg, tail []byte, dotted bool) {
	for i, c := range key {
		if c == '.' {
			return key[:i], key[i+1:], true
		}
	}
	return key, nil, false
}

func (n *node) checkCase(seg []byte) error {
	for _, child := range n.declared {
		if bytes.EqualFold(child.name, seg) {
			return &fieldError{child.path, "must be written in exactly this case, not " + excerpt(seg)}
		}
	}
	return nil
}
