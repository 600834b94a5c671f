package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

const (
	excerptLines  = 2   // lines shown before and after the one with the problem
	maxLineLength = 200 // characters shown of a line
)

// LoadError holds everything that is wrong with the rule files.
type LoadError struct {
	// Problems are ordered by file, line and column; there is at least one.
	Problems []Problem
}

// Problem is one mistake in a rule file.
type Problem struct {
	// File is the path as given in RuleFile.Name; Line and Column count from 1, columns in characters.
	File         string
	Line, Column int
	// Message says what is wrong and, where it is known, what was probably meant.
	Message string
	// Excerpt shows the line with its neighbours and a caret below the column; several lines, no colours.
	Excerpt string
}

// String returns "file:line:column: message".
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Error returns every problem with its excerpt, without colours.
func (e *LoadError) Error() string { return e.Text(false) }

// Text returns every problem with its excerpt; color marks messages and carets for a terminal (ANSI).
func (e *LoadError) Text(color bool) string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		text, excerpt := p.String(), p.Excerpt
		if color {
			text = "\x1b[31m" + text + "\x1b[0m"
			excerpt = strings.Replace(excerpt, "^", "\x1b[31m^\x1b[0m", 1)
		}
		b.WriteString(text)
		if excerpt != "" {
			b.WriteByte('\n')
			b.WriteString(excerpt)
		}
	}
	return b.String()
}

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// excerptOf shows a line with its neighbours and a caret below the column.
func excerptOf(lines []string, line, column int) string {
	if line < 1 || line > len(lines) {
		return ""
	}
	var b strings.Builder
	for n := max(1, line-excerptLines); n <= min(len(lines), line+excerptLines); n++ {
		mark := " "
		if n == line {
			mark = ">"
		}
		text := printable(lines[n-1])
		if n != line && strings.TrimSpace(text) == "" {
			fmt.Fprintf(&b, "%s %3d |\n", mark, n)
			continue
		}
		fmt.Fprintf(&b, "%s %3d | %s\n", mark, n, text)
		if n == line && column <= maxLineLength {
			fmt.Fprintf(&b, "%s^\n", strings.Repeat(" ", len("> 123 | ")+max(column, 1)-1))
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// printable keeps a line on one line and away from the terminal's controls.
func printable(line string) string {
	var b strings.Builder
	n := 0
	for _, c := range line {
		if n++; n > maxLineLength {
			b.WriteRune('…')
			break
		}
		switch {
		case c == '\t':
			c = ' '
		case unicode.IsControl(c) || unicode.Is(unicode.Cf, c):
			c = '·'
		}
		b.WriteRune(c)
	}
	return b.String()
}
