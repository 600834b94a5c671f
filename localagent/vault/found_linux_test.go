package vault

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestFoundFileIsTakenWhateverItsNameIs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ctl\x01", "latin\xe9", `back\slash`, "line\nend", "d\xff/x", "$HOME", "bidi\u202e"} {
		v := newVault(t, nil)
		path := write(t, filepath.Join(t.TempDir(), name), text)
		if r, err := v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path, SHA256: sha256Of(text)}); err == nil {
			t.Errorf("an alert names %q: %+v", name, r)
		}
		if r, err := v.QuarantineFound(t.Context(), "o1", path, sha256Of("other")); err == nil || !there(t, path, text) {
			t.Errorf("%q with another digest: %+v, %v", name, r, err)
		}
		r, err := v.QuarantineFound(t.Context(), "o1", path, sha256Of(text))
		if err != nil || r.State != bridge.StateDone || there(t, path, text) {
			t.Fatalf("%q: %+v, %v", name, r, err)
		}
		it := only(t, v)
		if it.Path != path {
			t.Errorf("the item remembers %q, want %q", it.Path, path)
		}
		if r, err := v.Restore(t.Context(), it.ID, ""); err != nil || r.Path != path || !there(t, path, text) {
			t.Errorf("restored %+v, %v", r, err)
		}
		if it = only(t, v); it.Path != path || it.Restored.IsZero() {
			t.Errorf("the item remembers %q, want %q", it.Path, path)
		}
	}
	v := newVault(t, nil)
	for _, path := range []string{"", "relative", "/a/../b", "/a//b", "/a/", "/a\x00"} {
		if r, err := v.QuarantineFound(t.Context(), "o1", path, sha256Of(text)); err == nil {
			t.Errorf("%q: %+v", path, r)
		}
	}
	if r, err := v.QuarantineFound(t.Context(), "o1", write(t, filepath.Join(t.TempDir(), "f"), text), ""); err == nil {
		t.Errorf("without a digest: %+v", r)
	}
}

func TestKilledBelowAFolderThatIsNotUTF8TheFileIsPutBackThere(t *testing.T) {
	t.Parallel()
	dir := memory(t)
	path := write(t, filepath.Join(filepath.Dir(dir), "d\xff", "evil"), text)
	search := filepath.Join(filepath.Dir(dir), "evil")
	// The own stage lies on another filesystem, so that its place beside the file is written down as well.
	v := newVault(t, nil)
	dieAt(t, "search", "take", v.cfg.Dir, search, "")
	if _, err := os.Lstat(path); err == nil {
		t.Fatal("the file was not taken")
	}
	id := newID("o1", bridge.KindDeleteFile, path)
	rec, err := v.readPending(id)
	if err != nil || rec == nil || string(rec.Path) != path {
		t.Fatalf("got %+v, %v", rec, err)
	}
	staged := filepath.Join(string(rec.Stage), id)
	stranger := "x" + text
	if err := os.Remove(staged); err != nil {
		t.Fatal(err)
	}
	write(t, staged, stranger)
	if did, err := v.Recover(t.Context()); err != nil || !there(t, path, stranger) {
		t.Errorf("recovered %v, %v", did, err)
	}
	empty(t, v)
}
