package sensor

import (
	"cmp"
	_ "embed" // the built-in rules
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxRuleFile = 1 << 20 // bytes
	maxNesting  = 16      // brackets and dashes open at once
	maxProblems = 50      // of one file; what follows the first dozens is noise
	fileVersion = 1
)

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
	Problems []Problem
}

// Problem is one mistake in a rule file.
type Problem struct {
	// Line and Column count from 1, columns in characters.
	Line, Column int
	Message      string
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
	if len(f.problems) > 0 {
		slices.SortStableFunc(f.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, &RulesError{File: name, Problems: f.problems}
	}
	return rules, nil
}

// ruleFile is a rule file being read.
type ruleFile struct {
	problems []Problem
}

func (f *ruleFile) fail(tk *token.Token, format string, args ...any) {
	if len(f.problems) >= maxProblems {
		return
	}
	p := Problem{Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}
	if tk != nil && tk.Position != nil {
		p.Line, p.Column = max(tk.Position.Line, 1), max(tk.Position.Column, 1)
	}
	f.problems = append(f.problems, p)
}

func (f *ruleFile) read(data []byte) []Rule {
	root := f.parse(data)
	if root == nil {
		if len(f.problems) == 0 {
			f.fail(nil, "the file is empty: write version: %d and rules", fileVersion)
		}
		return nil
	}
	keys := f.mapping(root, "the file", []string{"version", "rules"})
	if keys == nil {
		return nil
	}
	if v, ok := keys["version"]; !ok || v.String() != fmt.Sprint(fileVersion) {
		f.fail(place(root, v), "version: must be %d", fileVersion)
	}
	list, ok := keys["rules"]
	if !ok {
		f.fail(place(root, nil), "rules: required")
		return nil
	}
	var rules []Rule
	names := map[string]int{}
	for _, n := range f.list(list, "rules") {
		r, where := f.rule(n)
		if where == nil {
			continue
		}
		if line, given := names[r.Name]; given {
			f.fail(where, "name: rule %q is already in line %d", r.Name, line)
		}
		names[r.Name] = where.Position.Line
		rules = append(rules, r)
	}
	if len(rules) > maxRules {
		f.fail(place(list, nil), "%d rules are too many, the limit is %d", len(rules), maxRules)
	}
	return rules
}

// parse returns the root of the only document, or nil.
func (f *ruleFile) parse(data []byte) ast.Node {
	switch {
	case len(data) > maxRuleFile:
		f.fail(nil, "the file is larger than %d bytes", maxRuleFile)
		return nil
	case !utf8.Valid(data):
		f.fail(nil, "the file is not UTF-8 text")
		return nil
	}
	tokens := lexer.Tokenize(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data)))
	if tk := tooDeep(tokens); tk != nil {
		f.fail(tk, "nested more than %d levels deep", maxNesting)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if ye, ok := errors.AsType[yaml.Error](err); ok {
			f.fail(ye.GetToken(), "%s", ye.GetMessage())
		} else {
			f.fail(nil, "%v", err)
		}
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc == nil || doc.Body == nil:
		case root != nil:
			f.fail(doc.Body.GetToken(), "a second YAML document: put all rules under one rules:")
			return nil
		default:
			root = doc.Body
		}
	}
	return root
}

// tooDeep returns the token at which brackets, or dashes of one line, are nested too deep. The parser is recursive; this
// keeps its stack small.
func tooDeep(tokens token.Tokens) *token.Token {
	depth, dashes, line := 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			dashes, line = 0, tk.Position.Line
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.AnchorType, token.TagType:
			dashes++
		default:
			dashes = 0
		}
		if depth > maxNesting || dashes > maxNesting || tk.Position.IndentNum > 8*maxNesting {
			return tk
		}
	}
	return nil
}

// rule reads one rule; the token is where it begins, nil when it could not be read.
func (f *ruleFile) rule(n ast.Node) (Rule, *token.Token) {
	before := len(f.problems)
	keys := f.mapping(n, "a rule", []string{"name", "level", "title", "parents", "children", "cmdline", "parent_cmdline", "unseen", "except"})
	if keys == nil {
		return Rule{}, nil
	}
	r := Rule{
		Name: f.text(keys["name"], "name"), Level: strings.ToUpper(f.text(keys["level"], "level")), Title: f.text(keys["title"], "title"),
		Parents: f.words(keys["parents"], "parents"), Children: f.words(keys["children"], "children"),
		CommandLine: f.words(keys["cmdline"], "cmdline"), ParentCommandLine: f.words(keys["parent_cmdline"], "parent_cmdline"),
	}
	if v, ok := keys["unseen"]; ok {
		b, isBool := v.(*ast.BoolNode)
		if !isBool {
			f.fail(v.GetToken(), "unseen: must be true or false")
		} else {
			r.IgnoreUnseen = !b.Value
		}
	}
	for _, e := range f.list(keys["except"], "except") {
		fields := f.mapping(e, "an exception", []string{"parents", "children", "cmdline", "parent_cmdline"})
		if fields == nil {
			continue
		}
		r.Except = append(r.Except, Exception{
			Parents: f.words(fields["parents"], "parents"), Children: f.words(fields["children"], "children"),
			CommandLine: f.words(fields["cmdline"], "cmdline"), ParentCommandLine: f.words(fields["parent_cmdline"], "parent_cmdline"),
		})
	}
	where := place(n, nil)
	if len(f.problems) == before {
		if _, err := r.compile(); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				key, _, _ := strings.Cut(line, ":")
				key, _, _ = strings.Cut(key, "[")
				f.fail(place(n, keys[key]), "%s", line)
			}
		}
	}
	return r, where
}

// mapping returns the values by their keys, nil when n is no mapping.
func (f *ruleFile) mapping(n ast.Node, what string, known []string) map[string]ast.Node {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	default:
		f.fail(place(n, nil), "%s must be a mapping of keys to values", what)
		return nil
	}
	keys := make(map[string]ast.Node, len(pairs))
	for _, pair := range pairs {
		tk := pair.Key.GetToken()
		key := tk.Value
		if _, plain := pair.Key.(*ast.StringNode); !plain {
			f.fail(tk, "a key must be text")
			continue
		}
		if _, given := keys[key]; given {
			f.fail(tk, "%s is given twice", key)
			continue
		}
		if !slices.Contains(known, key) {
			f.fail(tk, "unknown field %q: %s has %s", key, what, strings.Join(known, ", "))
			continue
		}
		keys[key] = pair.Value
	}
	return keys
}

// list returns the elements of a list; nothing given is an empty one.
func (f *ruleFile) list(n ast.Node, what string) []ast.Node {
	switch l := n.(type) {
	case nil:
		return nil
	case *ast.SequenceNode:
		return l.Values
	default:
		f.fail(place(n, nil), "%s: must be a list", what)
		return nil
	}
}

func (f *ruleFile) words(n ast.Node, what string) []string {
	var words []string
	for _, e := range f.list(n, what) {
		words = append(words, f.text(e, what))
	}
	return words
}

// text returns a text; nothing given is "". Anchors, aliases and tags are none: a file means what it shows.
func (f *ruleFile) text(n ast.Node, what string) string {
	switch t := n.(type) {
	case nil:
		return ""
	case *ast.StringNode:
		return t.Value
	case *ast.LiteralNode:
		return t.Value.Value
	default:
		f.fail(place(n, nil), "%s: must be text; put numbers, true and false in quotes", what)
		return ""
	}
}

// place is where value begins, else where the mapping around it does.
func place(around, value ast.Node) *token.Token {
	n := value
	if n == nil {
		n = around
	}
	switch m := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return m.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return m.Key.GetToken()
	}
	return n.GetToken()
}
