package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/localagent"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/safety"
	"github.com/edr-bridge/edr-bridge/mapping"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the documents")

// root is the top of the module, seen from this package.
var root = filepath.Join("..", "..")

// generatedParts are the parts of the documents that come from code, by document and name. In the document a part stands
// between <!-- NAME: make golden --> and <!-- end -->.
func generatedParts(t *testing.T) map[string]map[string]string {
	t.Helper()
	return map[string]map[string]string{
		"README.md":        {"tasks table": tasksTable(t), "exit codes table": exitCodesTable()},
		"docs/settings.md": {"environment table": environmentTable()},
		"docs/rules.md":    {"presets": presetTables()},
		"docs/faults.md":   {"faults table": faultsTable(t)},
		"docs/agent.md": {
			"emergency release": "```\n" + firewall.EmergencyRelease + "```\n", "safety table": safety.Document(), "windows table": windowsTable(),
		},
	}
}

func TestDocumentsHoldWhatTheCodeSays(t *testing.T) {
	t.Parallel()
	for name, parts := range generatedParts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(root, filepath.FromSlash(name))
			old, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text := string(old)
			for part, want := range parts {
				text = replacePart(t, text, part, want)
			}
			if *update {
				rewrite(t, path, old, []byte(text))
				return
			}
			if diff := cmp.Diff(text, string(old)); diff != "" {
				t.Errorf("run make golden and read the diff (-code +%s):\n%s", name, diff)
			}
		})
	}
}

// TestSchemaOfRuleFilesLiesBesideThatOfSettings keeps the copy that editors read equal to the one the program prints.
func TestSchemaOfRuleFilesLiesBesideThatOfSettings(t *testing.T) {
	t.Parallel()
	path := filepath.Join(root, "configs", "schema", "rules.schema.json")
	old, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if *update {
		rewrite(t, path, old, mapping.Schema())
		return
	}
	if diff := cmp.Diff(string(mapping.Schema()), string(old)); diff != "" {
		t.Errorf("run make golden (-mapping +copy):\n%s", diff)
	}
}

// replacePart puts a part into its place; a document without the place fails the test.
func replacePart(t *testing.T, text, name, part string) string {
	t.Helper()
	begin, end := "<!-- "+name+": make golden -->\n", "<!-- end -->"
	before, rest, found := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("no part between %q and %q", strings.TrimSpace(begin), end)
	}
	return before + begin + part + end + after
}

// rewrite replaces a file whole, so that tests that run meanwhile read the old or the new one.
func rewrite(t *testing.T, path string, old, text []byte) {
	t.Helper()
	if bytes.Equal(old, text) {
		return
	}
	next := path + ".new"
	if err := os.WriteFile(next, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func tasksTable(t *testing.T) string {
	t.Helper()
	support := map[bridge.Kind]localagent.Support{}
	for _, s := range localagent.Capabilities() {
		support[s.Task] = s
	}
	var rows [][]string
	for _, k := range bridge.Kinds() {
		s, known := support[k]
		if !known {
			t.Errorf("the local agent says nothing about %s", k)
		}
		info := bridge.Describe(k)
		rows = append(rows, []string{code(string(k)), info.Summary, yesNo(info.KSC), s.Linux, s.Windows})
	}
	return markdown([]string{"task", "what it does", "through KSC", "local agent, Linux", "local agent, Windows"}, rows)
}

// windowsTable says of each task how it was tested on Windows, and what it covers there.
func windowsTable() string {
	var rows [][]string
	for _, s := range localagent.Capabilities() {
		rows = append(rows, []string{code(string(s.Task)), s.Windows, s.WindowsHow})
	}
	return markdown([]string{"task", "on Windows", "how"}, rows)
}

// exitCodesTable has its rows as plain text, which TestReadmeListsEveryExitCode looks for.
func exitCodesTable() string {
	var rows [][]string
	for _, c := range exitCodes() {
		rows = append(rows, []string{fmt.Sprint(c.Code), c.Meaning})
	}
	return markdown([]string{"code", "meaning"}, rows)
}

func environmentTable() string {
	var rows [][]string
	for _, v := range configs.EnvVars() {
		setting := ""
		if v.Path != "" {
			setting = code(v.Path)
		}
		rows = append(rows, []string{code(v.Name), setting, v.Meaning})
	}
	return markdown([]string{"variable", "setting", "meaning"}, rows)
}

// presetTables are those of the presets that read a form of our own; the others stand on a page of theirs.
func presetTables() string {
	var b strings.Builder
	for _, p := range mapping.Presets() {
		if p.Name != "generic" && p.Name != "python-edr" {
			continue
		}
		fmt.Fprintf(&b, "**%s**: %s.\n\n", code(p.Name), p.About)
		var rows [][]string
		for _, f := range p.Fields {
			field := "checked only"
			if f.Field != "" {
				field = code(f.Field)
			}
			rows = append(rows, []string{code(f.Path), field, f.Type, f.Note})
		}
		b.WriteString(markdown([]string{"in the document", "field of the alert", "type", "note"}, rows) + "\n")
	}
	return b.String()
}

func code(s string) string { return "`" + s + "`" }

func markdown(header []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		b.WriteString(strings.TrimRight("| "+strings.Join(cells, " | "), " ") + " |\n")
	}
	line(header)
	b.WriteString(strings.Repeat("|---", len(header)) + "|\n")
	for _, r := range rows {
		line(r)
	}
	return b.String()
}

// links finds the targets of links in a document.
var links = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

func TestLinksOfTheDocumentsLeadToFiles(t *testing.T) {
	t.Parallel()
	for _, name := range documents() {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range links.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s: link to %s: %v", name, m[1], err)
			}
		}
	}
}
