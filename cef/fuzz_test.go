package cef

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		head + `dhost=ws-017 filePath=C:\\Users\\Public\\a b.exe fileHash=44d88612fea8a8f36de82e1278abb02f cs1=R7 cs1Label=rule`,
		head + ` msg= leading duser= suser=x\=y  cn1=4`, head + `filePath=C:\Users\nina\x.exe`, head + `a=\\\ b=\\`, head + `a=b a=c`,
		`CEF:0|a\|b|c\\|d|e|f|10|act=blocked`, `CEF: 1|a|b|c|d|e|f|`, `CEF:0|a|b|c|d|e|5`, head + "msg=Запуск\\nфайла", "CEF:0|||||||=",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := Parse(line)
		if err != nil {
			return
		}
		if len(r.Extension) > MaxPairs || r.Version < 0 || r.Version > 1 {
			t.Fatalf("a limit does not hold: version %d, %d pairs", r.Version, len(r.Extension))
		}
		seen := map[string]bool{}
		for _, p := range r.Extension {
			if p.Key == "" || len(p.Key) > maxKey || seen[p.Key] || strings.Trim(p.Value, " ") != p.Value || !utf8.ValidString(p.Value) {
				t.Fatalf("pair %q is none, comes twice or has spaces at its ends", p)
			}
			seen[p.Key] = true
		}
		written := Append([]byte("x"), r)
		if len(written)-1 > MaxLine {
			return // escapes may push a line over the limit
		}
		again, err := Parse(written[1:])
		if err != nil {
			t.Fatalf("what Append wrote is refused: %v\n%q", err, written)
		}
		if d := cmp.Diff(r, again); d != "" {
			t.Fatalf("Append lost something (-first +second):\n%s", d)
		}
	})
}

// FuzzAppend writes records nobody parsed before: whatever stands in a value, it comes back as that value and nothing else.
func FuzzAppend(f *testing.F) {
	f.Add("Acme|\\", "name", `C:\Users\nina\`, "a=b c=d", "one\r\ntwo")
	f.Add("", "|5|x=y", `\`, `\n`, " = = ")
	f.Fuzz(func(t *testing.T, vendor, name, a, b, c string) {
		for _, s := range []string{vendor, name, a, b, c} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) || len(s) > 1<<16 {
				t.Skip()
			}
		}
		if strings.ContainsAny(vendor+name, "\r\n") {
			t.Skip()
		}
		want := Record{Vendor: vendor, Name: name}
		for i, v := range []string{a, b, c} {
			want.Extension = append(want.Extension, Pair{Key: "k" + string(rune('0'+i)), Value: strings.Trim(v, " ")})
		}
		line := Append(nil, want)
		if slices.Contains(line, '\n') || slices.Contains(line, '\r') {
			t.Fatalf("the line is broken: %q", line)
		}
		got, err := Parse(line)
		if err != nil {
			t.Fatalf("%v\n%q", err, line)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("-written +read:\n%s", d)
		}
	})
}
