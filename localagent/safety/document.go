package safety

import (
	"fmt"
	"strings"
)

// maxShownPaths is how many paths of one entry the document names; the rest is counted.
const maxShownPaths = 14

// Document returns the table as Markdown for the documentation: a section a kind, a row an entry with what is meant and why.
func Document() string {
	var b strings.Builder
	for _, section := range []struct {
		kind  Kind
		title string
	}{
		{KindProcess, "Processes that are never ended"},
		{KindFile, "Files that are never moved or deleted"},
		{KindExecution, "Programs that are never forbidden to run"},
		{KindNetwork, "Addresses that are never blocked"},
	} {
		fmt.Fprintf(&b, "### %s\n\n| entry | what is meant | why |\n|---|---|---|\n", section.title)
		for _, e := range Table() {
			if e.Kind == section.kind {
				fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(e.title()), cell(e.meaning()), cell(e.Why))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (e *Entry) title() string {
	if e.System == Windows {
		return e.Name + " (Windows)"
	}
	return e.Name
}

func (e *Entry) meaning() string {
	var parts []string
	for _, list := range []struct {
		word  string
		items []string
	}{{"", e.Paths}, {"run by ", e.Users}, {"units ", e.Units}, {"packages ", e.Packages}} {
		if len(list.items) == 0 {
			continue
		}
		shown := list.items[:min(len(list.items), maxShownPaths)]
		text := list.word + "`" + strings.Join(shown, "`, `") + "`"
		if more := len(list.items) - len(shown); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, text)
	}
	if e.Narrow != "" {
		parts = append(parts, e.Narrow)
	}
	return strings.Join(parts, "; ")
}

// cell keeps a text inside its column.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
