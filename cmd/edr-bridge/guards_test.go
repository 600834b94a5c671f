package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// TestGuardsPageExplainsEveryReason wants each closed word in a row of the table of docs/guards.md, where people look it up.
func TestGuardsPageExplainsEveryReason(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "guards.md"))
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		words, row := strings.CutPrefix(line, "| `")
		if !row {
			continue
		}
		words, _, _ = strings.Cut(words, "` |")
		for word := range strings.SplitSeq(words, "`, `") {
			explained[word] = true
		}
	}
	for _, reason := range bridge.Reasons() {
		if !explained[string(reason)] {
			t.Errorf("docs/guards.md has no row for the reason %s", reason)
		}
	}
}

// TestEveryVerbHasAnExample wants an example at each verb, or at the verb it is a leaf of.
func TestEveryVerbHasAnExample(t *testing.T) {
	t.Parallel()
	a := &app{env: func(string) (string, bool) { return "", false }}
	verbs := 0
	var walk func(cmd *cobra.Command, above bool)
	walk = func(cmd *cobra.Command, above bool) {
		has := cmd.Example != ""
		if cmd.Runnable() && cmd.Name() != "help" && cmd.Name() != "completion" {
			verbs++
			if !has && !above {
				t.Errorf("%s has no example, nor has the verb above it", cmd.CommandPath())
			}
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" && sub.Name() != "exit-codes" {
				walk(sub, has && cmd.HasParent())
			}
		}
	}
	walk(a.rootCommand(), false)
	if verbs < 30 {
		t.Errorf("only %d verbs were looked at", verbs)
	}
}
