package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// layer is one document inside another: the wrapper, the document, the element of a list in it. The outermost is layer 0.
type layer struct {
	// paths are the places read in it; a slot is a position here.
	paths []string
}

// scene is one document of a delivery being read by a preset that is not strict, with the documents around it.
type scene struct {
	preset *preset
	trees  []*tree
	local  *time.Location
	slots  [][]slot
	// raw are the values at the places the rules ask for; those of the documents around are shared by their elements.
	raw [][]value
	// every says that the preset's only is not asked.
	every bool
	// emit takes an innermost document; refuse takes an element of a list that cannot be read.
	emit   func(doc []byte) error
	refuse func(doc []byte, err error)
}

func newScene(p *preset, trees []*tree, rawCount int, local *time.Location) *scene {
	s := &scene{preset: p, trees: trees, local: local, slots: make([][]slot, len(trees)), raw: make([][]value, rawCount)}
	total := 0
	for i := range p.layers {
		total += len(p.layers[i].paths)
	}
	all := make([]slot, total)
	for i := range p.layers {
		n := len(p.layers[i].paths)
		s.slots[i], all = all[:n:n], all[n:]
	}
	return s
}

// begin forgets what layer k and those inside it held.
func (s *scene) begin(k int) {
	for i := k; i < len(s.slots); i++ {
		clear(s.slots[i])
	}
}

// object reads the object doc as layer k and goes on to what is inside.
func (s *scene) object(k int, doc []byte) error {
	s.begin(k)
	if outer := s.raw; k == 0 {
		clear(s.raw)
	} else if len(outer) > 0 {
		s.raw = slices.Clone(outer)
		defer func() { s.raw = outer }()
	}
	r := reader{doc: doc, preset: s.preset, raw: s.raw, slots: s.slots[k]}
	if err := r.read(s.trees[k]); err != nil {
		return err
	}
	switch {
	case k == 0 && len(s.preset.unwrap) > 0:
		return s.unwrap(doc)
	case k+1 < len(s.trees):
		return s.elements(k, doc)
	default:
		return s.emit(doc)
	}
}

// unwrap goes on with the object at the first place that holds one, or with the document itself, which then has no wrapper.
func (s *scene) unwrap(doc []byte) error {
	for _, p := range s.preset.unwrap {
		at := s.slots[0][p.slot]
		if len(at.whole) > 0 && at.whole[0] == '{' && !at.several {
			return s.object(1, at.whole)
		}
	}
	s.begin(0)
	clear(s.raw)
	return s.object(1, doc)
}

// elements goes on with every element of the list that the preset names in layer k; a single object counts as a list of one.
func (s *scene) elements(k int, doc []byte) error {
	p := &s.preset.each[k-s.preset.first()]
	at := s.slots[k][p.slot]
	if len(at.whole) == 0 || at.several {
		return &fieldError{p.path, "must be a list of objects: " + s.preset.name + " reads one alert from each"}
	}
	if at.whole[0] == '{' {
		return s.object(k+1, at.whole)
	}
	return eachElement(at.whole, func(i int, element []byte) error {
		err := error(&fieldError{fmt.Sprintf("%s[%d]", p.path, i), "must be an object, not " + excerpt(element)})
		if element[0] == '{' {
			err = s.object(k+1, element)
		}
		if err != nil && !errors.Is(err, errTooMany) {
			s.refuse(element, err)
			return nil
		}
		return err
	})
}

// eachElement calls visit for every element of the list at the beginning of doc.
func eachElement(doc []byte, visit func(i int, element []byte) error) error {
	at := skipSpace(doc, 1)
	for i := 0; at < len(doc) && doc[at] != ']'; i++ {
		end, err := skipValue(doc, at)
		if err != nil {
			return err
		}
		if err := visit(i, doc[at:end]); err != nil {
			return err
		}
		at = skipSpace(doc, end)
		if at < len(doc) && doc[at] == ',' {
			at = skipSpace(doc, at+1)
		}
	}
	return nil
}

// flat reads a document that is a list of keys and texts.
func (s *scene) flat(doc []byte, pairs []pair) error {
	last := len(s.trees) - 1
	s.begin(0)
	clear(s.raw)
	r := reader{doc: doc, preset: s.preset, raw: s.raw, slots: s.slots[last]}
	for i := range pairs {
		if err := r.pair(s.trees[last], &pairs[i]); err != nil {
			return err
		}
	}
	return s.emit(doc)
}

// pair takes one key of a flat document; the key is one literal, dots included.
func (r *reader) pair(t *tree, p *pair) error {
	if p.json {
		r.doc, r.scopes = []byte(p.text), 1
		_, err := r.object(0, t.root, 1)
		return err
	}
	if p.text == "" {
		return nil
	}
	n := t.root.children[p.key]
	if n == nil && strings.IndexByte(p.key, '.') >= 0 {
		n, _ = t.root.find([]byte(p.key)) // only rows of strict presets make it fail
	}
	if n == nil {
		return nil
	}
	if n.slot >= 0 {
		r.slots[n.slot].put(scalar{text: p.text})
	}
	return r.keep(n, value{kind: valueText, text: p.text})
}

// wanted reports whether the preset's only lets the document through.
func (s *scene) wanted() (bool, error) {
	if s.every {
		return true, nil
	}
	for i := range s.preset.only {
		f := &s.preset.only[i]
		fits, sure := s.fits(f)
		if !sure {
			return false, &fieldError{f.place.path, "holds several values, so it cannot be told whether the document is an alert"}
		}
		if !fits {
			return false, nil
		}
	}
	return true, nil
}

// alert fills in what the document says. Source, Preset, Received and Raw are set already.
func (s *scene) alert(a *bridge.Alert, doc []byte) {
	for i := range s.preset.findings {
		s.fill(&s.preset.findings[i], a)
	}
	s.fillDigests(s.preset.hashes, a)
	if a.ID == "" {
		a.ID = documentID(doc)
	}
	derive(a)
}

// layered gives each place that rules ask for to the document it is in: raw.^.name is one document outwards.
func layered(rawPaths []string, layers int) [][]string {
	lists := make([][]string, layers)
	for i := range lists {
		lists[i] = make([]string, len(rawPaths))
	}
	for i, path := range rawPaths {
		at := layers - 1
		for strings.HasPrefix(path, outwards) && at >= 0 {
			path, at = path[len(outwards):], at-1
		}
		if at >= 0 {
			lists[at][i] = path
		}
	}
	return lists
}
