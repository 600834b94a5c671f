package configs

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const maxDepth = 100

// decoder puts a YAML document into settings and notes where each came from and what is wrong. The YAML module's own
// decoder ends at the first problem and quotes neighbouring lines, which may hold a password.
type decoder struct {
	file     string
	at       map[string]place
	problems []Problem
	hidden   []span
}

var (
	errEmpty = errors.New("the file is empty; it begins with version: 1")
	errDeep  = errors.New("brackets are nested too deeply")
)

// parse returns the only document of src.
func parse(src []byte) (body ast.Node, err error) {
	// The module's time grows with the square of the depth, and its parser is not under our control.
	depth := 0
	for _, c := range src {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth > maxDepth {
			return nil, errDeep
		}
	}
	defer func() {
		if recover() != nil {
			body, err = nil, errors.New("it cannot be read as YAML")
		}
	}()
	file, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			return nil, errors.New("only one document is allowed: remove the line with --- and what follows")
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil, errEmpty
	}
	return body, nil
}

// syntax turns an error of parse into a problem.
func (d *decoder) syntax(err error, src []byte) {
	p := Problem{File: d.file, Message: err.Error()}
	if ye, ok := errors.AsType[yaml.Error](err); ok {
		p.Message = "this is no YAML: " + ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
			// Around a mistake nobody knows what is a value; a text may have begun on an earlier line.
			shown := p.Column + 1
			lines := splitLines(src)
			for i := max(0, p.Line-6); i < min(p.Line-1, len(lines)); i++ {
				if literalAt(lines[i]) >= 0 {
					shown = 1
				}
			}
			d.hidden = append(d.hidden, span{line: p.Line, column: shown, end: p.Line})
		}
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) bad(n ast.Node, path, format string, args ...any) {
	line, column := position(n)
	if at, ok := d.at[path]; ok && at.keyLine > 0 && n != nil && n.Type() == ast.NullType {
		line, column = at.keyLine, at.keyColumn // where nothing stands nobody looks
	}
	d.problems = append(d.problems, Problem{
		File: d.file, Line: line, Column: column, Path: path, Message: fmt.Sprintf(format, args...),
	})
}

func (d *decoder) hide(n ast.Node, end int) {
	line, column := position(n)
	d.hidden = append(d.hidden, span{line, column, end})
}

// value decodes n into v; end is the last line n can reach to.
func (d *decoder) value(path string, n ast.Node, v reflect.Value, end int) {
	if why := unwanted(n); why != "" {
		d.hide(n, end)
		d.bad(n, path, "%s", why)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	_, own := reflect.TypeAssert[written](v.Addr())
	switch {
	case !own && v.Kind() == reflect.Struct:
		d.structure(path, n, v, end)
	case v.Kind() == reflect.Map:
		d.mapping(path, n, v, end)
	case v.Kind() == reflect.Slice:
		d.list(path, n, v, end)
	default:
		text, ok := scalar(n)
		if !ok {
			d.hide(n, end)
			d.bad(n, path, "must be %s, not %s", wants(v), kindOf(n))
			return
		}
		if err := setScalar(v, text, kindOf(n)); err != nil {
			if secretive(v) {
				d.hide(n, end)
			}
			d.bad(n, path, "%s", err)
		}
	}
}

func (d *decoder) structure(path string, n ast.Node, v reflect.Value, end int) {
	d.pairs(path, n, end, func(key ast.Node, name string, value ast.Node, end int) {
		full := join(path, name)
		if s, is := reflect.TypeAssert[*Settings](v.Addr()); is && name == "ksc" && namesProfiles(value) {
			d.value(full, value, reflect.ValueOf(&s.Profiles).Elem(), end)
			return
		}
		field, names := fieldByName(v, name)
		if field.IsValid() {
			d.value(full, value, field, end)
			return
		}
		d.hide(value, end)
		d.bad(key, full, "unknown setting%s", bridge.DidYouMean(name, names))
	})
}

// namesProfiles tells several KSC servers by name from the settings of one: what stands below a name is a mapping.
func namesProfiles(n ast.Node) bool {
	for _, p := range pairsOf(n) {
		if field, _ := fieldByName(reflect.ValueOf(KSC{}), keyText(p.Key)); !field.IsValid() && isMapping(p.Value) {
			return true
		}
	}
	return false
}

func (d *decoder) mapping(path string, n ast.Node, v reflect.Value, end int) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(path, n, end, func(_ ast.Node, name string, value ast.Node, end int) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(join(path, name), value, item, end)
		v.SetMapIndex(reflect.ValueOf(name), item)
	})
}

func (d *decoder) list(path string, n ast.Node, v reflect.Value, end int) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.hide(n, end)
		d.bad(n, path, "must be a list in brackets, not %s", kindOf(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		itemPath := index(path, i)
		d.note(itemPath, nil, item)
		itemEnd := end
		if i+1 < len(seq.Values) {
			itemEnd = before(seq.Values[i+1], item)
		}
		d.value(itemPath, item, v.Index(i), itemEnd)
	}
}

// pairs calls each for every key of a mapping once, with the last line the value can reach to.
func (d *decoder) pairs(path string, n ast.Node, end int, each func(key ast.Node, name string, value ast.Node, end int)) {
	if !isMapping(n) {
		d.hide(n, end)
		d.bad(n, path, "must be a mapping (name: value), not %s", kindOf(n))
		return
	}
	values := pairsOf(n)
	seen := make(map[string]bool, len(values))
	for i, p := range values {
		last := end
		if i+1 < len(values) {
			last = before(values[i+1].Key, p.Key)
		}
		name := keyText(p.Key)
		full := join(path, name)
		switch {
		case name == "":
			d.hide(p.Key, last)
			d.bad(p.Key, path, "a key must be a word; merging and complex keys are not allowed")
		case seen[name]:
			d.hide(p.Value, last)
			d.bad(p.Key, full, "is set twice; the first is in line %d", d.at[full].keyLine)
		default:
			seen[name] = true
			d.note(full, p.Key, p.Value)
			each(p.Key, name, p.Value, last)
		}
	}
}

func (d *decoder) note(path string, key, value ast.Node) {
	var at place
	at.line, at.column = position(value)
	if key != nil {
		at.keyLine, at.keyColumn = position(key)
	}
	d.at[path] = at
}

// before returns the last line that belongs to what comes ahead of next.
func before(next, own ast.Node) int {
	line, _ := position(next)
	from, _ := position(own)
	return max(line-1, from)
}

// lastLine is the end of the document.
const lastLine = math.MaxInt
