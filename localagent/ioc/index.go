package ioc

// index holds the predicates about one kind so that an object is compared with thousands of them at one glance: equal texts
// are looked up, only the rest is asked one by one.
type index struct {
	predicates []predicate
	early      []fieldIndex
	// late is the same for digests, which cost reading the file.
	late []fieldIndex
}

// fieldIndex holds the predicates about one field.
type fieldIndex struct {
	field int
	shape shape
	// folded and exact are predicates by the text they want, of which each is asked for by one only.
	folded, exact map[string]int32
	rest          []int32
	// folds says that something of it looks at folded text.
	folds bool
}

func newIndex(q *Query, k Kind) *index {
	ix := &index{predicates: q.predicates}
	for at, f := range fields(k) {
		fx := fieldIndex{field: at, shape: f.shape}
		used := false
		for n := range q.predicates {
			p := &q.predicates[n]
			if p.kind != k || p.field != at || len(q.usesOf(int32(n))) == 0 {
				continue
			}
			used = true
			fx.folds = fx.folds || !p.exact && !f.shape.ordered()
			switch {
			case p.operation != equals || p.negate:
				fx.rest = append(fx.rest, int32(n))
			case p.exact:
				fx.exact = put(fx.exact, p.text, n)
			default:
				fx.folded = put(fx.folded, p.text, n)
			}
		}
		switch {
		case !used:
		case f.shape.digest():
			ix.late = append(ix.late, fx)
		default:
			ix.early = append(ix.early, fx)
		}
	}
	return ix
}

func put(m map[string]int32, key string, n int) map[string]int32 {
	if m == nil {
		m = map[string]int32{}
	}
	m[key] = int32(n) //nolint:gosec // bounded by Limits.Terms
	return m
}

// needs reports whether some predicate asks for the field before digests are known.
func (ix *index) needs(field int) bool {
	for i := range ix.early {
		if ix.early[i].field == field {
			return true
		}
	}
	return false
}

// glance appends the true predicates of the fields to hits.
func (ix *index) glance(fields []fieldIndex, o *object, hits []int32) []int32 {
	for i := range fields {
		fx := &fields[i]
		if fx.folds {
			o.fold(fx.field)
		}
		for _, v := range o.values[fx.field] {
			if fx.exact != nil {
				if n, found := fx.exact[normal(fx.shape, v.text)]; found {
					hits = append(hits, n)
				}
			}
			if fx.folded != nil {
				if n, found := fx.folded[normal(fx.shape, v.folded)]; found {
					hits = append(hits, n)
				}
			}
		}
		for _, n := range fx.rest {
			if ix.predicates[n].holds(o) {
				hits = append(hits, n)
			}
		}
	}
	return hits
}
