package yamltree

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// told reads the text and returns its problems, a line each.
func told(text string, read func(*File, *Node)) string {
	f := &File{}
	if root := f.Parse([]byte(text)); root != nil {
		read(f, root)
	}
	var lines []string
	for _, p := range f.Sorted() {
		lines = append(lines, fmt.Sprintf("%d:%d %s", p.Line, p.Column, p.Message))
	}
	return strings.Join(lines, "\n")
}

func TestNodesKnowTheirKindValueAndPlace(t *testing.T) {
	t.Parallel()
	f := &File{}
	root := f.Parse([]byte("text: a b\r\nblock: |\r  x\r\n" + "whole: 0x10\nless: -3\nfraction: 1.50\nendless: .inf\nyes: true\nnone: ~\nempty:\nlist: [a, 1]\nflow: {k: v}\nquoted: \"7\"\n"))
	entries, ok := f.Entries(root, "the file", nil)
	if !ok || len(f.Problems) > 0 {
		t.Fatal(f.Problems)
	}
	var got []string
	for _, e := range entries {
		n := e.Value
		got = append(got, fmt.Sprintf("%d:%d %s = %d:%d %s %T %v %q", e.Place.Line, e.Place.Column, e.Key, n.Place.Line, n.Place.Column, n.Kind, n.Value, n.Value, n.Written))
	}
	want := []string{
		`1:1 text = 1:7 text string a b ""`,
		`2:1 block = 2:8 text string x` + "\n" + ` ""`,
		`4:1 whole = 4:8 a number uint64 16 "0x10"`,
		`5:1 less = 5:7 a number int64 -3 "-3"`,
		`6:1 fraction = 6:11 a number float64 1.5 "1.50"`,
		`7:1 endless = 7:10 infinity or no number <nil> <nil> ""`,
		`8:1 yes = 8:6 true or false bool true "true"`,
		`9:1 none = 9:7 nothing <nil> <nil> ""`,
		`10:1 empty = 10:7 nothing <nil> <nil> ""`,
		`11:1 list = 11:7 a list <nil> <nil> ""`,
		`12:1 flow = 12:7 a mapping <nil> <nil> ""`,
		`13:1 quoted = 13:9 text string 7 ""`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if root.Place != (Place{1, 1}) {
		t.Error(root.Place)
	}
}

func TestAFileMeansWhatItShows(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a: &x 1\nb: *x\n":           "1:4 anchors, aliases, merge keys and tags are not used here: write the value out\n2:4 anchors, aliases, merge keys and tags are not used here: write the value out",
		"a: !!str 1\n":               "1:4 anchors, aliases, merge keys and tags are not used here: write the value out",
		"a: {<<: {b: c}}\n":          "1:5 anchors, aliases, merge keys and tags are not used here: write the value out",
		"a: 1\n---\nb: 2\n":          "3:1 a second YAML document: put everything into one",
		"\xff":                       "1:1 the file is not UTF-8 text",
		strings.Repeat("[", 40):      "1:33 nested more than 32 levels deep",
		strings.Repeat("- ", 40):     "1:65 nested more than 32 levels deep",
		strings.Repeat("# x\n", 3e5): "1:1 the file is larger than 1048576 bytes: split it",
		"":                           "",
		"# nothing\n":                "",
	} {
		if got := told(text, func(*File, *Node) {}); got != want {
			t.Errorf("%.40q:\n%s\nwant\n%s", text, got, want)
		}
	}
	if got := told("a: [\n", func(*File, *Node) {}); !strings.HasPrefix(got, "1:4 ") {
		t.Errorf("broken: %q", got)
	}
}

func TestEveryMistakeIsToldWhereItStands(t *testing.T) {
	t.Parallel()
	got := told("name: 7\nnsme: x\nname: again\n1: x\nlist: text\nmap: [a]\ntruth: maybe\nlast:\n", func(f *File, root *Node) {
		entries, _ := f.Entries(root, "the file", []string{"name", "list", "map", "truth", "last"})
		for _, e := range entries {
			switch e.Key {
			case "name", "last":
				f.Text(e.Value, e.Key)
			case "list":
				f.Items(e.Value, "list")
			case "map":
				f.Entries(e.Value, "map", nil)
			case "truth":
				f.Bool(e.Value, "truth")
			}
		}
	})
	want := strings.Join([]string{
		`1:7 name must be text: put 7 in quotes`,
		`2:1 unknown field "nsme", did you mean "name"?`,
		`3:1 key "name" is given twice, first in line 1`,
		`4:1 the key must be text`,
		`5:7 list must be a list, not text`,
		`6:6 map must be a mapping of keys to values, not a list`,
		`7:8 truth must be true or false, not text`,
		`8:7 last must be text, not nothing`,
	}, "\n")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestProblemsEndSomewhere(t *testing.T) {
	t.Parallel()
	var f File
	for range 10 * MaxProblems {
		f.Fail(nil, "x")
	}
	if len(f.Problems) != MaxProblems {
		t.Error(len(f.Problems))
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a: 1\n", "- {a: b, ? c : d}\n", "a: |\n  x\n", "? [a]\n: b\n", "a:\n- b\n- - c\n", "%YAML 1.2\n---\na: b\n", "a: 'x\n\n  y'\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var file File
		root := file.Parse(data)
		if root != nil && len(file.Problems) > 0 {
			t.Error("a root beside problems")
		}
		if root != nil {
			walk(t, &file, root)
		}
	})
}

func walk(t *testing.T, f *File, n *Node) {
	t.Helper()
	switch n.Kind {
	case Map:
		entries, _ := f.Entries(n, "n", nil)
		for _, e := range entries {
			walk(t, f, e.Value)
		}
	case List:
		items, _ := f.Items(n, "n")
		for _, item := range items {
			walk(t, f, item)
		}
	case Text:
		if _, ok := f.Text(n, "n"); !ok {
			t.Error("a text that is none")
		}
	}
}
