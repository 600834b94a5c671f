package ioc

import (
	"cmp"
	"slices"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// targets gathers the files of all matches, each path once.
type targets struct {
	list []Target
	at   map[targetKey]int
}

type targetKey struct {
	id   files.ID
	path Text
}

func newTargets() *targets { return &targets{at: map[targetKey]int{}} }

// add notes that the file takes part in a match of the document; nil is no file.
func (t *targets) add(f *Target, document Text) {
	if f == nil {
		return
	}
	key := targetKey{f.Identity(), f.Path}
	i, known := t.at[key]
	if !known {
		i = len(t.list)
		t.at[key] = i
		t.list = append(t.list, *f)
	}
	if !slices.Contains(t.list[i].Documents, document) {
		t.list[i].Documents = append(t.list[i].Documents, document)
	}
}

// sortSkipped puts the most frequent reason first.
func sortSkipped(s []Skipped) {
	slices.SortFunc(s, func(a, b Skipped) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Why, b.Why)) })
}
