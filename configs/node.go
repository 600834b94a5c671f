package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// position returns where a node begins, 1:1 when the parser does not tell.
func position(n ast.Node) (line, column int) {
	if values := pairsOf(n); len(values) > 0 {
		if m, ok := n.(*ast.MappingNode); !ok || !m.IsFlowStyle {
			n = values[0].Key
		}
	}
	if l, ok := n.(*ast.LiteralNode); ok && l.Start != nil && l.Start.Position != nil {
		return l.Start.Position.Line, max(l.Start.Position.Column, 1)
	}
	if n == nil {
		return 1, 1
	}
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return 1, 1
	}
	return max(t.Position.Line, 1), max(t.Position.Column, 1)
}

func isMapping(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	default:
		return false
	}
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

func keyText(key ast.Node) string {
	switch k := key.(type) {
	case *ast.StringNode:
		return k.Value
	case *ast.IntegerNode:
		return k.Token.Value
	case *ast.BoolNode:
		return k.Token.Value
	default:
		return ""
	}
}

// scalar returns the text of a plain value.
func scalar(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		if s.Value == nil {
			return "", true
		}
		return s.Value.Value, true
	case *ast.IntegerNode:
		return s.Token.Value, true
	case *ast.FloatNode:
		return s.Token.Value, true
	case *ast.BoolNode:
		return s.Token.Value, true
	default:
		return "", false
	}
}

// unwanted says why a node is not taken, or nothing.
func unwanted(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "is empty: give it a value or remove the line"
	case *ast.TagNode:
		return "tags (!) are not allowed: remove it"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "anchors (&) and aliases (*) are not allowed: write the value itself, in quotes if it begins so"
	default:
		return ""
	}
}

const (
	kindText   = "text"
	kindNumber = "a number"
	kindBool   = "true or false"
)

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return kindText
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return kindNumber
	case *ast.BoolNode:
		return kindBool
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	default:
		return "this"
	}
}

func wants(v reflect.Value) string {
	if own, ok := reflect.TypeAssert[written](v.Addr()); ok {
		return own.wants()
	}
	switch {
	case secretive(v):
		return "a reference such as secret:ksc/password"
	case v.Type() == reflect.TypeFor[time.Duration]():
		return "a time with a unit, such as 30s"
	case v.Kind() == reflect.Bool:
		return kindBool
	case v.Kind() == reflect.Int:
		return kindNumber
	default:
		return kindText
	}
}

func secretive(v reflect.Value) bool { return v.Type() == reflect.TypeFor[SecretRef]() }

// setScalar parses text into v. kind is what the text was in YAML, empty for the environment, where all is text.
func setScalar(v reflect.Value, text, kind string) error {
	if own, ok := reflect.TypeAssert[written](v.Addr()); ok {
		return own.parse(text)
	}
	switch {
	case secretive(v):
		if !validRef(text) {
			return errLiteral
		}
		v.SetString(text)
	case v.Type() == reflect.TypeFor[time.Duration]():
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" || kind == kindText {
			return fmt.Errorf("must be true or false, not %s", quoted(text))
		}
		v.SetBool(text == "true")
	case v.Kind() == reflect.Int:
		i, err := strconv.Atoi(text)
		if err != nil || kind == kindText || strconv.Itoa(i) != text {
			return fmt.Errorf("must be a whole number, not %s", quoted(text))
		}
		v.SetInt(int64(i))
	case v.Kind() == reflect.String:
		if kind != "" && kind != kindText {
			return errors.New("must be text: write it in quotes")
		}
		if strings.TrimSpace(text) == "" {
			return errors.New("is empty: give it a value or remove the line")
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("must be one line without control characters")
		}
		v.SetString(text)
	default:
		return fmt.Errorf("cannot be set as text (%s)", v.Type())
	}
	return nil
}

var errLiteral = errors.New("must be a reference such as secret:ksc/password, never the value itself: " +
	"store the value with `edr-bridge secrets set ksc/password`")

// validRef follows the names of package configs/secrets.
func validRef(text string) bool {
	name, ok := strings.CutPrefix(text, "secret:")
	parts := strings.Split(name, "/")
	if !ok || len(name) > 128 || len(parts) > 8 {
		return false
	}
	for _, part := range parts {
		if part == "" || strings.ContainsRune("._-", rune(part[0])) {
			return false
		}
		if strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return false
		}
	}
	return true
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("must be a time with a unit, such as 30s, 15m or 4h, not %s", quoted(text))
	case d < 0:
		return 0, errors.New("must not be negative")
	}
	return d, nil
}

// quoted shows a value that is no secret, shortened.
func quoted(text string) string {
	if runes := []rune(text); len(runes) > 40 {
		text = string(runes[:40]) + "…"
	}
	return strconv.Quote(text)
}

// fieldByName returns the field of a struct with the YAML name, and all names.
func fieldByName(v reflect.Value, name string) (field reflect.Value, names []string) {
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if tag == "" {
			continue
		}
		if tag == name {
			return v.Field(i), nil
		}
		names = append(names, tag)
	}
	return reflect.Value{}, names
}
