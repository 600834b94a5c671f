package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

func TestA7PrintableShowsWhatWouldMoveTheCursor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"plain":              {"WS-014 – größer 日本", "WS-014 – größer 日本"},
		"empty":              {"", ""},
		"escape":             {"a\x1b[2Jb", `a\u001b[2Jb`},
		"line ends":          {"a\r\nerror: b", `a\u000d\nerror: b`},
		"tab":                {"a\tb", `a\u0009b`},
		"c1 control":         {"a\u009b2Jb", `a\u009b2Jb`},
		"bidi":               {"a\u202egpj.exe\u2066x", `a\u202egpj.exe\u2066x`},
		"zero width":         {"dc\u200b01\ufeff", `dc\u200b01\ufeff`},
		"line separators":    {"a\u2028b\u2029c\u0085d", `a\u2028b\u2029c\u0085d`},
		"tags beyond 16 bit": {"a\U000e0041b", `a\U000e0041b`},
		"invalid utf-8":      {"a\xffb", `a\ufffdb`},
		"nul":                {"a\x00b", `a\u0000b`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := printable(c.in); got != c.want {
				t.Errorf("printable(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
	if got, want := printableLines("a\n\x1b"), "a\n\\u001b"; got != want {
		t.Errorf("printableLines = %q, want %q", got, want)
	}
}

func FuzzPrintableIsOneSafeLine(f *testing.F) {
	for _, s := range []string{"", "a", "\x1b[31m", "\u202e", "a\nb", "\xff\xfe", "\U000e0001", "\U000e0000", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if at := strings.IndexFunc(got, hostileRune); at >= 0 {
			t.Errorf("printable(%q) = %q holds a raw control character", s, got)
		}
		if again := printable(got); again != got {
			t.Errorf("printable(%q) is %q at first and %q at second", s, got, again)
		}
	})
}

type testRow struct {
	Name string `json:"name"`
	N    int    `json:"n,omitempty"`
}

func printTest(t *testing.T, format string, rows []testRow) string {
	t.Helper()
	var out bytes.Buffer
	a := &app{std: stdio{out: &out}, output: format}
	err := printResult(a, rows, []string{"NAME", "N"}, func(r testRow) []string { return []string{r.Name, "x"} })
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestResultsAreTheSameInEveryFormat(t *testing.T) {
	t.Parallel()
	hostile := "a\x1b[2J\u202e\u2028\n<&>\"\\ \U000e0041 \ufffd"
	rows := []testRow{{"plain", 1}, {hostile, 2}}
	for _, format := range []string{"json", "jsonl", "yaml", "table"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			text := printTest(t, format, rows)
			for line := range strings.Lines(text) {
				if at := strings.IndexFunc(strings.TrimSuffix(line, "\n"), hostileRune); at >= 0 {
					t.Errorf("line %q holds a raw control character", line)
				}
			}
			var got []testRow
			switch format {
			case "json":
				if err := json.Unmarshal([]byte(text), &got); err != nil {
					t.Fatal(err)
				}
			case "jsonl":
				for line := range strings.Lines(text) {
					var row testRow
					if err := json.Unmarshal([]byte(line), &row); err != nil {
						t.Fatal(err)
					}
					got = append(got, row)
				}
			case "yaml":
				if err := yaml.Unmarshal([]byte(text), &got); err != nil {
					t.Fatal(err)
				}
			default:
				if n := strings.Count(text, "\n"); n != len(rows)+1 {
					t.Errorf("table of %d lines, want header and %d:\n%s", n, len(rows), text)
				}
				return
			}
			if diff := cmp.Diff(rows, got); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNothingIsAnEmptyListNotNull(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"json": "[]\n", "jsonl": "", "yaml": "[]\n", "table": "NAME  N\n"} {
		if got := printTest(t, format, nil); got != want {
			t.Errorf("%s of nothing is %q, want %q", format, got, want)
		}
	}
}
