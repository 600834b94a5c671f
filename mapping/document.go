package mapping

import (
	"strings"

	"github.com/edr-bridge/edr-bridge/yamltree"
)

// document is one YAML file being read: it collects problems with their places.
type document struct {
	name string
	yamltree.File
	lines []string
}

func newDocument(f RuleFile) *document {
	return &document{name: f.Name, lines: strings.Split(yamltree.Lines(f.Data), "\n")}
}

// shown returns the problems, ordered, with excerpts.
func (d *document) shown() []Problem {
	var list []Problem
	for _, p := range d.Sorted() {
		list = append(list, Problem{
			File: d.name, Line: p.Line, Column: p.Column,
			Message: p.Message, Excerpt: excerptOf(d.lines, p.Line, p.Column),
		})
	}
	return list
}
