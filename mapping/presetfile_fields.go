package mapping

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/edr-bridge/edr-bridge/bridge"
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
func (l *presetLoader) fields(n ast.Node) {
	entries, ok := l.entries(n, keyFields, nil)
	if !ok {
		return
	}
	for _, e := range entries {
		index := fieldNamed(e.key)
		raw := l.preset.strict && strings.HasPrefix(e.key, rawPrefix)
		switch {
		case index == fieldSource || index == fieldPreset:
			l.failAt(e.token, "%s is set by the bridge, not by a preset", e.key)
			continue
		case index < 0 && !raw && (l.preset.strict || e.key != keyHashes):
			l.failAt(e.token, "unknown field %q%s", e.key, bridge.DidYouMean(e.key, append(presetFieldNames(), keyHashes)))
			continue
		}
		items, ok := l.items(e.value, e.key)
		if !ok {
			continue
		}
		if len(items) == 0 || len(items) > maxCandidates {
			l.fail(e.value, "%s must have 1 to %d places to look at", e.key, maxCandidates)
			continue
		}
		l.field(e.key, index, items)
	}
}

// presetFieldNames lists the fields a preset can give.
func presetFieldNames() []string {
	return slices.DeleteFunc(fieldNames(), func(s string) bool { return s == "source" || s == keyPreset })
}

func (l *presetLoader) field(name string, index int, items []ast.Node) {
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
func (l *presetLoader) candidate(name string, k kind, n ast.Node) (candidate, bool) {
	before := len(l.problems)
	var c candidate
	given := map[string]entry{}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		entries, _ := l.entries(n, "a place of "+name, candidateKeys)
		for _, e := range entries {
			given[e.key] = e
		}
	default:
		given[keyPath] = entry{key: keyPath, token: tokenOf(n), value: n}
	}
	l.parts(n, given, &c)
	for _, key := range []string{keyAs, keyLevels, keyInto, keyWhen, keyUnless, keyNote} {
		e, ok := given[key]
		if !ok {
			continue
		}
		switch key {
		case keyAs:
			c.forms = l.forms(e.value, name, k)
		case keyLevels:
			c.levels = l.levels(e, k)
		case keyInto:
			c.intoFile = l.into(e, name)
		case keyWhen:
			c.when = l.filters(e.value, keyWhen)
		case keyUnless:
			c.unless = l.filters(e.value, keyUnless)
		case keyNote:
			c.note, _ = l.text(e.value, keyNote)
		}
	}
	if _, ok := given[keyInto]; !ok && name == keyHashes {
		l.fail(n, "hashes must say whose they are: into: process, or into: file")
	}
	c.forms = c.forms.orDefault(k)
	return c, len(l.problems) == before
}

func (l *presetLoader) parts(n ast.Node, given map[string]entry, c *candidate) {
	path, one := given[keyPath]
	join, several := given[keyJoin]
	with, glued := given[keyWith]
	if one == several {
		l.fail(n, "write path, or join with a list of paths")
		return
	}
	if several != glued {
		l.fail(n, "join and with stand together: with is what is put between the parts")
		return
	}
	var shown []string
	if one {
		text, ok := l.text(path.value, keyPath)
		if !ok {
			return
		}
		shown = []string{text}
	} else {
		shown = l.words(join.value, keyJoin)
		c.glue, _ = l.text(with.value, keyWith)
		if len(shown) < 2 {
			l.fail(join.value, "join takes two paths or more")
		}
	}
	for _, s := range shown {
		if p, ok := l.place(n, s); ok {
			c.parts = append(c.parts, p)
		}
	}
}

func (l *presetLoader) forms(n ast.Node, name string, k kind) forms {
	var f forms
	fitting := formsOf(k)
	if name == keyHashes {
		fitting = []string{"first"}
	}
	for _, word := range l.words(n, keyAs) {
		if !slices.Contains(fitting, word) {
			l.fail(n, "%s cannot be read as %q%s: want %s", name, word, strings.TrimSuffix(bridge.DidYouMean(word, fitting), "?"), strings.Join(fitting, ", "))
			continue
		}
		for _, w := range formWords() {
			if w.word == word {
				f |= w.form
			}
		}
	}
	if e := f & formEpochs; e&(e-1) != 0 {
		l.fail(n, "a number can be a time in one unit only: write one of the epoch forms")
	}
	if f.has(formNaiveLocal) && f.has(formNaiveUTC) {
		l.fail(n, "naive-local and naive-utc cannot stand together")
	}
	return f
}

func (l *presetLoader) into(e entry, name string) (file bool) {
	word, ok := l.text(e.value, keyInto)
	if ok && name != keyHashes {
		l.failAt(e.token, "into is for hashes, not for %s", name)
	}
	if ok && word != intoProcess && word != intoFile {
		l.fail(e.value, "unknown %q: want %s or %s", word, intoProcess, intoFile)
	}
	return word == intoFile
}

// levels compiles a table of severities.
func (l *presetLoader) levels(e entry, k kind) levelTable {
	if k != kindLevel {
		l.failAt(e.token, "levels is for the field level")
		return nil
	}
	entries, _ := l.entries(e.value, keyLevels, levelNames)
	table := levelTable{}
	for _, row := range entries {
		items := []ast.Node{row.value}
		if s, ok := row.value.(*ast.SequenceNode); ok {
			items = s.Values
		}
		for _, item := range items {
			text, ok := literal(item)
			r, fits := levelRowOf(row.key, text)
			if !ok || !fits {
				l.fail(item, "%s must be a number, a range like 5-9, or a word of the product", row.key)
				continue
			}
			table = append(table, r)
		}
	}
	return table
}

// filters compiles conditions: places with the values that fit, null for absent.
func (l *presetLoader) filters(n ast.Node, what string) []filter {
	entries, _ := l.entries(n, what, nil)
	var list []filter
	for _, e := range entries {
		p, ok := l.place(&ast.StringNode{Token: e.token, Value: e.key}, e.key)
		if !ok {
			continue
		}
		f := filter{place: p}
		items := []ast.Node{e.value}
		if s, ok := e.value.(*ast.SequenceNode); ok {
			items = s.Values
		}
		if len(items) == 0 {
			l.fail(e.value, "%s is an empty list, which never fits", e.key)
		}
		for _, item := range items {
			if _, null := item.(*ast.NullNode); null || item == nil {
				f.absent = true
				continue
			}
			text, ok := literal(item)
			if !ok || text == "" {
				l.fail(item, "%s must be compared with text, a number, true, false or null (absent)", e.key)
				continue
			}
			f.words = append(f.words, []byte(text))
		}
		list = append(list, f)
	}
	return list
}

// literal returns a scalar as documents write it.
func literal(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode:
		return fmt.Sprint(s.Value), true
	case *ast.FloatNode:
		return tokenOf(n).Value, true
	case *ast.BoolNode:
		return fmt.Sprint(s.Value), true
	default:
		return "", false
	}
}

// row compiles a place of a strict preset, which is plain: the kind of the field says what may stand there.
func (l *presetLoader) row(name string, index int, n ast.Node) {
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
		l.fail(n, "a strict preset takes plain places: only note, and for the time as: [naive-local], may stand beside path")
		return
	case index < 0 && name != rawPrefix+rw.Path:
		l.fail(n, "%s is checked and left to rules: its only place is %s", name, strings.TrimPrefix(name, rawPrefix))
		return
	case slices.ContainsFunc(p.rows, func(other row) bool { return other.Path == rw.Path }):
		l.fail(n, "%s is read twice", rw.Path)
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
