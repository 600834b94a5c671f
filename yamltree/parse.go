package yamltree

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Lines returns the text of a file with the breaks of lines as the tree counts them: CR LF and CR alone count as LF.
func Lines(data []byte) string {
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
}

// Parse returns the root of the only document of a UTF-8 text of at most 1 MiB, or nil after noting why not. An empty file has no root
// and no problem.
func (f *File) Parse(data []byte) *Node {
	switch {
	case len(data) > maxFile:
		f.FailAt(Place{}, "the file is larger than %d bytes: split it", maxFile)
		return nil
	case !utf8.Valid(data):
		f.FailAt(Place{}, "the file is not UTF-8 text")
		return nil
	}
	tokens := lexer.Tokenize(Lines(data))
	if tk := tooDeep(tokens); tk != nil {
		f.FailAt(placeOf(tk), "nested more than %d levels deep", maxNesting)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if ye, ok := errors.AsType[yaml.Error](err); ok {
			f.FailAt(placeOf(ye.GetToken()), "%s", ye.GetMessage())
		} else {
			f.FailAt(Place{}, "%v", err)
		}
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if root != nil {
			f.FailAt(placeOf(begin(doc.Body)), "a second YAML document: put everything into one")
			return nil
		}
		root = doc.Body
	}
	if root == nil {
		return nil
	}
	before := len(f.Problems)
	n := f.node(root, Place{})
	if len(f.Problems) > before {
		return nil
	}
	return n
}

// tooDeep returns the token at which brackets, or dashes of one line, are nested too deep. The parser is recursive; this keeps its
// stack small.
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

// node turns a node of the parser into one of the tree; around is the place of one of which nothing is known.
func (f *File) node(n ast.Node, around Place) *Node {
	if n == nil {
		return &Node{Place: around}
	}
	tk := begin(n)
	out := &Node{Place: placeOf(tk)}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		out.Kind, out.Value = Text, n.Value
	case *ast.LiteralNode:
		out.Kind, out.Value = Text, literal(n)
	case *ast.IntegerNode:
		out.Kind, out.Value, out.Written = Integer, n.Value, tk.Value
	case *ast.FloatNode:
		out.Kind, out.Value, out.Written = Float, n.Value, tk.Value
	case *ast.InfinityNode, *ast.NanNode:
		out.Kind = NotFinite
	case *ast.BoolNode:
		out.Kind, out.Value, out.Written = Bool, n.Value, tk.Value
	case *ast.SequenceNode:
		out.Kind = List
		for _, item := range n.Values {
			out.items = append(out.items, f.node(item, out.Place))
		}
	case *ast.MappingNode, *ast.MappingValueNode:
		out.Kind = Map
		for _, pair := range pairsOf(n) {
			out.entries = append(out.entries, f.entry(pair))
		}
	case *ast.MappingKeyNode:
		return f.node(n.Value, out.Place)
	default:
		f.FailAt(out.Place, "anchors, aliases, merge keys and tags are not used here: write the value out")
	}
	return out
}

// literal returns the text behind | or >.
func literal(n *ast.LiteralNode) string {
	if n.Value == nil {
		return ""
	}
	return n.Value.Value
}

func (f *File) entry(pair *ast.MappingValueNode) Entry {
	e := Entry{Place: placeOf(pair.Key.GetToken())}
	switch k := pair.Key.(type) {
	case *ast.StringNode:
		e.Key = k.Value
	case *ast.LiteralNode:
		e.Key = literal(k)
	default:
		e.noText = true
		f.node(k, e.Place)
	}
	e.Value = f.node(pair.Value, e.Place)
	return e
}

// begin returns the token with which a node begins; of a block mapping that is its first key, not its first colon.
func begin(n ast.Node) *token.Token {
	if pairs := pairsOf(n); len(pairs) > 0 && pairs[0].Key != nil {
		if m, ok := n.(*ast.MappingNode); !ok || !m.IsFlowStyle {
			return pairs[0].Key.GetToken()
		}
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

func placeOf(tk *token.Token) Place {
	if tk == nil || tk.Position == nil {
		return Place{}
	}
	return Place{Line: max(tk.Position.Line, 1), Column: max(tk.Position.Column, 1)}
}
