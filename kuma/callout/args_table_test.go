package callout

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

var updateArgs = flag.Bool("update-args", false, "rewrite the results in testdata/args")

// argsSplit splits a raw line as a shell would without expansions: blanks separate, "…" and '…' hold together, \" and \\
// inside double quotes are " and \. That KUMA does the same is not documented; only tests use it.
func argsSplit(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '"' && c == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\'):
			i++
			word.WriteByte(line[i])
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, begun = c, true
		case c == ' ' || c == '\t':
			if begun {
				words = append(words, word.String())
			}
			begun = false
			word.Reset()
		default:
			begun = true
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is open")
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// argsResult is a parsed line as the tables show it.
func argsResult(line string) string {
	words, err := argsSplit(line)
	if err != nil {
		return "split: " + err.Error()
	}
	call, err := ParseCall(words[0], words[1:])
	if err != nil {
		var b strings.Builder
		for _, e := range argsJoinedErrors(err) {
			fmt.Fprintf(&b, "! %s\n", e)
		}
		return strings.TrimSuffix(b.String(), "\n")
	}
	params, err := bridge.EncodeParams(call.Params)
	if err != nil {
		return err.Error()
	}
	parts := []string{fmt.Sprintf("= %s %s %s", call.Task, call.Host, params)}
	add := func(is bool, format string, args ...any) {
		if is {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(call.EventID != "", "event %s", call.EventID)
	add(call.Timestamp != 0, "at %d", call.Timestamp)
	add(call.ForPeriod != 0, "for %s", call.ForPeriod)
	add(call.Reason != "", "because %q", call.Reason)
	return strings.Join(append([]string{strings.Join(parts, " ")}, call.Warnings...), "\n? ")
}

// TestArgumentLines reads testdata/args/*.txt: a line as typed in KUMA after the templates were filled in, then what comes of it:
// = the call, ? a warning, ! a reason to refuse it.
func TestArgumentLines(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/args/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	lines := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var fresh bytes.Buffer
		for block := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n\n") {
			if strings.HasPrefix(block, "#") {
				fresh.WriteString(block + "\n\n")
				continue
			}
			line, want, _ := strings.Cut(block, "\n")
			got := argsResult(line)
			lines++
			fmt.Fprintf(&fresh, "%s\n%s\n\n", line, got)
			if !*updateArgs && got != want {
				t.Errorf("%s:\n%s\ngot\n%s\nwant\n%s", file, line, got, want)
			}
		}
		if *updateArgs {
			if err := os.WriteFile(file, append(bytes.TrimSpace(fresh.Bytes()), '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lines < 150 {
		t.Errorf("the tables hold %d lines, want 150 or more", lines)
	}
}
