package mapping

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/yamltree"
)

const (
	keyPath   = "path"
	keyJoin   = "join"
	keyWith   = "with"
	keyAs     = "as"
	keyLevels = "levels"
	keyUnless = "unless"
	keyInto   = "into"
	keyNote   = "note"

	// keyHashes is the field of candidates that hold several digests in one text.
	keyHashes = "hashes"

	intoProcess = "process"
	intoFile    = "file"
)

var (
	candidateKeys = []string{keyPath, keyJoin, keyWith, keyAs, keyLevels, keyWhen, keyUnless, keyInto, keyNote}
	levelNames    = []string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}
)

// fields compiles where the fields of the alert come from.
func (l *presetLoader) fields(n *yamltree.Node) {
	entries, ok := l.Entries(n, keyFields, nil)
	if !ok {
		return
	}
	for _, e := range entries {
		index := fieldNamed(e.Key)
		raw := l.preset.strict && strings.HasPrefix(e.Key, rawPrefix)
		switch {
		case index == fieldSource || index == fieldPreset:
			l.FailAt(e.Place, "%s is set by the bridge, not by a preset", e.Key)
			continue
		case index < 0 && !raw && (l.preset.strict || e.Key != keyHashes):
			l.FailAt(e.Place, "unknown field %q%s", e.Key, bridge.DidYouMean(e.Key, append(presetFieldNames(), keyHashes)))
			continue
		}
		items, ok := l.Items(e.Value, e.Key)
		if !ok {
			continue
		}
		if len(items) == 0 || len(items) > maxCandidates {
			l.Fail(e.Value, "%s must have 1 to %d places to look at", e.Key, maxCandidates)
			continue
		}
		l.field(e.Key, index, items)
	}
}

// presetFieldNames lists the fields a preset can give.
func presetFieldNames() []string {
	return slices.DeleteFunc(fieldNames(), func(s string) bool { return s == "source" || s == keyPreset })
}

func (l *presetLoader) field(name string, index int, items []*yamltree.Node) {
	k := kindText // what a hashes candidate holds
	if index >= 0 {
		k = alertFields[index].kind
	}
	var list []candidate
	for _, item := range items {
		if l.preset.strict {
			l.row(name, index, item)
			continue
		}
		if c, ok := l.candidate(name, k, item); ok {
			list = append(list, c)
		}
	}
	switch {
	case l.preset.strict:
	case name == keyHashes:
		l.preset.hashes = list
	default:
		l.preset.findings = append(l.preset.findings, finding{field: index, candidates: list})
	}
}

// candidate compiles a path alone or a mapping.
func (l *presetLoader) candidate(name string, k kind, n *yamltree.Node) (candidate, bool) {
	before := len(l.Problems)
	var c candidate
	given := map[string]yamltree.Entry{}
	if n.Kind == yamltree.Map {
		entries, _ := l.Entries(n, "a place of "+name, candidateKeys)
		for _, e := range entries {
			given[e.Key] = e
		}
	} else {
		given[keyPath] = yamltree.Entry{Key: keyPath, Place: n.Place, Value: n}
	}
	l.parts(n, given, &c)
	for _, key := range []string{keyAs, keyLevels, keyInto, keyWhen, keyUnless, keyNote} {
		e, ok := given[key]
		if !ok {
			continue
		}
		switch key {
		case keyAs:
			c.forms = l.forms(e.Value, name, k)
		case keyLevels:
			c.levels = l.levels(e, k)
		case keyInto:
			c.intoFile = l.into(e, name)
		case keyWhen:
			c.when = l.filters(e.Value, keyWhen)
		case keyUnless:
			c.unless = l.filters(e.Value, keyUnless)
		case keyNote:
			c.note, _ = l.Text(e.Value, keyNote)
		}
	}
	if _, ok := given[keyInto]; !ok && name == keyHashes {
		l.Fail(n, "hashes must say whose they are: into: process, or into: file")
	}
	c.forms = c.forms.orDefault(k)
	return c, len(l.Problems) == before
}

func (l *presetLoader) parts(n *yamltree.Node, given map[string]yamltree.Entry, c *candidate) {
	path, one := given[keyPath]
	join, several := given[keyJoin]
	with, glued := given[keyWith]
	if one == several {
		l.Fail(n, "write path, or join with a list of paths")
		return
	}
	if several != glued {
		l.Fail(n, "join and with stand together: with is what is put between the parts")
		return
	}
	var shown []string
	if one {
		text, ok := l.Text(path.Value, keyPath)
		if !ok {
			return
		}
		shown = []string{text}
	} else {
		shown = l.words(join.Value, keyJoin)
		c.glue, _ = l.Text(with.Value, keyWith)
		if len(shown) < 2 {
			l.Fail(join.Value, "join takes two paths or more")
		}
	}
	for _, s := range shown {
		if p, ok := l.place(n, s); ok {
			c.parts = append(c.parts, p)
		}
	}
}

func (l *presetLoader) forms(n *yamltree.Node, name string, k kind) forms {
	var f forms
	fitting := formsOf(k)
	if name == keyHashes {
		fitting = []string{"first"}
	}
	for _, word := range l.words(n, keyAs) {
		if !slices.Contains(fitting, word) {
			l.Fail(n, "%s cannot be read as %q%s: want %s", name, word, strings.TrimSuffix(bridge.DidYouMean(word, fitting), "?"), strings.Join(fitting, ", "))
			continue
		}
		for _, w := range formWords() {
			if w.word == word {
				f |= w.form
			}
		}
	}
	if e := f & formEpochs; e&(e-1) != 0 {
		l.Fail(n, "a number can be a time in one unit only: write one of the epoch forms")
	}
	if f.has(formNaiveLocal) && f.has(formNaiveUTC) {
		l.Fail(n, "naive-local and naive-utc cannot stand together")
	}
	return f
}

func (l *presetLoader) into(e yamltree.Entry, name string) (file bool) {
	word, ok := l.Text(e.Value, keyInto)
	if ok && name != keyHashes {
		l.FailAt(e.Place, "into is for hashes, not for %s", name)
	}
	if ok && word != intoProcess && word != intoFile {
		l.Fail(e.Value, "unknown %q: want %s or %s", word, intoProcess, intoFile)
	}
	return word == intoFile
}

// levels compiles a table of severities.
func (l *presetLoader) levels(e yamltree.Entry, k kind) levelTable {
	if k != kindLevel {
		l.FailAt(e.Place, "levels is for the field level")
		return nil
	}
	entries, _ := l.Entries(e.Value, keyLevels, levelNames)
	table := levelTable{}
	for _, row := range entries {
		for _, item := range yamltree.ItemsOrOne(row.Value) {
			text, ok := literal(item)
			r, fits := levelRowOf(row.Key, text)
			if !ok || !fits {
				l.Fail(item, "%s must be a number, a range like 5-9, or a word of the product", row.Key)
				continue
			}
			table = append(table, r)
		}
	}
	return table
}

// filters compiles conditions: places with the values that fit, null for absent.
func (l *presetLoader) filters(n *yamltree.Node, what string) []filter {
	entries, _ := l.Entries(n, what, nil)
	var list []filter
	for _, e := range entries {
		p, ok := l.place(yamltree.TextNode(e.Place, e.Key), e.Key)
		if !ok {
			continue
		}
		f := filter{place: p}
		items := yamltree.ItemsOrOne(e.Value)
		if len(items) == 0 {
			l.Fail(e.Value, "%s is an empty list, which never fits", e.Key)
		}
		for _, item := range items {
			if item.Kind == yamltree.Null {
				f.absent = true
				continue
			}
			text, ok := literal(item)
			if !ok || text == "" {
				l.Fail(item, "%s must be compared with text, a number, true, false or null (absent)", e.Key)
				continue
			}
			f.words = append(f.words, []byte(text))
		}
		list = append(list, f)
	}
	return list
}

// literal returns a scalar as documents write it.
func literal(n *yamltree.Node) (string, bool) {
	switch n.Kind {
	case yamltree.Float:
		return n.Written, true
	case yamltree.Text, yamltree.Integer, yamltree.Bool:
		return fmt.Sprint(n.Value), true
	default:
		return "", false
	}
}

// row compiles a place of a strict preset, which is plain: the kind of the field says what may stand there.
func (l *presetLoader) row(name string, index int, n *yamltree.Node) {
	c, ok := l.candidate(name, l.rowKind(index), n)
	if !ok {
		return
	}
	p := l.preset
	rw := row{Path: c.parts[0].path, Field: name, Note: c.note, field: index}
	naive := c.forms.has(formNaiveLocal)
	switch {
	case len(c.parts) > 1, c.levels != nil, c.when != nil, c.unless != nil,
		c.forms&^formNaiveLocal != forms(0).orDefault(l.rowKind(index)):
		l.Fail(n, "a strict preset takes plain places: only note, and for the time as: [naive-local], may stand beside path")
		return
	case index < 0 && name != rawPrefix+rw.Path:
		l.Fail(n, "%s is checked and left to rules: its only place is %s", name, strings.TrimPrefix(name, rawPrefix))
		return
	case slices.ContainsFunc(p.rows, func(other row) bool { return other.Path == rw.Path }):
		l.Fail(n, "%s is read twice", rw.Path)
		return
	case index < 0:
		rw.Field = ""
	}
	p.naive = p.naive || naive
	p.rows = append(p.rows, rw)
}

// rowKind is the kind of a row; a place without a field holds a process id.
func (l *presetLoader) rowKind(index int) kind {
	if index < 0 {
		return kindPID
	}
	return alertFields[index].kind
}
