package mapping

import (
	"cmp"
	"slices"
	"strings"
)

// PresetInfo describes a preset for people.
type PresetInfo struct {
	// Name is the word used in settings, About one line of prose.
	Name, About string
	// File is where a preset of the user's stands; empty for the bridge's own.
	File string
	// Formats are the forms of documents it reads: json, cef, syslog, text.
	Formats []string
	// Strict says that a field given twice or of another type makes the document a bad alert; otherwise such a field is absent.
	Strict bool
	// Unwrap are places whose object is the document, Each the lists of which every element is an alert, outermost first.
	Unwrap, Each []string
	// Only is the condition under which a document is an alert at all, in words; empty = always.
	Only string
	// Empty are texts that count as absent.
	Empty []string
	// Fields are the places it reads: the candidates of a field stand together in the order in which they are tried.
	Fields []FieldInfo
	// Notes tell traps of the product's documents.
	Notes []string
}

// FieldInfo says where one fact of an alert comes from.
type FieldInfo struct {
	// Path is the place in the document, dots between the names of nested objects, ^. in front for the document around it; "a + b"
	// are places that are joined.
	Path string
	// Field is the alert field as rules name it; empty when the place is only checked.
	Field string
	// Type is one of text, id, level, time, pid, ticks, md5, sha256, address.
	Type string
	// As are the forms in which the value is taken, When the condition for looking there, in words; both may be empty.
	As   []string
	When string
	// Note tells limits and defaults, or is empty.
	Note string
}

// Presets describes the presets of the bridge, ordered by name. The result is the caller's.
func Presets() []PresetInfo {
	var infos []PresetInfo
	for _, name := range builtinNames() {
		p, err := builtinPreset(name)
		if err != nil || p == nil {
			continue // a test proves that the embedded files compile
		}
		info := p.info()
		info.File = ""
		infos = append(infos, info)
	}
	return infos
}

// Presets describes the presets of the bridge and those of Config.Presets, ordered by name. The result is the caller's.
func (m *Mapping) Presets() []PresetInfo {
	infos := Presets()
	own := builtinNames()
	for name, p := range m.presets {
		if !slices.Contains(own, name) {
			infos = append(infos, p.info())
		}
	}
	slices.SortFunc(infos, func(a, b PresetInfo) int { return cmp.Compare(a.Name, b.Name) })
	return infos
}

// String returns the word used for the kind in documentation.
func (k kind) String() string {
	words := [...]string{"none", "text", "id", "level", "time", "pid", "ticks", "md5", "sha256", "address", "raw"}
	if k < 0 || int(k) >= len(words) {
		return "none"
	}
	return words[k]
}

func (p *preset) info() PresetInfo {
	info := PresetInfo{Name: p.name, About: p.about, File: p.file, Strict: p.strict, Only: filterWords(p.only, true), Notes: slices.Clone(p.notes)}
	for _, f := range p.formats {
		info.Formats = append(info.Formats, string(f))
	}
	for _, at := range p.unwrap {
		info.Unwrap = append(info.Unwrap, at.path)
	}
	for _, at := range p.each {
		info.Each = append(info.Each, at.path)
	}
	for _, w := range p.empty {
		info.Empty = append(info.Empty, string(w))
	}
	for _, r := range p.rows {
		k := kindPID
		if r.Field != "" {
			k = alertFields[r.field].kind
		}
		info.Fields = append(info.Fields, FieldInfo{Path: r.Path, Field: r.Field, Type: k.String(), Note: r.Note})
	}
	for i := range p.findings {
		f := &p.findings[i]
		field := &alertFields[f.field]
		for j := range f.candidates {
			info.Fields = append(info.Fields, f.candidates[j].info(field.name, field.kind.String()))
		}
	}
	for i := range p.hashes {
		c := &p.hashes[i]
		of := intoProcess
		if c.intoFile {
			of = intoFile
		}
		for _, k := range []kind{kindMD5, kindSHA256} {
			row := c.info(of+"."+k.String(), k.String())
			row.As = append([]string{"one of several digests"}, row.As[1:]...)
			info.Fields = append(info.Fields, row)
		}
	}
	return info
}

func (c *candidate) info(field, kindWord string) FieldInfo {
	paths := make([]string, 0, len(c.parts))
	for _, p := range c.parts {
		paths = append(paths, p.path)
	}
	info := FieldInfo{Path: strings.Join(paths, " + "), Field: field, Type: kindWord, Note: c.note}
	for _, w := range formWords() {
		if c.forms.has(w.form) {
			info.As = append(info.As, w.word)
		}
	}
	if c.levels != nil {
		info.As = []string{c.levels.String()}
	}
	var conditions []string
	for _, w := range []string{filterWords(c.when, true), filterWords(c.unless, false)} {
		if w != "" {
			conditions = append(conditions, w)
		}
	}
	info.When = strings.Join(conditions, "; ")
	return info
}

// filterWords says what must hold: every filter fits, or none does.
func filterWords(list []filter, fit bool) string {
	var all []string
	for i := range list {
		f := &list[i]
		var words []string
		for _, w := range f.words {
			words = append(words, string(w))
		}
		if f.absent {
			words = append(words, "absent")
		}
		is := " is "
		if !fit {
			is = " is not "
		}
		all = append(all, f.place.path+is+strings.Join(words, " or "))
	}
	return strings.Join(all, " and ")
}
