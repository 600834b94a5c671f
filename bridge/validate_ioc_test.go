package bridge_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const sampleOpenIOC = `<?xml version="1.0"?><ioc xmlns="http://schemas.mandiant.com/2010/ioc" id="1"><definition/></ioc>`

// archive builds a ZIP; each edit may change the header of the entry before it is written.
func archive(t *testing.T, names []string, content func(i int) []byte, edit func(h *zip.FileHeader)) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i, name := range names {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		if edit != nil {
			edit(h)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		if _, err := f.Write(content(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// copies builds a ZIP in which every entry has the same content, which is compressed once.
func copies(t *testing.T, names []string, content []byte) []byte {
	t.Helper()
	var packed, buf bytes.Buffer
	deflate, err := flate.NewWriter(&packed, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deflate.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := deflate.Close(); err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(&buf)
	for _, name := range names {
		f, err := w.CreateRaw(&zip.FileHeader{
			Name: name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(content),
			CompressedSize64: uint64(packed.Len()), UncompressedSize64: uint64(len(content)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(packed.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func text(s string) func(int) []byte { return func(int) []byte { return []byte(s) } }

func named(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%d.ioc", i)
	}
	return names
}

// flagged sets bits of the general purpose flag in the local and the central header.
func flagged(data []byte, bits byte) []byte {
	data = bytes.Clone(data)
	data[6] |= bits
	data[bytes.Index(data, []byte("PK\x01\x02"))+8] |= bits
	return data
}

func TestI10ArchivesThatAreNoPlainIOCCollectionAreRefused(t *testing.T) {
	t.Parallel()
	good := archive(t, []string{"a.ioc"}, text(sampleOpenIOC), nil)
	one := func(name string) []byte { return archive(t, []string{name}, text(sampleOpenIOC), nil) }
	lying := bytes.Clone(archive(t, named(200), text("<ioc/>"), nil))
	copy(lying[len(lying)-14:], "\x05\x00\x05\x00") // the end record claims 5 entries
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"text":                  {[]byte("<ioc/>"), "is not a ZIP archive"},
		"self-extracting":       {append([]byte("MZ"), good...), "is not a ZIP archive"},
		"empty archive":         {archive(t, nil, nil, nil), "is not a ZIP archive with files"},
		"cut":                   {good[:len(good)-10], "is a damaged ZIP archive"},
		"changed content":       {append([]byte(nil), bytes.Replace(archive(t, []string{"a.ioc"}, text("<ioc/>"), func(h *zip.FileHeader) { h.Method = zip.Store }), []byte("<ioc/>"), []byte("<IOC/>"), 1)...), `holds "a.ioc", which is damaged`},
		"slip":                  {one("../a.ioc"), `holds "../a.ioc", which has a name that leads out`},
		"inner slip":            {one("a/../../b.ioc"), "leads out of the archive"},
		"absolute":              {one("/a.ioc"), "leads out of the archive"},
		"backslash":             {one(`a\..\b.ioc`), `has \ or : in its name`},
		"drive":                 {one(`C:a.ioc`), `has \ or : in its name`},
		"control in name":       {one("a\x1b.ioc"), `holds "a\x1b.ioc", which has a bad name`},
		"long name":             {one(strings.Repeat("a", 300) + ".ioc"), "name longer than 255"},
		"other file":            {one("a.exe"), `holds "a.exe", which is no .ioc or .xml file`},
		"other file beside":     {archive(t, []string{"a.ioc", "b.sh"}, text("<ioc/>"), nil), `holds "b.sh"`},
		"folders only":          {one("a/"), "holds no .ioc or .xml file"},
		"same name":             {archive(t, []string{"a.ioc", "A.ioc"}, text("<ioc/>"), nil), `holds "A.ioc" twice`},
		"encrypted":             {flagged(good, 1), `holds "a.ioc", which is encrypted`},
		"symlink":               {archive(t, []string{"a.ioc"}, text("/etc/passwd"), func(h *zip.FileHeader) { h.SetMode(fs.ModeSymlink | 0o777) }), "is a link or a device"},
		"device":                {archive(t, []string{"a.ioc"}, text(""), func(h *zip.FileHeader) { h.SetMode(fs.ModeDevice) }), "is a link or a device"},
		"nested ZIP":            {archive(t, []string{"a.ioc"}, func(int) []byte { return good }, nil), "is an archive itself"},
		"nested gzip":           {archive(t, []string{"a.xml"}, text("\x1f\x8b\x08\x00"), nil), "is an archive itself"},
		"101 entries":           {archive(t, named(101), text("<ioc/>"), nil), "holds more than 100 entries"},
		"10 000 entries":        {archive(t, named(10_000), text("<ioc/>"), func(h *zip.FileHeader) { h.Method = zip.Store }), "holds more than 100 entries"},
		"entries not counted":   {lying, "holds more than 100 entries"},
		"bomb":                  {copies(t, []string{"a.ioc"}, make([]byte, 4<<20)), "inflates to more than 100 times its size"},
		"bomb in parts":         {copies(t, named(100), make([]byte, 1<<20)), "inflates to more than 100 times"},
		"33 MiB in small parts": {copies(t, named(33), mixed(t)), "takes the archive over 32 MiB inflated"},
		"unknown method":        {method(good, 99), "is packed by method 99"},
	} {
		t.Run(name, func(t *testing.T) {
			err := bridge.IOCScan{IOC: base64.StdEncoding.EncodeToString(c.data)}.Validate()
			wantError(t, err, "params.ioc: ")
			wantError(t, err, c.want)
			_, err = bridge.EncodeIOC(bytes.NewReader(c.data))
			wantError(t, err, c.want)
		})
	}
	for name, c := range map[string]struct{ ioc, want string }{
		"empty":        {"", "params.ioc: required"},
		"path":         {`C:\iocs.zip`, "is not the base64 of a ZIP archive (a path belongs to"},
		"line breaks":  {sampleIOC[:76] + "\n" + sampleIOC[76:], "has line breaks"},
		"loose bits":   {"UEsDBB==", "is not the base64"},
		"9 MiB":        {strings.Repeat("A", 9<<20), "allowed are 8388608"},
		"6 MiB of 'A'": {strings.Repeat("A", 6<<20), "is not a ZIP archive"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, bridge.IOCScan{IOC: c.ioc}.Validate(), c.want) })
	}
}

// mixed is 1 MiB that deflate packs about 50 times: too little for the ratio, enough for the sum.
func mixed(t *testing.T) []byte {
	t.Helper()
	noise := make([]byte, 8<<10)
	random := rand.NewChaCha8([32]byte{1})
	if _, err := random.Read(noise); err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(noise, 128)
}

// method sets the compression method in both headers.
func method(data []byte, m byte) []byte {
	data = bytes.Clone(data)
	data[8] = m
	data[bytes.Index(data, []byte("PK\x01\x02"))+10] = m
	return data
}

func TestI10CheckingAnArchiveStaysInBoundedMemory(t *testing.T) {
	// What archive/zip keeps of headers and what comes out of a bomb are bounded before they are there.
	for name, data := range map[string][]byte{
		"bomb":    copies(t, named(100), mixed(t)),
		"headers": bytes.Repeat(archive(t, named(100), text(""), nil), 200),
		"entries": archive(t, named(30_000), text(""), func(h *zip.FileHeader) { h.Method = zip.Store }),
	} {
		data := data[:min(len(data), 6<<20)]
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := bridge.EncodeIOC(bytes.NewReader(data))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: allocated %d MiB", name, used>>20)
		}
	}
}

func TestEncodeIOCGivesWhatIOCScanTakes(t *testing.T) {
	t.Parallel()
	data := archive(t, []string{"set/", "set/a.ioc", "b.XML", "Ж.ioc"}, text(sampleOpenIOC), nil)
	ioc, err := bridge.EncodeIOC(iotest.OneByteReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := (bridge.IOCScan{IOC: ioc}).Validate(); err != nil {
		t.Fatal(err)
	}
	if back, err := base64.StdEncoding.DecodeString(ioc); err != nil || !bytes.Equal(back, data) {
		t.Errorf("the archive does not come back: %v", err)
	}
	if err := (bridge.IOCScan{IOC: sampleIOC}).Validate(); err != nil {
		t.Error(err)
	}
	broken := errors.New("disk gone")
	if _, err := bridge.EncodeIOC(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	_, err = bridge.EncodeIOC(io.LimitReader(zeros{}, 1<<30))
	wantError(t, err, "is larger than 6291456 bytes")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
