package scan

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// marker is what the tests call malware where the EICAR test file, which must stand at the beginning, will not do.
const marker = "edr-bridge test marker, harmless: 7d1c"

// markerLine is its signature in ClamAV's form.
var markerLine = fmt.Sprintf("Marker:0:*:%x\n", marker)

func newScanner(t testing.TB, cfg Config) *Scanner {
	t.Helper()
	if cfg.Roots.Proc == "" {
		cfg.Roots.Proc = t.TempDir()
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// builtinWith is the built-in engine with the signatures in text.
func builtinWith(t testing.TB, text string) *builtin {
	t.Helper()
	sigs, err := parseSignatures(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return newBuiltin(sigs, "test", time.Time{})
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func tempFile(t testing.TB, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, content)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// zipped packs one file.
func zipped(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	w, err := z.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// testEngine is what every engine must pass that knows EICAR and markerLine.
func testEngine(t *testing.T, e Engine, suffix string) {
	t.Helper()
	eicars, markers := "Eicar", "Marker"+suffix
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"text", []byte("harmless"), ""},
		{"eicar", eicar(), eicars},
		{"marker at the beginning", []byte(marker), markers},
		{"marker at the end", append(bytes.Clone(big[:100_000]), marker...), markers},
		{"half a marker", append(bytes.Clone(big), marker[:20]...), ""},
		{"zip with eicar", zipped(t, "inner.com", eicar()), eicars},
		{"zip with marker", zipped(t, "inner.txt", append(bytes.Clone(big[:100_000]), marker...)), markers},
		{"zip in zip with eicar", zipped(t, "inner.zip", zipped(t, "inner.com", eicar())), eicars},
		{"zip with text", zipped(t, "inner.txt", big[:1000]), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tempFile(t, tt.content)
			// The offset of the descriptor must not matter.
			if _, err := f.Seek(5, 0); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				v, err := e.Scan(t.Context(), f, FileInfo{Path: f.Name(), Size: int64(len(tt.content))})
				if err != nil {
					t.Fatal(err)
				}
				if tt.want == "" && v.State != Clean || tt.want != "" && (v.State != Infected || !strings.HasPrefix(v.Signature, tt.want)) {
					t.Fatalf("got %+v, want %q", v, tt.want)
				}
			}
		})
	}
}

func TestBuiltInEngineFindsWhatClamdFinds(t *testing.T) {
	t.Parallel()
	e := builtinWith(t, markerLine)
	testEngine(t, e, "")
	info, err := e.Info(t.Context())
	if err != nil || info.Signatures != "2 signatures" || info.MaxFile != 0 {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestBuiltInEngineFindsPatternsAcrossWindows(t *testing.T) {
	t.Parallel()
	e := builtinWith(t, markerLine+"Fixed:0:300000:"+fmt.Sprintf("%x", "fixed place")+"\n"+"Holes:0:*:"+fmt.Sprintf("%x", "head")+"????"+fmt.Sprintf("%x", "tail")+"\n")
	for _, at := range []int{0, 1, 2, 3, 4, 5, window - len(marker), window - len(marker) + 1, window - 20, window - 1, window, window + 1, 2*window - 7} {
		content := append(bytes.Repeat([]byte{0x90}, at), marker...)
		content = append(content, 1, 2, 3)
		v, err := e.Scan(t.Context(), tempFile(t, content), FileInfo{Size: int64(len(content))})
		if err != nil || v.Signature != "Marker" {
			t.Errorf("marker at %d: got %+v, %v", at, v, err)
		}
	}
	// The longest pattern decides how much is kept of the window before; its varied end is its anchor.
	long := append(bytes.Repeat([]byte{7}, 300), "last of it"...)
	e2 := builtinWith(t, fmt.Sprintf("Long:0:*:%x\n", long))
	for at := window - len(long) - 1; at <= window+1; at++ {
		name, _, err := e2.stream(t.Context(), bytes.NewReader(append(make([]byte, at), long...)))
		if err != nil || name != "Long" {
			t.Fatalf("long pattern at %d: got %q, %v", at, name, err)
		}
	}
	for _, tt := range []struct {
		at   int
		text string
		want State
	}{
		{300000, "fixed place", Infected},
		{300001, "fixed place", Clean},
		{299999, "fixed place", Clean},
		{window - 5, "headXYtail", Infected},
		{window - 5, "headXYZtail", Clean},
	} {
		content := append(make([]byte, tt.at), tt.text...)
		v, err := e.Scan(t.Context(), tempFile(t, content), FileInfo{Size: int64(len(content))})
		if err != nil || v.State != tt.want {
			t.Errorf("%q at %d: got %+v, %v, want %s", tt.text, tt.at, v, err, tt.want)
		}
	}
}

func TestBuiltInEngineFindsDigests(t *testing.T) {
	t.Parallel()
	one, two := []byte("content one"), bytes.Repeat([]byte("content two "), 50_000)
	e := builtinWith(t, fmt.Sprintf("%x:%d:One\n%x:*:Two:73\n%x:7:WrongSize\n", md5.Sum(one), len(one), sha256.Sum256(two), md5.Sum([]byte("three"))))
	for _, tt := range []struct {
		content []byte
		want    string
	}{{one, "One"}, {two, "Two"}, {[]byte("three"), ""}, {zipped(t, "x", two), "Two"}} {
		v, err := e.Scan(t.Context(), tempFile(t, tt.content), FileInfo{Size: int64(len(tt.content))})
		if err != nil || v.Signature != tt.want {
			t.Errorf("got %+v, %v, want %q", v, err, tt.want)
		}
	}
}

func TestEicarIsNotInThisProgram(t *testing.T) {
	t.Parallel()
	text := string(eicar())
	if len(text) != 68 || !strings.HasSuffix(text, "$H+H*") || fmt.Sprintf("%x", md5.Sum([]byte(text))) != "44d88612fea8a8f36de82e1278abb02f" {
		t.Fatal("that is not the EICAR test file")
	}
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.Index(own, []byte(text)); i >= 0 {
		t.Errorf("the test string stands at byte %d of the program", i)
	}
}

func TestMemberOfAnArchiveIsNamed(t *testing.T) {
	t.Parallel()
	content := zipped(t, "outer\x1b.zip", zipped(t, "evil.com", eicar()))
	v, err := builtinWith(t, "").Scan(t.Context(), tempFile(t, content), FileInfo{Size: int64(len(content))})
	if want := `"outer\x1b.zip > evil.com"`; err != nil || v.Member != want {
		t.Errorf("got %q, %v, want %q", v.Member, err, want)
	}
}

func TestSignaturesFileThatBecomesMalformedLeavesThePreviousOne(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "sigs")
	tree := filepath.Join(dir, "tree")
	write(t, filepath.Join(tree, "f"), []byte(marker))
	s := newScanner(t, Config{Signatures: path, Engine: nil})
	use := func() (*builtin, string, error) { return s.builtin() }

	if _, _, err := use(); err == nil {
		t.Fatal("a signatures file that is not there was taken")
	}
	write(t, path, []byte("# none\n\nbad line\n"))
	if _, _, err := use(); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Fatalf("got %v, want an error that names line 3", err)
	}
	write(t, path, []byte(markerLine))
	first, note, err := use()
	if err != nil || note != "" || first.sigs.count() != 1 {
		t.Fatalf("got %v, %q, %v", first, note, err)
	}
	if again, _, _ := use(); again != first {
		t.Error("an unchanged file was read again")
	}
	write(t, path, []byte(markerLine+"oops\n"))
	kept, note, err := use()
	if err != nil || kept != first || !strings.Contains(note, "line 2") {
		t.Fatalf("got %v, %q, %v: want the previous signatures and a note", kept, note, err)
	}
	write(t, path, []byte(markerLine+strings.Replace(markerLine, "Marker", "Other", 1)))
	if fresh, note, err := use(); err != nil || note != "" || fresh.sigs.count() != 2 {
		t.Fatalf("got %v, %q, %v", fresh, note, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, note, err := use(); err != nil || !strings.Contains(note, "chmod") {
		t.Fatalf("got %q, %v: want a note that others may write the file", note, err)
	}
}

func TestStoppedEngineSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := builtinWith(t, "").Scan(ctx, tempFile(t, []byte("x")), FileInfo{Size: 1}); err == nil || v.State == Clean {
		t.Errorf("got %+v, %v from a scan that was cancelled", v, err)
	}
}

// unixStat is what os.Stat answers on Linux.
type unixStat = syscall.Stat_t

func testTime() time.Time { return time.Unix(1_700_000_000, 0) }

// crowded packs n empty files.
func crowded(t testing.TB, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for i := range n {
		if _, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestArchiveBehindAProgramIsFoundBehindALongComment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	w, err := z.Create("eicar.com")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(eicar())
	if err := errors.Join(err, z.SetComment(strings.Repeat("c", 2000)), z.Close()); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "sfx.exe"), append([]byte("MZ"+strings.Repeat("x", 1000)), buf.Bytes()...))
	res, err := newScanner(t, Config{Engine: named{builtinWith(t, "")}}).Scan(t.Context(), folder(dir), nil)
	if err != nil || res.Infected != 1 {
		t.Errorf("got %v, %v: want the archive behind the program infected", res, err)
	}
}
