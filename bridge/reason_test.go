package bridge_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestReasonsListsEveryReason(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []bridge.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		word, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Error(err)
		}
		if word != "" {
			want = append(want, bridge.Reason(word))
		}
		return true
	})
	if got := bridge.Reasons(); !slices.Equal(got, want) || len(got) < 20 {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
