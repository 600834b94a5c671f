package ioc

import (
	"fmt"
	"slices"
	"strings"
)

// maxUnsupported is how many unsupported terms a report names one by one.
const maxUnsupported = 1000

// Report says what of the documents can be looked for on this machine.
type Report struct {
	// Documents and Terms count what was read.
	Documents int `json:"documents"`
	Terms     int `json:"terms"`
	// Kinds are collected by a scan.
	Kinds []Kind `json:"kinds"`
	// Unsupported are the terms that match nothing, the first 1000, and UnsupportedTotal how many there are.
	Unsupported      []Unsupported `json:"unsupported"`
	UnsupportedTotal int           `json:"unsupported_total"`
	// Hopeless are the ids of documents that cannot match, because they need a term that matches nothing.
	Hopeless []Text `json:"hopeless"`
}

// Unsupported is a term, or a group of terms, that matches nothing.
type Unsupported struct {
	// Document is the id of the document, Entry its name in the archive.
	Document Text `json:"document"`
	Entry    Text `json:"entry"`
	// Term is the id of the term, may be empty; Search and Condition what it asks; empty for a group.
	Term      Text `json:"term"`
	Search    Text `json:"search"`
	Condition Text `json:"condition"`
	// Why is the reason in words.
	Why string `json:"why"`
}

// Query is what a scan looks for: all documents at once. It does not change and is safe for many goroutines.
type Query struct {
	documents  []document
	predicates []predicate
	// uses are the terms of documents by the predicate they ask; those of predicate n begin at firstUse[n].
	uses     []use
	firstUse []int32
	// indexes are the predicates of each kind, for one glance at an object.
	indexes map[Kind]*index
	report  Report
}

// use is the place of a predicate in a document.
type use struct{ document, term int32 }

// document is a Document whose terms are predicates.
type document struct {
	id, name, entry string
	root            node
	terms           []asked
	// ofKind are the understood terms about each kind the document needs.
	ofKind map[Kind]termset
	// late are the terms about digests.
	late termset
}

// asked is an understood term.
type asked struct {
	*term
	predicate int32
}

// node is a group of terms: all of them, or one of them.
type node struct {
	all   bool
	never bool // holds something not understood that it needs, or nothing at all
	nodes []node
	terms []int32
}

// holds reports whether the node is true when the terms of set are.
func (n *node) holds(set termset) bool {
	if n.never {
		return false
	}
	for _, t := range n.terms {
		if set.has(int(t)) != n.all {
			return !n.all
		}
	}
	for i := range n.nodes {
		if n.nodes[i].holds(set) != n.all {
			return !n.all
		}
	}
	return n.all
}

// Compile makes documents, as Read returns them, one query. It never fails: what is not understood matches nothing and is reported.
func Compile(docs []Document) (*Query, Report) {
	empty := Report{Kinds: []Kind{}, Unsupported: []Unsupported{}, Hopeless: []Text{}}
	c := compiler{query: &Query{indexes: map[Kind]*index{}, report: empty}, known: map[question]int32{}, failed: map[question]string{}}
	for _, d := range docs {
		c.document(d)
	}
	q := c.query
	q.report.Documents = len(docs)
	q.sortUses()
	needed := map[Kind]bool{}
	for i := range q.documents {
		for k := range q.documents[i].ofKind {
			needed[k] = true
		}
	}
	for _, k := range kinds() {
		if needed[k] {
			q.report.Kinds = append(q.report.Kinds, k)
			q.indexes[k] = newIndex(q, k)
		}
	}
	return q, q.Report()
}

// sortUses puts the terms of all documents into the order of their predicates.
func (q *Query) sortUses() {
	q.firstUse = make([]int32, len(q.predicates)+1)
	for _, d := range q.documents {
		for _, t := range d.terms {
			q.firstUse[t.predicate+1]++
		}
	}
	for i := range q.predicates {
		q.firstUse[i+1] += q.firstUse[i]
	}
	q.uses = make([]use, q.firstUse[len(q.predicates)])
	next := slices.Clone(q.firstUse)
	for i, d := range q.documents {
		for j, t := range d.terms {
			q.uses[next[t.predicate]] = use{int32(i), int32(j)}
			next[t.predicate]++
		}
	}
}

// usesOf returns the terms that ask a predicate.
func (q *Query) usesOf(predicate int32) []use {
	return q.uses[q.firstUse[predicate]:q.firstUse[predicate+1]]
}

// Report returns what Compile said.
func (q *Query) Report() Report {
	r := q.report
	r.Kinds, r.Unsupported, r.Hopeless = slices.Clone(r.Kinds), slices.Clone(r.Unsupported), slices.Clone(r.Hopeless)
	return r
}

// Kinds returns what a scan collects, in the order in which it does.
func (q *Query) Kinds() []Kind { return slices.Clone(q.report.Kinds) }

// compiler builds one query.
type compiler struct {
	query    *Query
	known    map[question]int32
	failed   map[question]string
	patterns patternBudget
}

func (c *compiler) document(d Document) {
	doc := document{id: d.ID, name: d.Name, entry: d.Entry, ofKind: map[Kind]termset{}}
	doc.terms = make([]asked, 0, d.Terms())
	doc.root = c.node(d, d.root, &doc)
	set := newTermset(len(doc.terms))
	for i, t := range doc.terms {
		p := &c.query.predicates[t.predicate]
		if doc.ofKind[p.kind] == nil {
			doc.ofKind[p.kind] = newTermset(len(doc.terms))
		}
		doc.ofKind[p.kind].set(i)
		set.set(i)
		if p.shape.digest() {
			if doc.late == nil {
				doc.late = newTermset(len(doc.terms))
			}
			doc.late.set(i)
		}
	}
	if !doc.root.holds(set) {
		c.query.report.Hopeless = append(c.query.report.Hopeless, Text(d.ID))
		return
	}
	c.query.documents = append(c.query.documents, doc)
}

func (c *compiler) node(d Document, g group, doc *document) node {
	n := node{}
	switch strings.ToUpper(strings.TrimSpace(g.operator)) {
	case "AND":
		n.all = true
	case "OR":
	default:
		n.never = true
		c.unsupported(d, term{}, fmt.Errorf("a group has the operator %s: AND and OR are known", Text(g.operator)))
	}
	for i := range g.terms {
		t := &g.terms[i]
		c.query.report.Terms++
		p, err := c.predicate(d.Version, *t)
		if err != nil {
			c.unsupported(d, *t, err)
			n.never = n.never || n.all
			continue
		}
		n.terms = append(n.terms, int32(len(doc.terms))) //nolint:gosec // bounded by Limits.Terms
		doc.terms = append(doc.terms, asked{t, p})
	}
	for _, sub := range g.groups {
		m := c.node(d, sub, doc)
		if m.never {
			n.never = n.never || n.all
			continue
		}
		n.nodes = append(n.nodes, m)
	}
	// A group of nothing is no match, although all of nothing would be true.
	n.never = n.never || len(n.terms)+len(n.nodes) == 0
	return n
}

// predicate returns the number of the predicate of a term; equal questions share one.
func (c *compiler) predicate(v Version, t term) (int32, error) {
	q, s, err := ask(v, t)
	if err != nil {
		return 0, err
	}
	if n, known := c.known[q]; known {
		return n, nil
	}
	if why, failed := c.failed[q]; failed {
		return 0, errWhy(why)
	}
	p, err := answerable(q, s, &c.patterns)
	if err != nil {
		c.failed[q] = err.Error()
		return 0, err
	}
	n := int32(len(c.query.predicates)) //nolint:gosec // bounded by Limits.Terms
	c.known[q] = n
	c.query.predicates = append(c.query.predicates, p)
	return n, nil
}

func (c *compiler) unsupported(d Document, t term, why error) {
	r := &c.query.report
	r.UnsupportedTotal++
	if len(r.Unsupported) < maxUnsupported {
		r.Unsupported = append(r.Unsupported, Unsupported{
			Text(d.ID), Text(d.Entry), Text(t.id), Text(t.search), Text(t.condition), why.Error(),
		})
	}
}

// errWhy is a reason that was given before.
type errWhy string

// Error returns the reason.
func (e errWhy) Error() string { return string(e) }
