package mapping

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// builtin holds the presets that come with the bridge, a file each.
//
//go:embed presets/*.yaml
var builtin embed.FS

const builtinFolder = "presets"

// row says where a strict preset finds one fact of an alert.
type row struct {
	// Path is the place in the document, dots between the names of nested objects.
	Path string
	// Field is the alert field it becomes; empty for a place that is checked and left to raw.<path>.
	Field string
	Note  string

	field int
}

// preset is the reading of one product's documents. It never changes once it is compiled.
type preset struct {
	name, about, file string
	notes             []string
	formats           []format
	// strict presets read one JSON object by rows; a field that is given twice or has another type is an error.
	strict bool
	rows   []row
	// naive says that a time of a strict preset without zone is a wall clock of this machine's zone.
	naive bool

	// layers are the documents inside one another that other presets read; unwrap and each lead from one to the next.
	layers       []layer
	unwrap, each []place
	only         []filter
	// empty are texts that say nothing, such as "-".
	empty    [][]byte
	findings []finding
	hashes   []candidate
}

// first is the layer of the document itself.
func (p *preset) first() int {
	if len(p.unwrap) > 0 {
		return 1
	}
	return 0
}

// format returns the format of a delivery, if the preset reads it.
func (p *preset) format(doc []byte) (format, error) {
	f := formatOf(doc)
	if slices.Contains(p.formats, f) {
		return f, nil
	}
	words := make([]string, 0, len(p.formats))
	for _, f := range p.formats {
		words = append(words, string(f))
	}
	return "", fmt.Errorf("must be %s, begins with %s", strings.Join(words, " or "), excerpt(doc[:min(len(doc), 8)]))
}

// builtinPreset compiles one of the bridge's own presets; nil for an unknown name.
func builtinPreset(name string) (*preset, error) {
	file := path.Join(builtinFolder, name+".yaml")
	data, err := builtin.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, problems := loadPreset(PresetFile{Name: file, Data: data})
	if len(problems) > 0 {
		return nil, &LoadError{Problems: problems}
	}
	return p, nil
}

// builtinNames lists the bridge's own presets, ordered by name.
func builtinNames() []string {
	entries, err := builtin.ReadDir(builtinFolder)
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// shelf is the presets a Mapping may use: the user's, and the bridge's own, which are compiled when a source asks for them.
type shelf map[string]*preset

// newShelf compiles the user's presets and returns their problems.
func newShelf(files []PresetFile) (shelf, []Problem) {
	s := shelf{}
	var problems []Problem
	for _, f := range files {
		p, found := loadPreset(f)
		problems = append(problems, found...)
		taken := ""
		switch {
		case p.name == "":
			continue
		case s[p.name] != nil:
			taken = "the preset in " + s[p.name].file
		case slices.Contains(builtinNames(), p.name):
			taken = "a preset of the bridge: choose another name"
		}
		if taken != "" {
			problems = append(problems, Problem{File: f.Name, Line: 1, Column: 1, Message: fmt.Sprintf("preset name %q is taken by %s", p.name, taken)})
			continue
		}
		s[p.name] = p
	}
	return s, problems
}

// preset returns the preset with that name; the error names near ones.
func (s shelf) preset(name string) (*preset, error) {
	if p := s[name]; p != nil {
		return p, nil
	}
	p, err := builtinPreset(name)
	if err != nil {
		return nil, err
	}
	if p == nil {
		names := builtinNames()
		for own := range s {
			names = append(names, own)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("unknown preset %q%s", name, bridge.DidYouMean(name, names))
	}
	s[name] = p
	return p, nil
}

// derive fills in what follows from other facts by definition.
func derive(a *bridge.Alert) {
	if a.Process.Name == "" && a.Process.Path != "" {
		a.Process.Name = bridge.BaseName(a.Process.Path)
	}
	if a.Process.ParentName == "" && a.Process.ParentPath != "" {
		a.Process.ParentName = bridge.BaseName(a.Process.ParentPath)
	}
}
