package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// print writes a result: rows as a table, or value in the format the user asked for. For jsonl the items
// of value are written one a line when it is a slice.
func printResult[T any](a *app, items []T, header []string, row func(T) []string) error {
	switch a.output {
	case "json":
		return a.printJSON(items)
	case "jsonl":
		for _, it := range items {
			line, err := json.Marshal(it)
			if err != nil {
				return fmt.Errorf("encode result: %w", err)
			}
			if _, err := fmt.Fprintln(a.std.out, string(line)); err != nil {
				return err
			}
		}
		return nil
	case "yaml":
		return a.printYAML(items)
	default:
	}
	w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, it := range items {
		cells := row(it)
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(printable(c), "\n", `\n`)
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
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
	_, err := a.std.out.Write(buf.Bytes())
	return err
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

// printable makes control, format and bidirectional characters of alert content visible, so that a result
// can neither move the cursor nor read differently than it is.
func printable(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func hidden(r rune) bool {
	return r == unicode.ReplacementChar || (r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp))
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) //nolint:gosec // file descriptors fit an int
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}
