package ioc

import (
	"sync"
)

const (
	// maxVariants bounds the different combinations of true terms that are kept of one kind and a document about several,
	// maxVariantBytes the memory of all combinations of all documents.
	maxVariants     = 512
	maxVariantBytes = 32 << 20
	// maxMixed is how many records are kept of a combination when other kinds have a say in the match.
	maxMixed = 100
	// maxKept bounds the records kept in all; a record takes about 1 KiB.
	maxKept = 20_000
)

// judge collects, for every document, which combinations of its terms were true of one and the same object. It is
// safe for many goroutines.
type judge struct {
	q     *Query
	limit int // records of one document

	// hopes are per document and kind the terms about other kinds that are, or may still become, true. They change only between
	// two kinds.
	hopes []map[Kind]termset

	// mu guards kept, bytes and cases.
	mu    sync.Mutex
	kept  int
	bytes int
	cases []dossier
}

// dossier is what was seen for one document.
type dossier struct {
	variants map[Kind]map[string]*variant
	// true are the terms of each kind that were true of some object.
	true map[Kind]termset
	// lost says that a combination was not kept, because there were too many.
	lost bool
}

// variant is a combination of true terms of one kind.
type variant struct {
	terms   termset
	count   int64
	records []*Record
}

func newJudge(q *Query, limit int) *judge {
	j := &judge{q: q, limit: limit, hopes: make([]map[Kind]termset, len(q.documents)), cases: make([]dossier, len(q.documents))}
	for i := range j.cases {
		j.cases[i] = dossier{map[Kind]map[string]*variant{}, map[Kind]termset{}, false}
	}
	return j
}

// begin makes the judge ready for the objects of one kind, when those of the kinds in done have been seen.
func (j *judge) begin(k Kind, done map[Kind]bool) {
	for i := range j.q.documents {
		d := &j.q.documents[i]
		if d.ofKind[k] == nil {
			continue
		}
		hope := newTermset(len(d.terms))
		for other, terms := range d.ofKind {
			switch {
			case other == k:
			case done[other]:
				hope.add(j.cases[i].true[other])
			default:
				hope.add(terms)
			}
		}
		if j.hopes[i] == nil {
			j.hopes[i] = map[Kind]termset{}
		}
		j.hopes[i][k] = hope
	}
}

// record keeps that the terms were true of one object. The record is made only when there is room for it.
func (j *judge) record(doc int, k Kind, terms termset, make func() *Record) {
	v := j.variant(doc, k, terms)
	if v == nil {
		return
	}
	limit := j.limit
	if len(j.q.documents[doc].ofKind) > 1 {
		limit = min(limit, maxMixed)
	}
	j.mu.Lock()
	room := len(v.records) < limit && j.kept < maxKept
	if room {
		j.kept++
	}
	j.mu.Unlock()
	if !room {
		return
	}
	// To make a record can take a while: the file may have to be hashed.
	r := make()
	j.mu.Lock()
	defer j.mu.Unlock()
	v.records = append(v.records, r)
}

// variant counts the combination; nil when it is not kept.
func (j *judge) variant(doc int, k Kind, terms termset) *variant {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := &j.cases[doc]
	if c.true[k] == nil {
		c.true[k] = newTermset(len(j.q.documents[doc].terms))
		c.variants[k] = map[string]*variant{}
	}
	c.true[k].add(terms)
	key := terms.key()
	v := c.variants[k][key]
	switch {
	case v != nil:
	case len(j.q.documents[doc].ofKind) > 1 && len(c.variants[k]) >= maxVariants, j.bytes+variantBytes(terms) > maxVariantBytes:
		c.lost = true
		return nil
	default:
		j.bytes += variantBytes(terms)
		v = &variant{terms: terms.clone()}
		c.variants[k][key] = v
	}
	v.count++
	return v
}

// variantBytes is about what a combination takes: the terms, once more as a key, and the structs around them.
func variantBytes(terms termset) int { return 16*len(terms) + 200 }

// clerk judges one object after the other for one goroutine.
type clerk struct {
	j    *judge
	kind Kind
	ix   *index
	hits []int32
	// sets are per document the terms true of the object, touched the documents that have some.
	sets    []termset
	touched []int32
	scratch termset
}

func (j *judge) clerk(k Kind) *clerk {
	return &clerk{j: j, kind: k, ix: j.q.indexes[k], sets: make([]termset, len(j.q.documents))}
}

// look compares the object with the fields and notes which terms are true of it.
func (c *clerk) look(fields []fieldIndex, o *object) {
	c.hits = c.ix.glance(fields, o, c.hits[:0])
	for _, h := range c.hits {
		for _, u := range c.j.q.usesOf(h) {
			set := c.sets[u.document]
			if set == nil {
				set = newTermset(len(c.j.q.documents[u.document].terms))
				c.sets[u.document] = set
			}
			if set.empty() {
				c.touched = append(c.touched, u.document)
			}
			set.set(int(u.term))
		}
	}
}

// possible reports whether the document may match with this object, the digests in more taken for true.
func (c *clerk) possible(doc int32, more termset) bool {
	d := &c.j.q.documents[doc]
	c.scratch = append(c.scratch[:0], c.j.hopes[doc][c.kind]...)
	c.scratch.add(c.sets[doc])
	c.scratch.add(more)
	return d.root.holds(c.scratch)
}

// settle hands on what is true of the object and is done with it.
func (c *clerk) settle(make func() *Record) {
	for _, doc := range c.touched {
		if c.possible(doc, nil) {
			c.j.record(int(doc), c.kind, c.sets[doc], make)
		}
		clear(c.sets[doc])
	}
	c.touched = c.touched[:0]
}
