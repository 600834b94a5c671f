package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// mapMany reads a delivery with a preset that is not strict. What it cannot read becomes a refused order of its own, so that
// the good alerts beside it are not lost; when nothing can be read, the delivery is a bad alert.
func (m *Mapping) mapMany(raw bridge.Alert, src *source) ([]bridge.Mapped, error) {
	if len(raw.Raw) > maxDelivery {
		return nil, fmt.Errorf("the delivery is larger than %d bytes", maxDelivery)
	}
	f, err := src.preset.format(raw.Raw)
	if err != nil {
		return nil, err
	}
	list, err := f.parts(raw.Raw)
	if err != nil {
		return nil, err
	}
	b := batch{m: m, src: src, origin: raw, out: make([]bridge.Mapped, 0, len(list)), single: len(list) == 1 && len(src.preset.each) == 0}
	b.scene = newScene(src.preset, src.trees, m.rawCount, m.location)
	b.scene.emit, b.scene.refuse = b.take, b.refuse
	for i := range list {
		p := &list[i]
		if p.err == nil {
			b.part = p.doc
			p.err = b.scene.read(f, p)
		}
		if errors.Is(p.err, errTooMany) {
			return nil, p.err
		}
		if p.err != nil {
			b.refuse(p.doc, p.err)
		}
	}
	if b.read == 0 && b.first != nil {
		return nil, b.first
	}
	return b.out, nil
}

// read reads one document in its format.
func (s *scene) read(f format, p *part) error {
	if f != formatJSON {
		pairs, err := f.pairs(p.doc)
		if err != nil {
			return err
		}
		return s.flat(p.doc, pairs)
	}
	if !p.checked {
		if err := bridge.CheckJSON(p.doc); err != nil {
			return err
		}
	}
	return s.object(0, p.doc)
}

// batch collects the alerts of one delivery.
type batch struct {
	m      *Mapping
	src    *source
	origin bridge.Alert
	scene  *scene
	// part is the document being read: what the preset can read again on its own.
	part []byte
	out  []bridge.Mapped
	view view
	// single says that the delivery can hold one alert only; otherwise taken are the ids so far.
	single bool
	taken  map[string]taken
	// read counts the documents that could be read, those that only left out with them; first is why the first bad one could not.
	read, count int
	first       error
}

// taken is an alert id of the delivery: the document it came with and how often it was asked for.
type taken struct {
	part, doc []byte
	times     int
}

// take makes an alert of one innermost document.
func (b *batch) take(doc []byte) error {
	if b.count++; b.count > maxAlerts {
		return errTooMany
	}
	wanted, err := b.scene.wanted()
	if err != nil {
		return err
	}
	b.read++
	if !wanted {
		return nil
	}
	b.out = append(b.out, bridge.Mapped{})
	one := &b.out[len(b.out)-1]
	a := &one.Alert
	a.Source, a.Preset, a.Received, a.Raw = b.origin.Source, b.src.preset.name, b.origin.Received, b.part
	b.scene.alert(a, doc)
	if a.Host == "" {
		a.Host = b.src.Host
	}
	if !b.unique(a, doc) {
		b.out = b.out[:len(b.out)-1]
		return nil
	}
	b.view = view{alert: a, raw: b.scene.raw}
	b.m.apply(one, &b.view, b.src)
	return nil
}

// unique gives the alert an id no other alert of the delivery has: "#2" behind the second with the same id, and so on. It is
// false when the same document came twice.
func (b *batch) unique(a *bridge.Alert, doc []byte) bool {
	if b.single {
		return true
	}
	if b.taken == nil {
		b.taken = make(map[string]taken, cap(b.out))
	}
	own := a.ID
	first, ok := b.taken[own]
	if ok && bytes.Equal(first.doc, doc) && bytes.Equal(first.part, b.part) {
		return false
	}
	for ; ok; _, ok = b.taken[a.ID] {
		first.times++
		b.taken[own] = first
		a.ID = own + "#" + strconv.Itoa(first.times)
	}
	b.taken[a.ID] = taken{part: b.part, doc: doc, times: 1}
	return true
}

// refuse notes a document that cannot be read as an order that was refused: stored and audited with its bytes.
func (b *batch) refuse(doc []byte, err error) {
	if b.first == nil {
		b.first = err
	}
	a := bridge.Alert{Source: b.origin.Source, Preset: b.src.preset.name, Received: b.origin.Received, Raw: doc}
	a.ID = documentID(doc)
	if !b.unique(&a, doc) {
		return
	}
	b.out = append(b.out, bridge.Mapped{Alert: a, Refused: []bridge.Order{{
		ID: digest("o", a.Source, a.ID, "unreadable"), AlertID: a.ID, Source: a.Source, State: bridge.StateRefused,
		Reason: bridge.ReasonInvalid, Detail: fmt.Sprintf("the document cannot be read: preset %s: %v", b.src.preset.name, err),
	}}})
}
