package configs

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
)

const (
	maxProblems = 20 // shown at once
	maxExcerpt  = 100
)

// Problem is one thing that is wrong with the settings.
type Problem struct {
	// File is the settings file or the environment variable; Line and Column count from 1, 0 = no place in a file.
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Path names the setting, such as sources.bus.group; Message says what is wrong and what to do.
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	// Excerpt is the line with a caret below, without values that may be secrets; or empty.
	Excerpt string `json:"excerpt,omitempty"`
}

// String returns place, path and message in one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Message
}

// Error is what Load, Find and RuleFiles return: every problem that was found, in the order of the file. The command
// line ends with exit code 78 on it.
type Error struct {
	Problems []Problem
}

// Error returns each problem with its excerpt, 20 at most.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i == maxProblems {
			fmt.Fprintf(&b, "\nand %d more", len(e.Problems)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
		if p.Excerpt != "" {
			b.WriteString("\n" + p.Excerpt)
		}
	}
	return b.String()
}

// problemIn returns an error without a place inside file.
func problemIn(file, format string, args ...any) *Error {
	return &Error{Problems: []Problem{{File: file, Message: fmt.Sprintf(format, args...)}}}
}

// span is a value that must not be shown: it begins at line and column and reaches to the end of line end.
type span struct{ line, column, end int }

// excerpts cuts lines out of a settings file.
type excerpts struct {
	lines  []string
	hidden []span
}

func newExcerpts(src []byte, hidden []span) excerpts {
	return excerpts{lines: splitLines(src), hidden: hidden}
}

// splitLines counts lines as the YAML module does, or the wrong ones would be hidden.
func splitLines(src []byte) []string {
	return strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(src)), "\n")
}

// literalAt returns the index in line behind the first word that looks like the key of a secret and is not followed by
// a reference, or -1.
func literalAt(line string) int {
	line = reference().ReplaceAllStringFunc(line, func(r string) string { return strings.Repeat("\x00", len(r)) })
	for _, m := range secretKey().FindAllStringIndex(line, -1) {
		if !strings.HasPrefix(line[m[1]:], "\x00") {
			return m[1]
		}
	}
	return -1
}

// The patterns are compiled when there is an error to show: every start of the program would pay for them.
var reference = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`secret:[a-z0-9][a-z0-9./_-]*`) })

// secretKey finds what looks like the key of a secret, also misspelled or in a comment.
var secretKey = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(pas+w?|pwd|psw|secret|token|cred|auth|passphrase|api_?key|\bkey\b|парол|` +
		`://[^/\s]*@)[^:]*:?\s*["']?`)
})

// around returns the line with a caret below the column, or nothing for a line without a visible part.
func (x excerpts) around(line, column int) string {
	if line < 1 || line > len(x.lines) {
		return ""
	}
	text := x.lines[line-1]
	runes := []rune(text)
	keep := len(runes)
	for _, h := range x.hidden {
		switch {
		case h.line == line:
			keep = min(keep, h.column-1)
		case h.line < line && line <= h.end:
			keep = 0
		}
	}
	// A second net under the spans, for lines the parser gave up on: nothing behind such a word is shown
	// unless it is a reference.
	if i := literalAt(text); i >= 0 {
		keep = min(keep, len([]rune(text[:i])))
	}
	cut := keep < len(runes)
	runes = runes[:max(keep, 0)]
	if len(strings.TrimSpace(string(runes))) == 0 {
		return ""
	}
	from := 0
	if column > maxExcerpt {
		from = min(column-maxExcerpt/2, len(runes))
	}
	shown := printable(runes[from:min(len(runes), from+maxExcerpt)])
	if cut || from+maxExcerpt < len(runes) {
		shown += "…"
	}
	number := fmt.Sprintf("%4d", line)
	caret := max(min(column-1-from, len(runes)-from), 0)
	return fmt.Sprintf("%s | %s\n%s | %s^", number, shown, strings.Repeat(" ", len(number)), strings.Repeat(" ", caret))
}

func printable(runes []rune) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, string(runes))
}

// fill adds the excerpts and sorts by place; problems without one come last.
func (x excerpts) fill(problems []Problem) []Problem {
	for i, p := range problems {
		problems[i].Excerpt = x.around(p.Line, p.Column)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return b.Line - a.Line
		}
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	return problems
}
