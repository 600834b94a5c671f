package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// documents are the pages users read, relative to the top of the module.
func documents() []string {
	return []string{"README.md", "docs/rules.md", "docs/settings.md", "docs/guards.md", "docs/faults.md", "docs/kuma.md", "docs/kuma.ru.md", "docs/presets.md", "docs/agent.md"}
}

// block is one fenced block of a document.
type block struct {
	document, language, text string
}

var fences = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func blocks(t *testing.T, languages ...string) []block {
	t.Helper()
	var list []block
	for _, name := range documents() {
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fences.FindAllStringSubmatch(string(data), -1) {
			for _, l := range languages {
				if m[1] == l {
					list = append(list, block{name, m[1], m[2]})
				}
			}
		}
	}
	if len(list) == 0 {
		t.Fatalf("no blocks of %v: the test looks at nothing", languages)
	}
	return list
}

// commandLine finds a call of the program in a line of shell text, after prompts, pipes and assignments.
var commandLine = regexp.MustCompile(`(?:^|[ |(])(?:\./bin/edr-bridge|go run \./cmd/edr-bridge|edr-bridge) ([^|#&;<>)]*)`)

// spans finds a call of the program inside a sentence.
var spans = regexp.MustCompile("`edr-bridge ([^`]+)`")

func TestCommandsOfTheDocumentsExist(t *testing.T) {
	t.Parallel()
	found := 0
	for _, b := range blocks(t, "sh", "powershell") {
		for line := range strings.Lines(b.text) {
			line, _, _ = strings.Cut(line, " #")
			for _, m := range commandLine.FindAllStringSubmatch(strings.TrimSpace(line), -1) {
				found++
				checkCommand(t, b.document, strings.TrimSpace(m[1]))
			}
		}
	}
	for _, name := range documents() {
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range spans.FindAllStringSubmatch(string(data), -1) {
			found++
			checkCommand(t, name, m[1])
		}
	}
	if found < 20 {
		t.Errorf("only %d commands found: the pattern has gone blind", found)
	}
}

// checkCommand wants the verb and every flag to exist.
func checkCommand(t *testing.T, document, line string) {
	t.Helper()
	a := &app{std: stdio{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, env: func(string) (string, bool) { return "", false }}
	program := a.rootCommand()
	cmd, rest, err := program.Find(strings.Fields(line))
	if err != nil || cmd == program || cmd.HasSubCommands() && !cmd.Runnable() {
		t.Errorf("%s: edr-bridge %s: no such command (%v)", document, line, err)
		return
	}
	for _, word := range rest {
		name, long := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		switch {
		case long && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil:
			t.Errorf("%s: edr-bridge %s: no flag --%s", document, line, name)
		case !long && len(word) == 2 && word[0] == '-' && cmd.Flags().ShorthandLookup(word[1:]) == nil && cmd.InheritedFlags().ShorthandLookup(word[1:]) == nil:
			t.Errorf("%s: edr-bridge %s: no flag %s", document, line, word)
		}
	}
}

// TestYAMLOfTheDocumentsIsTaken loads every settings file and compiles every rule file the documents show.
func TestYAMLOfTheDocumentsIsTaken(t *testing.T) {
	t.Parallel()
	settings, rules := 0, 0
	for _, b := range blocks(t, "yaml") {
		switch {
		case strings.Contains(b.text, "\nversion: 1\n") || strings.HasPrefix(b.text, "version: 1\n"):
			settings++
			path := filepath.Join(t.TempDir(), "edr-bridge.yaml")
			if err := os.WriteFile(path, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			set, err := configs.Load(path, func(string) (string, bool) { return "", false })
			if err != nil {
				t.Errorf("%s: %v\n%s", b.document, err, b.text)
				continue
			}
			w := &wiring{set: set, self: identity()}
			set.Rules = nil // the documents show them apart
			if _, err := w.openMapping(context.Background()); err != nil {
				t.Errorf("%s: %v\n%s", b.document, err, b.text)
			}
		case strings.Contains(b.text, "rules:\n"):
			rules++
			if _, err := mapping.New(mapping.Config{Files: []mapping.RuleFile{{Name: b.document, Data: []byte(b.text)}}}); err != nil {
				t.Errorf("%v\n%s", err, b.text)
			}
		default:
			t.Errorf("%s: neither settings nor rules:\n%s", b.document, b.text)
		}
	}
	if settings == 0 || rules == 0 {
		t.Errorf("%d settings files and %d rule files: the test looks at nothing", settings, rules)
	}
}
