package ioc

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// document is a small one that is fine.
func plain(id string) string { return v10(id, either(item("FileItem/FileName is x"))) }

func utf16le(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

// patched changes a byte in the local header and the central directory.
func patched(archive []byte, local, central int, change func(b *byte)) []byte {
	archive = bytes.Clone(archive)
	change(&archive[local])
	change(&archive[bytes.Index(archive, []byte(zipDirectory))+central])
	return archive
}

func TestI10ArchivesThatAreNoPlainIOCCollectionAreRefused(t *testing.T) {
	t.Parallel()
	one := func(name string) []byte { return pack(t, entryOf{name: name, text: plain("1")}) }
	doc := func(text string) []byte { return pack(t, entryOf{name: "a.ioc", text: text}) }
	good := one("a.ioc")
	many := make([]entryOf, 101)
	for i := range many {
		many[i] = entryOf{name: fmt.Sprintf("%d.ioc", i), text: plain(fmt.Sprint(i))}
	}
	lying := bytes.Clone(pack(t, many...))
	copy(lying[len(lying)-14:], "\x05\x00\x05\x00") // the end record claims 5 entries
	// 1 MiB that packs about 50 times: too little for the ratio.
	filler := "<!--" + strings.Repeat(strings.Repeat("0123456789abcdef", 16)+"+", 250) + "-->"
	large := strings.Replace(plain("L"), "</ioc>", strings.Repeat(filler, 15)+"</ioc>", 1)
	var heavy []entryOf
	for i := range 11 {
		heavy = append(heavy, entryOf{name: fmt.Sprintf("%d.ioc", i), text: strings.Replace(large, `id="L"`, fmt.Sprintf(`id="%d"`, i), 1)})
	}
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"empty":                {nil, "is not a ZIP archive"},
		"text":                 {[]byte(plain("1")), "is not a ZIP archive"},
		"self-extracting":      {append([]byte("MZ"), good...), "is not a ZIP archive"},
		"no entries":           {pack(t), "is not a ZIP archive with files"},
		"cut":                  {good[:len(good)-10], "is a damaged ZIP archive"},
		"changed content":      {bytes.Replace(pack(t, entryOf{name: "a.ioc", text: plain("1"), store: true}), []byte("FileName"), []byte("FileNamE"), 1), `holds a.ioc, which is damaged`},
		"7 MiB":                {append(bytes.Clone(good), make([]byte, 7<<20)...), "allowed are"},
		"slip":                 {one("../a.ioc"), "holds ../a.ioc, which has a name that leads out"},
		"inner slip":           {one("a/../../b.ioc"), "leads out of the archive"},
		"absolute":             {one("/a.ioc"), "leads out of the archive"},
		"backslash":            {one(`a\..\b.ioc`), `has \ or : in its name`},
		"drive":                {one(`C:a.ioc`), `has \ or : in its name`},
		"escape in name":       {one("a\x1b[2J.ioc"), `holds "a\x1b[2J.ioc", which has a name that is no plain text`},
		"bidi in name":         {one("a\u202ecoi.ioc"), "no plain text"},
		"bytes in name":        {one("a\xff.ioc"), "no plain text"},
		"long name":            {one(strings.Repeat("a", 300) + ".ioc"), "name longer than 255"},
		"other file":           {one("a.exe"), "holds a.exe, which is no .ioc or .xml file"},
		"other file beside":    {pack(t, entryOf{name: "a.ioc", text: plain("1")}, entryOf{name: "b.sh"}), "holds b.sh"},
		"folders only":         {pack(t, entryOf{name: "a/"}), "holds no .ioc or .xml file"},
		"same name":            {pack(t, entryOf{name: "a.ioc", text: plain("1")}, entryOf{name: "A.ioc", text: plain("2")}), "holds A.ioc twice"},
		"same id":              {pack(t, entryOf{name: "a.ioc", text: plain("Id")}, entryOf{name: "b.ioc", text: plain("iD")}), "holds b.ioc, which has the id iD of a.ioc"},
		"encrypted":            {patched(good, 6, 8, func(b *byte) { *b |= 1 }), "holds a.ioc, which is encrypted"},
		"method":               {patched(good, 8, 10, func(b *byte) { *b = 99 }), "is packed by method 99"},
		"symlink":              {pack(t, entryOf{name: "a.ioc", text: "/etc/passwd", mode: fs.ModeSymlink | 0o777}), "holds a.ioc, which is a link or a device"},
		"device":               {pack(t, entryOf{name: "a.ioc", mode: fs.ModeDevice | 0o600}), "is a link or a device"},
		"nested ZIP":           {pack(t, entryOf{name: "a.ioc", text: string(good)}), "holds a.ioc, which is an archive itself"},
		"nested gzip":          {doc("\x1f\x8b\x08\x00"), "is an archive itself"},
		"101 entries":          {pack(t, many...), "holds more than 100 entries"},
		"entries not counted":  {lying, "holds more than 100 entries"},
		"bomb":                 {doc(strings.Repeat(" ", 1<<20) + plain("1")), "holds a.ioc, which inflates to too many times its size"},
		"bomb behind the end":  {doc(plain("1") + strings.Repeat("\n", 1<<20)), "inflates to too many times its size"},
		"3 MiB":                {pack(t, entryOf{name: "a.ioc", text: strings.Replace(plain("1"), "</ioc>", strings.Repeat(filler, 50)+"</ioc>", 1), store: true}), "is larger than 2097152 bytes"},
		"11 MiB":               {pack(t, heavy...), "takes the archive over its limit of inflated bytes"},
		"empty file":           {doc(""), "is no OpenIOC document"},
		"no XML":               {doc("evil"), "is no OpenIOC document"},
		"another root":         {doc("<stix><definition/></stix>"), "is no OpenIOC document"},
		"root of another case": {doc("<IOC id='1'><definition><Indicator/></definition></IOC>"), "is no OpenIOC document"},
		"no id":                {doc(strings.Replace(plain("1"), `id="1"`, "", 1)), "has no id"},
		"long id":              {doc(plain(strings.Repeat("a", 300))), "has an id of more than 256 bytes"},
		"no definition":        {doc(`<ioc id="1"><criteria><Indicator/></criteria></ioc>`), "has no definition"},
		"two definitions":      {doc(`<ioc id="1"><definition><Indicator operator="OR"/></definition><definition/></ioc>`), "has two elements definition"},
		"second root":          {doc(plain("1") + plain("2")[len(`<?xml version="1.0"?>`):]), "goes on after its root"},
		"text behind":          {doc(plain("1") + "x"), "goes on after its root"},
		"cut XML":              {doc(plain("1")[:200]), "is damaged XML in line 1"},
		"crossed tags":         {doc(`<ioc id="1"><a><b></a></b></ioc>`), "is damaged XML"},
		"two contents":         {doc(v10("1", either(strings.Replace(item("FileItem/FileName is x"), "</IndicatorItem>", `<Content>y</Content></IndicatorItem>`, 1)))), "two elements Content"},
		"tags in a content":    {doc(v10("1", either(strings.Replace(item("FileItem/FileName is x"), ">x<", "><b>x</b><", 1)))), "has the element b where only text belongs"},
		"long content":         {doc(v10("1", either(item("FileItem/FileName is "+strings.Repeat("ab", 3000))))), "value of more than 4096 bytes"},
		"long tag":             {pack(t, entryOf{name: "a.ioc", text: "<ioc " + strings.Repeat(`a="" `, 100_000) + "/>", store: true}), "has a tag or text of more than"},
		"deep":                 {doc(v10("1", strings.Repeat(`<Indicator operator="OR">`, 70)+strings.Repeat("</Indicator>", 70))), "nests its elements too deep"},
		"deep elsewhere":       {doc(strings.Replace(plain("1"), "<definition>", strings.Repeat("<a>", 70)+strings.Repeat("</a>", 70)+"<definition>", 1)), "nests its elements too deep"},
		"entity":               {doc(strings.Replace(plain("1"), ">x<", ">&evil;<", 1)), "uses an entity in line 1"},
		"doctype":              {doc(`<!DOCTYPE ioc [<!ENTITY a "b">]>` + plain("1")), "has a DOCTYPE"},
		"external entity":      {doc(`<!DOCTYPE ioc [<!ENTITY a SYSTEM "file:///etc/passwd">]>` + strings.Replace(plain("1"), ">x<", ">&a;<", 1)), "has a DOCTYPE"},
		"billion laughs":       {doc(`<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><ioc id="1">&b;</ioc>`), "has a DOCTYPE"},
		"Latin 1":              {doc(strings.Replace(plain("1"), `version="1.0"`, `version="1.0" encoding="iso-8859-1"`, 1)), "is not UTF-8"},
		"UTF-16":               {doc(utf16le(plain("1"))), "is not UTF-8"},
		"UTF-16 without mark":  {doc(utf16le(plain("1"))[2:]), "is not UTF-8"},
		"bytes":                {doc(strings.Replace(plain("1"), ">x<", ">\xff<", 1)), "is not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := Limits{}
			if name == "11 MiB" {
				limits.Ratio = 1000 // the sum is what is to be refused
			}
			docs, err := Read(c.archive, limits)
			if err == nil {
				t.Fatalf("%d documents were read", len(docs))
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q, want %q", err, c.want)
			}
			if v := verdict.Of(err); v.Class != bridge.Permanent || v.Reason != bridge.ReasonInvalid {
				t.Errorf("%v %q, want permanent and invalid", v.Class, v.Reason)
			}
			if strings.ContainsAny(err.Error(), "\x1b\u202e") || !utf8.ValidString(err.Error()) {
				t.Errorf("error %q deceives terminals", err)
			}
		})
	}
}

func TestI10TermsOfAllDocumentsAreCounted(t *testing.T) {
	t.Parallel()
	term := item("FileItem/FileName is x")
	archive := pack(t, entryOf{name: "a.ioc", text: v10("1", either(strings.Repeat(term, 4)))}, entryOf{name: "b.ioc", text: v10("2", either(strings.Repeat(term, 4)))})
	if _, err := Read(archive, Limits{Terms: 9}); err == nil || !strings.Contains(err.Error(), "holds b.ioc, which takes the archive over its limit of terms") {
		t.Errorf("error %v", err)
	}
	docs, err := Read(archive, Limits{Terms: 10})
	if err != nil || docs[0].Terms() != 4 || docs[1].Terms() != 4 {
		t.Errorf("%v, %v", docs, err)
	}
}

func TestLimitsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for _, l := range []Limits{{Archive: -1}, {File: -1}, {Inflated: -1}, {Entries: -1}, {Ratio: -1}, {Depth: -1}, {Depth: 65}, {Terms: -1}} {
		if _, err := Read(pack(t, entryOf{name: "a.ioc", text: plain("1")}), l); err == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

func TestBothVersionsAreRead(t *testing.T) {
	t.Parallel()
	var entries []entryOf
	for _, name := range []string{"dropper-1.0.ioc", "beacon-1.1.ioc"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entryOf{name: "set/" + name, text: "\xef\xbb\xbf" + string(b) + "\n<!-- end -->\n"})
	}
	entries = append(entries, entryOf{name: "set/", mode: fs.ModeDir | 0o755}, entryOf{name: "Ж.XML", text: plain("3")})
	docs, err := Read(pack(t, entries...), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	type summary struct {
		id, name, entry string
		version         Version
		terms           int
	}
	var got []summary
	for _, d := range docs {
		got = append(got, summary{d.ID, d.Name, d.Entry, d.Version, d.Terms()})
	}
	want := []summary{
		{"0d5e2f0a-6c51-4f43-9a2f-3f5a0f8a1001", "Dropper in a temporary folder", "set/dropper-1.0.ioc", Version10, 5},
		{"0d5e2f0a-6c51-4f43-9a2f-3f5a0f8a1002", "Beacon with a listener", "set/beacon-1.1.ioc", Version11, 4},
		{"3", "3", "Ж.XML", Version10, 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEntriesAreReadWhateverTheirHeadersSay(t *testing.T) {
	t.Parallel()
	// A header that claims another size does not make more or less come out.
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	text := plain("1")
	f, err := w.CreateRaw(&zip.FileHeader{Name: "a.ioc", Method: zip.Store, CompressedSize64: uint64(len(text)), UncompressedSize64: 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(buf.Bytes(), Limits{}); err == nil {
		t.Error("a header that lies was taken")
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"dropper-1.0.ioc", "beacon-1.1.ioc"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pack(f, entryOf{name: name, text: string(b)}), string(b))
	}
	f.Add([]byte("PK\x03\x04"), `<ioc id="1"><definition><Indicator operator="AND"/></definition></ioc>`)
	f.Fuzz(func(t *testing.T, archive []byte, text string) {
		limits := Limits{Terms: 1000}
		for _, a := range [][]byte{archive, pack(t, entryOf{name: "a.ioc", text: text})} {
			docs, err := Read(a, limits)
			if err != nil {
				if v := verdict.Of(err); v.Class != bridge.Permanent {
					t.Errorf("class %v", v.Class)
				}
				continue
			}
			terms := 0
			for _, d := range docs {
				if d.ID == "" || d.Entry == "" || d.Version != Version10 && d.Version != Version11 {
					t.Errorf("document %+v", d)
				}
				terms += d.Terms()
			}
			if len(docs) == 0 || terms > limits.Terms {
				t.Errorf("%d documents with %d terms", len(docs), terms)
			}
			q, report := Compile(docs)
			if report.Terms != terms || report.Documents != len(docs) {
				t.Errorf("report %+v of %d terms", report, terms)
			}
			evaluate(q, thing(t, "FileItem/FileName=x", "FileItem/SizeInBytes=1"), thing(t, "ProcessItem/name=x"))
		}
	})
}
