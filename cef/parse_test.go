package cef

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// head is a header for lines whose extension matters.
const head = "CEF:0|Vendor|Product|1.0|100|Name|5|"

func TestParseReadsTheFormsProductsWrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, line string
		want       Record
	}{
		{
			"every field and a value that ends the line", `CEF:0|Acme|Shield|7.2|MAL-1|Malware found|8|dhost=ws-017 dst=10.0.0.7 msg=removed at once`,
			Record{0, "Acme", "Shield", "7.2", "MAL-1", "Malware found", "8", []Pair{{"dhost", "ws-017"}, {"dst", "10.0.0.7"}, {"msg", "removed at once"}}},
		},
		{
			"version 1, no extension, empty header fields", `CEF:1||P|||n|Very-High|`,
			Record{1, "", "P", "", "", "n", "Very-High", nil},
		},
		{"a space before the version", `CEF: 0|a|b|c|d|e|f|k=v`, Record{0, "a", "b", "c", "d", "e", "f", []Pair{{"k", "v"}}}},
		{"spaces for an extension", "CEF:0|a|b|c|d|e|f|   ", Record{0, "a", "b", "c", "d", "e", "f", nil}},
		{
			"escapes of the header", `CEF:0|a\|b|c\\|d\=|e\\\|f|\\|5|`,
			Record{0, "a|b", `c\`, `d\=`, `e\|f`, `\`, "5", nil},
		},
		{"a header that does not escape backslashes", `CEF:0|C:\Tools\|x|b|c|d|e|f|`, Record{0, `C:\Tools|x`, "b", "c", "d", "e", "f", nil}},
		{"a pipe in the extension", head + `cmd=a | b c=d`, record("cmd", "a | b", "c", "d")},
		{"escapes of a value", head + `a=x\=y b=C:\\Users\\nina c=one\ntwo\r\nthree d=\\n`, record("a", "x=y", "b", `C:\Users\nina`, "c", "one\ntwo\r\nthree", "d", `\n`)},
		{"missing values", head + `duser= suser= fname=`, record("duser", "", "suser", "", "fname", "")},
		{"a leading space of a value and of the extension", head + ` msg= text here src=::1`, record("msg", "text here", "src", "::1")},
		{"repeated spaces", head + `a=1   b=two  words   c=3  `, record("a", "1", "b", "two  words", "c", "3")},
		{"equals signs that are no keys", head + `request=http://x/?a=b&c=d cs1=QUJD== end=1`, record("request", "http://x/?a=b&c=d", "cs1", "QUJD==", "end", "1")},
		{"options of a command line", head + `cmd=powershell -enc=AAA --x=y /z=1 ok=2`, record("cmd", "powershell -enc=AAA --x=y /z=1", "ok", "2")},
		{"keys with odd letters", head + `_cefVer=0.1 ad.user=x list[0]=y my-key=z`, record("_cefVer", "0.1", "ad.user", "x", "list[0]", "y", "my-key", "z")},
		{"backslashes nobody escaped", head + `filePath=C:\Users\nina\rob.exe fname=a\=b dir=C:\Temp\ last=D:\`, record("filePath", `C:\Users\nina\rob.exe`, "fname", "a=b", "dir", `C:\Temp\`, "last", `D:\`)},
		{"an escaped key is text", head + `msg=set x\=1 and y\=2`, record("msg", "set x=1 and y=2")},
		{"a tab belongs to the value", head + "a=x\ty b=1", record("a", "x\ty", "b", "1")},
		{"letters beyond ASCII", head + `msg=Запуск файла dhost=бух-1`, record("msg", "Запуск файла", "dhost", "бух-1")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(c.line))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("Parse (-want +got):\n%s", d)
			}
			again, err := Parse(Append(nil, got))
			if err != nil {
				t.Fatalf("what Append wrote is refused: %v", err)
			}
			if d := cmp.Diff(got, again); d != "" {
				t.Errorf("after Append (-first +second):\n%s", d)
			}
		})
	}
}

// record has the header of head and the pairs given one after another.
func record(kv ...string) Record {
	r := Record{Vendor: "Vendor", Product: "Product", DeviceVersion: "1.0", ClassID: "100", Name: "Name", Severity: "5"}
	for i := 0; i < len(kv); i += 2 {
		r.Extension = append(r.Extension, Pair{kv[i], kv[i+1]})
	}
	return r
}

func TestParseRefusesWhatIsNotOneWholeRecord(t *testing.T) {
	t.Parallel()
	many := func(n int) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			fmt.Fprintf(&b, "k%d=v ", i)
		}
		return b.String()
	}
	if _, err := Parse([]byte(many(MaxPairs))); err != nil {
		t.Fatalf("%d pairs are refused: %v", MaxPairs, err)
	}
	for _, c := range []struct{ name, line, want string }{
		{"nothing", "", "does not begin"},
		{"a syslog header in front", "<134>Nov 20 10:00:00 h CEF:0|a|b|c|d|e|f|", "does not begin"},
		{"a space in front", " " + head, "does not begin"},
		{"small letters", "cef:0|a|b|c|d|e|f|", "does not begin"},
		{"a header without its last pipe", "CEF:0|a|b|c|d|e|5", "has 6 fields, want 7"},
		{"a pipe that is escaped", `CEF:0|a|b|c|d|e|5\|`, "has 6 fields"},
		{"only the prefix", "CEF:", "has 0 fields"},
		{"another version", "CEF:2|a|b|c|d|e|f|", "version"},
		{"no version", "CEF:|a|b|c|d|e|f|", "version"},
		{"a NUL", head + "a=b\x00", "NUL"},
		{"a line break", head + "a=b\nCEF:0|", "line break"},
		{"a carriage return", head + "a=b\r", "line break"},
		{"bytes that are not UTF-8", head + "a=\xff", "UTF-8"},
		{"half a surrogate pair", head + "a=\xed\xa0\x80", "UTF-8"},
		{"a key given twice", head + "dhost=a src=1 dhost=b", `"dhost" is given twice`},
		{"a key given twice among many", many(200) + "k7=x", `"k7" is given twice`},
		{"a late key given twice among many", many(200) + "k190=x", `"k190" is given twice`},
		{"a key given twice at the border of many", many(fewPairs) + "k0=x", `"k0" is given twice`},
		{"too many pairs", many(MaxPairs + 1), "more than 1024 pairs"},
		{"a long key", head + strings.Repeat("k", maxKey+1) + "=v", "has 129 bytes"},
		{"text before the first key", head + "hello a=b", "begins with text"},
		{"text and no key", head + "hello", "no key"},
		{"text with an equals sign and no key", head + "/a=b", "no key"},
		{"a line over the limit", head + "a=" + strings.Repeat("x", MaxLine), "at most 1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(c.line))
			if err == nil {
				t.Fatalf("Parse returned %.200v, want an error", got)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q, want %q in it", err, c.want)
			}
			if len(err.Error()) > 200 {
				t.Errorf("error has %d bytes: it quotes too much of the line", len(err.Error()))
			}
			if d := cmp.Diff(Record{}, got); d != "" {
				t.Errorf("a record comes with the error:\n%s", d)
			}
		})
	}
}

func TestParseReadsALineOfTheLargestSize(t *testing.T) {
	t.Parallel()
	line := []byte(head + "a=")
	line = append(line, strings.Repeat("=", MaxLine-len(line))...)
	r, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := r.Get("a"); len(v) != MaxLine-len(head)-2 {
		t.Errorf("value has %d bytes, want %d", len(v), MaxLine-len(head)-2)
	}
}

func TestParseKeepsNothingOfTheLine(t *testing.T) {
	t.Parallel()
	line := []byte(head + `dhost=ws-017`)
	r, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	clear(line)
	if v, _ := r.Get("dhost"); v != "ws-017" {
		t.Errorf("dhost turned into %q when the line was overwritten", v)
	}
}

func TestLabelledFindsTheValueByItsLabel(t *testing.T) {
	t.Parallel()
	r := record("cs4Label", "processSha1", "cs4", "ab12", "cn1", "7", "cn1Label", "Score", "c6a2Label", "peer", "c6a2", "::1",
		"cs1Label", "Twice", "cs1", "x", "cs2Label", "twice", "cs2", "y", "cs3Label", "TWICE", "cs3", "z",
		"cs5Label", "gone", "cs6Label", "same", "cs6", "1", "cs7Label", "same", "cs7", "2", "cs8Label", "Same", "cs8", "3", "cs9", "", "cs9Label", "empty", "Label", "none", "", "odd")
	for _, c := range []struct {
		label, want string
		ok          bool
	}{
		{"processSha1", "ab12", true},
		{"PROCESSSHA1", "ab12", true},
		{"score", "7", true},
		{"peer", "::1", true},
		{"twice", "y", true},
		{"tWiCe", "", false},
		{"gone", "", false},
		{"same", "", false},
		{"Same", "3", true},
		{"empty", "", true},
		{"none", "", false},
		{"unknown", "", false},
	} {
		got, ok := r.Labelled(c.label)
		if got != c.want || ok != c.ok {
			t.Errorf("Labelled(%q) = %q, %t, want %q, %t", c.label, got, ok, c.want, c.ok)
		}
	}
}

func TestGetTellsAnEmptyValueFromNone(t *testing.T) {
	t.Parallel()
	r := record("duser", "")
	if v, ok := r.Get("duser"); v != "" || !ok {
		t.Errorf("Get(duser) = %q, %t, want an empty value", v, ok)
	}
	if _, ok := r.Get("Duser"); ok {
		t.Error("Get does not heed the case of a key")
	}
}
