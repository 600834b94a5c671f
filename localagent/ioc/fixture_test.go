package ioc

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// entryOf is an entry of an archive a test packs.
type entryOf struct {
	name, text string
	mode       fs.FileMode
	store      bool
}

// pack makes a ZIP archive.
func pack(t testing.TB, entries ...entryOf) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.store {
			h.Method = zip.Store
		}
		if e.mode != 0 {
			h.SetMode(e.mode)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// item writes a term of OpenIOC: "FileItem/FileName is evil.bin", with the attributes of 1.1 behind the condition: "is+negate".
func item(line string) string {
	search, rest, _ := strings.Cut(line, " ")
	condition, content, _ := strings.Cut(rest, " ")
	condition, flags, _ := strings.Cut(condition, "+")
	var attrs strings.Builder
	for _, f := range []string{"negate", "preserve-case"} {
		if strings.Contains(flags, f) {
			attrs.WriteString(" " + f + `="true"`)
		}
	}
	kind, _, _ := strings.Cut(search, "/")
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(content)
	return fmt.Sprintf(`<IndicatorItem id="%s" condition="%s"%s><Context document="%s" search="%s" type="mir"/><Content type="string">%s</Content></IndicatorItem>`,
		search, condition, attrs.String(), kind, search, escaped)
}

// all and either join terms and groups.
func all(parts ...string) string {
	return `<Indicator operator="AND">` + strings.Join(parts, "") + `</Indicator>`
}

func either(parts ...string) string {
	return `<Indicator operator="OR">` + strings.Join(parts, "") + `</Indicator>`
}

func items(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(item(l))
	}
	return b.String()
}

func v10(id, criteria string) string {
	return `<?xml version="1.0"?><ioc xmlns="http://schemas.mandiant.com/2010/ioc" id="` + id + `"><short_description>` + id +
		`</short_description><definition>` + criteria + `</definition></ioc>`
}

func v11(id, criteria string) string {
	return `<?xml version="1.0" encoding="utf-8"?><OpenIOC xmlns="http://openioc.org/schemas/OpenIOC_1.1" id="` + id +
		`"><metadata><short_description>` + id + `</short_description></metadata><criteria>` + criteria + `</criteria></OpenIOC>`
}

// query reads and compiles documents.
func query(t testing.TB, documents ...string) (*Query, Report) {
	t.Helper()
	var entries []entryOf
	for i, d := range documents {
		entries = append(entries, entryOf{name: fmt.Sprintf("%03d.ioc", i), text: d})
	}
	docs, err := Read(pack(t, entries...), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return Compile(docs)
}

// thing makes an object: "FileItem/FileName=evil.bin". Numbers, times and durations are written as results have them.
func thing(t testing.TB, values ...string) *object {
	t.Helper()
	var o *object
	for _, v := range values {
		search, value, _ := strings.Cut(v, "=")
		kind, name, _ := strings.Cut(search, "/")
		k, ok := kindOf(kind)
		if !ok {
			t.Fatalf("no kind %s", kind)
		}
		if o == nil {
			o = newObject(k)
		}
		at, ok := fieldOf(k, name)
		if !ok {
			t.Fatalf("no field %s", search)
		}
		switch s := fields(k)[at].shape; s {
		case moment:
			when, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				t.Fatal(err)
			}
			o.moment(at, when)
		case span:
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			o.span(at, d)
		case number:
			i, err := parsePoint(number, value)
			if err != nil {
				t.Fatal(err)
			}
			o.number(at, i.low)
		case address:
			o.address(at, netip.MustParseAddr(value))
		default:
			o.text(at, value)
		}
	}
	return o
}

// evaluate judges objects as a scan would, without a machine.
func evaluate(q *Query, objects ...*object) Result {
	s := &scan{q: q, cfg: Config{MaxRecords: defaultRecords}, judge: newJudge(q, defaultRecords), skipped: map[string]*Skipped{}}
	seen := map[Kind]bool{}
	for _, k := range q.Kinds() {
		s.judge.begin(k, seen)
		c := s.judge.clerk(k)
		for _, o := range objects {
			if o.kind != k {
				continue
			}
			c.look(c.ix.early, o)
			c.look(c.ix.late, o)
			c.settle(func() *Record { return newRecord(o) })
		}
		seen[k] = true
	}
	s.finish()
	return s.result
}

// ids returns the documents that match.
func ids(r Result) []string {
	list := []string{}
	for _, m := range r.Matches {
		list = append(list, string(m.ID))
	}
	return list
}

// write makes a file with its folders.
func write(t testing.TB, name, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// collected runs a collector and returns the records it hands over.
func collected(t *testing.T, k Kind, h host) []*Record {
	t.Helper()
	if h.now == nil {
		h.now = time.Now
	}
	var list []*Record
	err := collectorOf(k)(t.Context(), h, newObject(k), func(o *object) {
		list = append(list, newRecord(o))
		o.clear()
	})
	if err != nil {
		t.Fatalf("%s: %v", k, err)
	}
	return list
}

// find returns the record whose field has the value.
func find(t *testing.T, list []*Record, field, value string) *Record {
	t.Helper()
	for _, r := range list {
		for _, v := range r.Fields[field] {
			if string(v) == value {
				return r
			}
		}
	}
	t.Fatalf("no record with %s = %s among %d", field, value, len(list))
	return nil
}
