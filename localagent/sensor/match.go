package sensor

import (
	"slices"
	"strings"
)

// chain is one start of a program as rules look at it.
type chain struct {
	parent, child *image
	// childLine and parentLine read the command lines when a rule asks; "" = not known.
	childLine, parentLine func() string
}

// means reports whether a rule has the image as a parent.
func (s *ruleset) means(im *image) bool {
	return im != nil && slices.ContainsFunc(im.names, func(name string) bool { return len(s.byParent[name]) > 0 })
}

// match returns the first rule that means the chain, or nil.
func (s *ruleset) match(c chain) *compiled {
	if c.parent == nil || c.child == nil {
		return nil
	}
	var first *compiled
	for _, name := range c.parent.names {
		for _, r := range s.byParent[name] {
			if (first == nil || r.rank < first.rank) && r.matches(c) {
				first = r
			}
		}
	}
	return first
}

func (r *compiled) matches(c chain) bool {
	if !r.isChild(c.child) || !holds(r.line, c.childLine) || !holds(r.parentLine, c.parentLine) {
		return false
	}
	for _, e := range r.except {
		if e.matches(c) {
			return false
		}
	}
	return true
}

func (r *compiled) isChild(im *image) bool {
	if im.unseen && r.IgnoreUnseen {
		return false
	}
	if r.any || !im.named() {
		// What could not be read may be anything; the name it has does not clear it, for it chose that itself.
		return true
	}
	return containsAny(r.children, im.names)
}

func (e *compiledException) matches(c chain) bool {
	return (len(e.parents) == 0 || containsAny(e.parents, c.parent.names)) &&
		(len(e.children) == 0 || c.child.named() && containsAny(e.children, c.child.names)) &&
		holds(e.line, c.childLine) && holds(e.parentLine, c.parentLine)
}

func containsAny(set map[string]bool, names []string) bool {
	for _, name := range names {
		if set[name] {
			return true
		}
	}
	return false
}

// holds reports whether one of the conditions is fulfilled, or none is given.
func holds(conditions []pattern, line func() string) bool {
	if len(conditions) == 0 {
		return true
	}
	text := line()
	if text == "" {
		return false
	}
	lower := strings.ToLower(text)
	for _, p := range conditions {
		if p.expr != nil && p.expr.MatchString(text) || p.expr == nil && strings.Contains(lower, p.text) {
			return true
		}
	}
	return false
}
