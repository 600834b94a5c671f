package mapping

import (
	"slices"
	"strings"
	"unicode"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/yamltree"
)

// PresetFile is one preset of the user's, already read.
type PresetFile struct {
	// Name is the path as it is shown to people, Data the YAML text of at most 1 MiB.
	Name string
	Data []byte
}

const (
	keyPreset = "preset"
	keyAbout  = "about"
	keyNotes  = "notes"
	keyFormat = "format"
	keyStrict = "strict"
	keyUnwrap = "unwrap"
	keyEach   = "each"
	keyOnly   = "only"
	keyEmpty  = "empty"
	keyFields = "fields"

	// outwards in front of a path leads to the document around.
	outwards = "^."

	maxPlace      = 200 // characters of a path
	maxEach       = 4   // lists inside lists
	maxCandidates = 32  // of one field
)

var presetKeys = []string{keyPreset, keyAbout, keyNotes, keyFormat, keyStrict, keyUnwrap, keyEach, keyOnly, keyEmpty, keyFields}

// presetLoader compiles one preset file.
type presetLoader struct {
	*document
	preset *preset
}

// loadPreset compiles a preset file and returns its problems; with problems the preset is of no use.
func loadPreset(f PresetFile) (*preset, []Problem) {
	l := &presetLoader{document: newDocument(RuleFile(f)), preset: &preset{file: f.Name}}
	root := l.Parse(f.Data)
	switch {
	case root != nil:
		l.file(root)
	case len(l.Problems) == 0:
		l.Fail(nil, "the file is empty: write preset, about, format and fields")
	}
	return l.preset, l.shown()
}

func (l *presetLoader) file(root *yamltree.Node) {
	entries, ok := l.Entries(root, "a preset", presetKeys)
	if !ok {
		return
	}
	given := map[string]yamltree.Entry{}
	for _, e := range entries {
		given[e.Key] = e
	}
	for _, key := range []string{keyPreset, keyAbout, keyFormat, keyFields} {
		if _, ok := given[key]; !ok {
			l.Fail(root, "the preset has no %s", key)
		}
	}
	p := l.preset
	// Strictness and layers come first, wherever they stand: the meaning of every path depends on them.
	for _, key := range []string{keyPreset, keyAbout, keyNotes, keyFormat, keyStrict, keyUnwrap, keyEach, keyEmpty, keyOnly, keyFields} {
		e, ok := given[key]
		if !ok {
			continue
		}
		if p.strict && slices.Contains([]string{keyUnwrap, keyEach, keyOnly, keyEmpty}, key) {
			l.FailAt(e.Place, "a strict preset reads one whole document and has no %s", key)
			continue
		}
		switch key {
		case keyPreset:
			if p.name, ok = l.Text(e.Value, keyPreset); ok && !isRuleName(p.name) {
				l.Fail(e.Value, "preset %q must be 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first", p.name)
			}
		case keyAbout:
			p.about, _ = l.Text(e.Value, keyAbout)
		case keyNotes:
			p.notes = l.words(e.Value, keyNotes)
		case keyFormat:
			p.formats = l.formats(e.Value)
		case keyStrict:
			p.strict, _ = l.Bool(e.Value, keyStrict)
		case keyUnwrap:
			l.unwrap(e.Value)
		case keyEach:
			l.each(e.Value)
		case keyEmpty:
			for _, w := range l.words(e.Value, keyEmpty) {
				p.empty = append(p.empty, []byte(w))
			}
		case keyOnly:
			l.grow()
			p.only = l.filters(e.Value, keyOnly)
		case keyFields:
			l.grow()
			l.fields(e.Value)
		}
	}
	if p.strict && !slices.Equal(p.formats, []format{formatJSON}) {
		l.FailAt(given[keyStrict].Place, "a strict preset reads json and nothing else")
	}
	if json := slices.Contains(p.formats, formatJSON); !json && (len(p.unwrap) > 0 || len(p.each) > 0) {
		l.FailAt(given[keyFormat].Place, "unwrap and each are for json")
	}
}

// grow makes sure that the innermost document has its layer.
func (l *presetLoader) grow() {
	p := l.preset
	for len(p.layers) <= p.first()+len(p.each) {
		p.layers = append(p.layers, layer{})
	}
}

func (l *presetLoader) formats(n *yamltree.Node) []format {
	var list []format
	for _, w := range l.words(n, keyFormat) {
		f := format(w)
		if !slices.Contains(formatNames(), w) {
			l.Fail(n, "unknown format %q%s: want %s", w, strings.TrimSuffix(bridge.DidYouMean(w, formatNames()), "?"), strings.Join(formatNames(), ", "))
			continue
		}
		list = append(list, f)
	}
	return list
}

func (l *presetLoader) unwrap(n *yamltree.Node) {
	p := l.preset
	p.layers = append(p.layers, layer{})
	for _, path := range l.words(n, keyUnwrap) {
		if l.isPlace(n, path) {
			p.unwrap = append(p.unwrap, p.layers[0].at(0, path, path))
		}
	}
}

func (l *presetLoader) each(n *yamltree.Node) {
	p := l.preset
	paths := l.words(n, keyEach)
	if len(paths) > maxEach {
		l.Fail(n, "each has more than %d lists inside one another", maxEach)
		return
	}
	for i, path := range paths {
		at := p.first() + i
		for len(p.layers) <= at {
			p.layers = append(p.layers, layer{})
		}
		if l.isPlace(n, path) {
			p.each = append(p.each, p.layers[at].at(at, path, path))
		}
	}
}

// words returns a text, or a list of texts.
func (l *presetLoader) words(n *yamltree.Node, what string) []string {
	if n.Kind != yamltree.List {
		if w, ok := l.Text(n, what); ok {
			return []string{w}
		}
		return nil
	}
	items, _ := l.Items(n, what)
	if len(items) == 0 {
		l.Fail(n, "%s is an empty list", what)
	}
	var words []string
	for _, item := range items {
		if w, ok := l.Text(item, "an element of "+what); ok {
			words = append(words, w)
		}
	}
	return words
}

// at returns the place of a path in the layer, making its slot if need be.
func (y *layer) at(index int, path, shown string) place {
	slot := slices.Index(y.paths, path)
	if slot < 0 {
		slot = len(y.paths)
		y.paths = append(y.paths, path)
	}
	return place{layer: index, slot: slot, path: shown}
}

// place resolves a path of the innermost document.
func (l *presetLoader) place(n *yamltree.Node, shown string) (place, bool) {
	p := l.preset
	path, at := shown, len(p.layers)-1
	for strings.HasPrefix(path, outwards) {
		path, at = path[len(outwards):], at-1
		if at < 0 {
			l.Fail(n, "%q goes further out than there are documents: unwrap and each make them", shown)
			return place{}, false
		}
	}
	if !l.isPlace(n, path) {
		return place{}, false
	}
	return p.layers[at].at(at, path, shown), true
}

func (l *presetLoader) isPlace(n *yamltree.Node, path string) bool {
	if path == "" || len(path) > maxPlace || strings.Count(path, ".") >= maxRawDepth || slices.Contains(strings.Split(path, "."), "") ||
		strings.HasPrefix(path, "^") || strings.ContainsFunc(path, unicode.IsControl) {
		l.Fail(n, "%q names no place in a document: write names with dots between them", path)
		return false
	}
	return true
}
