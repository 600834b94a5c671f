package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// print writes a result: rows as a table, or value in the format the user asked for. For jsonl the items
// of value are written one a line when it is a slice.
func printResult[T any](a *app, items []T, header []string, row func(T) []string) error {
	if items == nil {
		items = []T{} // an empty list, not null
	}
	switch a.output {
	case "json":
		return a.printJSON(items)
	case "jsonl":
		for _, it := range items {
			if err := a.printJSON(it); err != nil {
				return err
			}
		}
		return nil
	case "yaml":
		return a.printYAML(items)
	default:
	}
	out := bufio.NewWriter(a.std.out) // a tabwriter writes cell by cell
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, it := range items {
		cells := row(it)
		for i, c := range cells {
			cells[i] = printable(c)
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return out.Flush()
}

// printOne writes a single result; text is its form for people.
func printOne(a *app, value any, text func(io.Writer) error) error {
	switch a.output {
	case "json", "jsonl":
		return a.printJSON(value)
	case "yaml":
		return a.printYAML(value)
	default:
		return text(a.std.out)
	}
}

func (a *app) printJSON(value any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if a.output == "json" && isTerminal(a.std.out) {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	_, err := jsonWriter{a.std.out}.Write(buf.Bytes())
	return err
}

// jsonWriter escapes in whole JSON documents what encoding/json leaves as it is and a terminal would obey. Such
// characters stand in strings only, so the values stay the same.
type jsonWriter struct{ io.Writer }

func (w jsonWriter) Write(p []byte) (int, error) {
	if bytes.IndexFunc(p, hidden) < 0 {
		return w.Writer.Write(p)
	}
	safe := make([]byte, 0, len(p)+len(p)/4)
	for _, r := range string(p) {
		switch {
		case !hidden(r):
			safe = utf8.AppendRune(safe, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			safe = fmt.Appendf(safe, `\u%04x\u%04x`, high, low)
		default:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
	}
	if _, err := w.Writer.Write(safe); err != nil {
		return 0, err
	}
	return len(p), nil
}

// printYAML goes through JSON, so that both formats have the same keys.
func (a *app) printYAML(value any) error {
	doc, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	out, err := yaml.JSONToYAML(doc)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	_, err = a.std.out.Write(out)
	return err
}

// printable keeps text in one line, so that alert content cannot pass for a line of the program's own.
func printable(s string) string {
	return strings.ReplaceAll(printableLines(s), "\n", `\n`)
}

// printableLines makes control, format and bidirectional characters of alert content visible, so that a result
// can neither move the cursor nor read differently than it is. Line ends stay, for mistakes that are shown with their lines.
func printableLines(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	// What no table knows may mean something to the terminal: only what is known to be seen passes.
	return r == unicode.ReplacementChar || r != '\n' && !unicode.IsGraphic(r)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}
