package ioc

import (
	"cmp"
	"maps"
	"slices"
)

// maxSteps bounds the search for combinations of one document that is about several kinds, in words of 64 terms.
const maxSteps = 200_000

// solver finds out which objects take part in a match of one document. A document about several kinds matches when one object
// of each kind, or none of some, make it true together.
type solver struct {
	root  *node
	kinds []Kind
	seen  map[Kind][]*variant
	// union are the terms true of any object of the kinds from a place on.
	union []termset
	steps int
}

func newSolver(d *document, c *dossier) *solver {
	s := &solver{root: &d.root, seen: map[Kind][]*variant{}, steps: maxSteps}
	for _, k := range kinds() {
		if len(c.variants[k]) == 0 {
			continue
		}
		s.kinds = append(s.kinds, k)
		// By their terms, so that the same input always gives the same result.
		all := slices.Collect(maps.Values(c.variants[k]))
		slices.SortFunc(all, func(a, b *variant) int { return cmp.Compare(a.terms.key(), b.terms.key()) })
		s.seen[k] = all
	}
	return s
}

// parts returns the combinations that take part in a match: with an object of theirs the document is true and without
// it, all else equal, it is not. decided is false when the search was given up.
func (s *solver) parts(terms int) (parts map[Kind][]*variant, decided bool) {
	parts = map[Kind][]*variant{}
	for _, k := range s.kinds {
		others := slices.DeleteFunc(slices.Clone(s.kinds), func(o Kind) bool { return o == k })
		s.union = make([]termset, len(others)+1)
		s.union[len(others)] = newTermset(terms)
		for i := len(others) - 1; i >= 0; i-- {
			s.union[i] = s.union[i+1].clone()
			for _, v := range s.seen[others[i]] {
				s.union[i].add(v.terms)
			}
		}
		for _, v := range s.seen[k] {
			if s.decides(v.terms, newTermset(terms), others, 0) {
				parts[k] = append(parts[k], v)
			}
			if s.steps <= 0 {
				return parts, false
			}
		}
	}
	return parts, true
}

// decides reports whether some choice of objects of the other kinds leaves the decision to the object with these terms.
func (s *solver) decides(own, chosen termset, others []Kind, at int) bool {
	if len(others) > 0 {
		if s.steps -= 1 + len(own); s.steps <= 0 {
			return false
		}
	}
	// Terms only ever add to what is true: more objects cannot undo a match, fewer cannot make one.
	if s.root.holds(chosen) || !s.root.holds(union(own, chosen, s.union[at])) {
		return false
	}
	if s.root.holds(union(own, chosen)) {
		return true
	}
	if at == len(others) {
		return false
	}
	if s.decides(own, chosen, others, at+1) {
		return true
	}
	for _, v := range s.seen[others[at]] {
		if s.decides(own, union(chosen, v.terms), others, at+1) {
			return true
		}
	}
	return false
}

func union(first termset, more ...termset) termset {
	u := first.clone()
	for _, m := range more {
		u.add(m)
	}
	return u
}
