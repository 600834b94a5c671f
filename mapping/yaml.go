package mapping

import (
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

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxRuleFile = 1 << 20 // bytes
	maxNesting  = 32      // brackets and dashes open at once
)

// document is one YAML file being read: it collects problems with their places.
type document struct {
	name     string
	lines    []string
	problems []Problem
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	token *token.Token
	value ast.Node
}

func newDocument(f RuleFile) *document {
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(f.Data))
	return &document{name: f.Name, lines: strings.Split(text, "\n")}
}

// failAt notes a problem; what is left out beyond maxProblems is not shown.
func (d *document) failAt(tk *token.Token, format string, args ...any) {
	if len(d.problems) >= maxProblems {
		return
	}
	line, column := 1, 1
	if tk != nil && tk.Position != nil {
		line, column = max(tk.Position.Line, 1), max(tk.Position.Column, 1)
	}
	d.problems = append(d.problems, Problem{
		File: d.name, Line: line, Column: column,
		Message: fmt.Sprintf(format, args...),
		Excerpt: excerptOf(d.lines, line, column),
	})
}

func (d *document) fail(n ast.Node, format string, args ...any) {
	d.failAt(tokenOf(n), format, args...)
}

// tokenOf returns where a node begins; of a block mapping that is its first key, not its first colon.
func tokenOf(n ast.Node) *token.Token {
	if pairs := pairsOf(n); len(pairs) > 0 && pairs[0].Key != nil {
		if m, ok := n.(*ast.MappingNode); !ok || !m.IsFlowStyle {
			return pairs[0].Key.GetToken()
		}
	}
	if n == nil {
		return nil
	}
	return n.GetToken()
}

func pairsOf(n ast.Node) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	default:
		return nil
	}
}

// parse returns the root of the only YAML document in the file, or nil after noting why not.
func (d *document) parse(data []byte) ast.Node {
	switch {
	case len(data) > maxRuleFile:
		d.failAt(nil, "the file is larger than %d bytes: split it", maxRuleFile)
		return nil
	case !utf8.Valid(data):
		d.failAt(nil, "the file is not UTF-8 text")
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if tk := tooDeep(tokens); tk != nil {
		d.failAt(tk, "nested more than %d levels deep", maxNesting)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if ye, ok := errors.AsType[yaml.Error](err); ok {
			d.failAt(ye.GetToken(), "%s", ye.GetMessage())
		} else {
			d.failAt(nil, "%v", err)
		}
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if root != nil {
			d.fail(doc.Body, "a second YAML document: put all rules under one rules:")
			return nil
		}
		root = doc.Body
	}
	if root != nil && !d.isPlain(root) {
		return nil
	}
	return root
}

// tooDeep returns the token at which brackets, or dashes of one line, are nested too deep. The parser is
// recursive; this keeps its stack small.
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

// isPlain refuses what makes a file mean more than it shows.
func (d *document) isPlain(root ast.Node) bool {
	w := &plainWalker{d: d, ok: true}
	ast.Walk(w, root)
	return w.ok
}

type plainWalker struct {
	d  *document
	ok bool
}

// Visit notes anchors, aliases, merge keys and tags.
func (w *plainWalker) Visit(n ast.Node) ast.Visitor {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		w.ok = false
		w.d.fail(n, "anchors, aliases, merge keys and tags are not used in rule files: write the value out")
		return nil
	default:
		return w
	}
}

// entries returns the pairs of a mapping. Keys given twice are noted and left out; keys not in known (when
// it is not nil) are noted with the nearest known one.
func (d *document) entries(n ast.Node, what string, known []string) ([]entry, bool) {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		d.fail(n, "%s must be a mapping of keys to values, not %s", what, nodeWord(n))
		return nil, false
	}
	first := map[string]*token.Token{}
	var list []entry
	for _, pair := range pairsOf(n) {
		tk := pair.Key.GetToken()
		key, ok := keyOf(pair.Key)
		if !ok {
			d.failAt(tk, "the key must be text")
			continue
		}
		if prev := first[key]; prev != nil {
			d.failAt(tk, "key %q is given twice, first in line %d", key, prev.Position.Line)
			continue
		}
		first[key] = tk
		if known != nil && !slices.Contains(known, key) {
			d.failAt(tk, "unknown field %q%s", key, bridge.DidYouMean(key, known))
			continue
		}
		list = append(list, entry{key: key, token: tk, value: pair.Value})
	}
	return list, true
}

func keyOf(n ast.MapKeyNode) (string, bool) {
	switch k := n.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.LiteralNode:
		return k.Value.Value, true
	default:
		return "", false
	}
}

// items returns the elements of a list.
func (d *document) items(n ast.Node, what string) ([]ast.Node, bool) {
	if s, ok := n.(*ast.SequenceNode); ok {
		return s.Values, true
	}
	d.fail(n, "%s must be a list, not %s", what, nodeWord(n))
	return nil, false
}

// text returns a text scalar.
func (d *document) text(n ast.Node, what string) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		d.fail(n, "%s must be text: put %s in quotes", what, tokenOf(n).Value)
	default:
		d.fail(n, "%s must be text, not %s", what, nodeWord(n))
	}
	return "", false
}

func nodeWord(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.IntegerNode, *ast.FloatNode:
		return "a number"
	case *ast.InfinityNode, *ast.NanNode:
		return "infinity or no number"
	case *ast.BoolNode:
		return "true or false"
	default:
		return "text"
	}
}
