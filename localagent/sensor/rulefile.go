package sensor

import (
	"cmp"
	_ "embed" // the built-in rules
	"fmt"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/yamltree"
)

// fileVersion is what version: must say in a rule file.
const fileVersion = "1"

//go:embed rules.yaml
var defaultRules []byte

// DefaultRulesFile returns the built-in rules as the YAML text people may start from.
func DefaultRulesFile() []byte { return slices.Clone(defaultRules) }

// DefaultRules returns the built-in rules.
func DefaultRules() ([]Rule, error) { return ParseRules("built-in rules", defaultRules) }

// RulesError holds everything that is wrong with a rule file.
type RulesError struct {
	// File is the name given to ParseRules.
	File string
	// Problems are ordered by their places; there is at least one.
	Problems []yamltree.Problem
}

// Error returns one line "file:line:column: message" a problem.
func (e *RulesError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d:%d: %s", e.File, p.Line, p.Column, p.Message)
	}
	return b.String()
}

// ParseRules reads a rule file of at most 1 MiB, in the form DefaultRulesFile shows. name is how errors call it. The error is a
// *RulesError with every problem that could be found.
func ParseRules(name string, data []byte) ([]Rule, error) {
	f := &ruleFile{}
	rules := f.read(data)
	if len(f.Problems) > 0 {
		return nil, &RulesError{File: name, Problems: f.Sorted()}
	}
	return rules, nil
}

// ruleFile is a rule file being read.
type ruleFile struct{ yamltree.File }

func (f *ruleFile) read(data []byte) []Rule {
	root := f.Parse(data)
	if root == nil {
		if len(f.Problems) == 0 {
			f.Fail(nil, "the file is empty: write version: %s and rules", fileVersion)
		}
		return nil
	}
	keys, ok := f.keys(root, "the file", []string{"version", "rules"})
	if !ok {
		return nil
	}
	if v := cmp.Or(keys["version"], root); v.Written != fileVersion {
		f.Fail(v, "version: must be %s", fileVersion)
	}
	list := keys["rules"]
	if list == nil {
		f.Fail(root, "rules: required")
		return nil
	}
	items, _ := f.Items(list, "rules")
	if len(items) > maxRules {
		f.Fail(list, "%d rules are too many, the limit is %d", len(items), maxRules)
		return nil
	}
	var rules []Rule
	names := map[string]int{}
	for _, n := range items {
		r, ok := f.rule(n)
		if !ok {
			continue
		}
		if line, given := names[r.Name]; given {
			f.Fail(n, "name: rule %q is already in line %d", r.Name, line)
		}
		names[r.Name] = n.Place.Line
		rules = append(rules, r)
	}
	return rules
}

// rule reads one rule; false when it is none.
func (f *ruleFile) rule(n *yamltree.Node) (Rule, bool) {
	before := len(f.Problems)
	keys, ok := f.keys(n, "a rule", []string{"name", "level", "title", "parents", "children", "cmdline", "parent_cmdline", "unseen", "except"})
	if !ok {
		return Rule{}, false
	}
	r := Rule{
		Name: f.text(keys["name"], "name"), Level: strings.ToUpper(f.text(keys["level"], "level")), Title: f.text(keys["title"], "title"),
		Parents: f.words(keys["parents"], "parents"), Children: f.words(keys["children"], "children"),
		CommandLine: f.words(keys["cmdline"], "cmdline"), ParentCommandLine: f.words(keys["parent_cmdline"], "parent_cmdline"),
	}
	if v := keys["unseen"]; v != nil {
		unseen, ok := f.Bool(v, "unseen")
		r.IgnoreUnseen = ok && !unseen
	}
	for _, e := range f.items(keys["except"], "except") {
		fields, ok := f.keys(e, "an exception", []string{"parents", "children", "cmdline", "parent_cmdline"})
		if !ok {
			continue
		}
		r.Except = append(r.Except, Exception{
			Parents: f.words(fields["parents"], "parents"), Children: f.words(fields["children"], "children"),
			CommandLine: f.words(fields["cmdline"], "cmdline"), ParentCommandLine: f.words(fields["parent_cmdline"], "parent_cmdline"),
		})
	}
	if len(f.Problems) > before {
		return r, true
	}
	if _, err := r.compile(); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			key, _, _ := strings.Cut(line, ":")
			key, _, _ = strings.Cut(key, "[")
			f.Fail(cmp.Or(keys[key], n), "%s", line)
		}
	}
	return r, true
}

// keys returns the values of a mapping by their keys.
func (f *ruleFile) keys(n *yamltree.Node, what string, known []string) (map[string]*yamltree.Node, bool) {
	entries, ok := f.Entries(n, what, known)
	keys := make(map[string]*yamltree.Node, len(entries))
	for _, e := range entries {
		keys[e.Key] = e.Value
	}
	return keys, ok
}

// items returns the elements of a list; nothing given is an empty one.
func (f *ruleFile) items(n *yamltree.Node, what string) []*yamltree.Node {
	if n == nil {
		return nil
	}
	items, _ := f.Items(n, what)
	return items
}

func (f *ruleFile) words(n *yamltree.Node, what string) []string {
	var words []string
	for _, e := range f.items(n, what) {
		words = append(words, f.text(e, what))
	}
	return words
}

// text returns a text; nothing given is "".
func (f *ruleFile) text(n *yamltree.Node, what string) string {
	if n == nil {
		return ""
	}
	text, _ := f.Text(n, what)
	return text
}
