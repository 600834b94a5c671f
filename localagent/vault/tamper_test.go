package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func TestWhatWasTamperedWithIsNeitherShownNorRestored(t *testing.T) {
	t.Parallel()
	data := strings.Repeat("0123456789abcdef", 3*chunkSize/16) + "the end"
	chunk := func(b []byte, n int) []byte { return b[headerSize+n*sealedSize : headerSize+(n+1)*sealedSize] }
	for _, tt := range []struct {
		name   string
		file   string
		change func(b []byte) []byte
	}{
		{"one bit of the content", blobName, func(b []byte) []byte { b[headerSize+100] ^= 1; return b }},
		{"one bit of a tag", blobName, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"salt", blobName, func(b []byte) []byte { b[len(blobMagic)] ^= 1; return b }},
		{"magic", blobName, func(b []byte) []byte { b[0] ^= 1; return b }},
		{"two chunks in another order", blobName, func(b []byte) []byte {
			first := bytes.Clone(chunk(b, 0))
			copy(chunk(b, 0), chunk(b, 1))
			copy(chunk(b, 1), first)
			return b
		}},
		{"chunk twice", blobName, func(b []byte) []byte { copy(chunk(b, 1), chunk(b, 0)); return b }},
		{"cut in a chunk", blobName, func(b []byte) []byte { return b[:len(b)-1] }},
		{"cut at a chunk", blobName, func(b []byte) []byte { return b[:headerSize+3*sealedSize] }},
		{"cut to the header", blobName, func(b []byte) []byte { return b[:headerSize] }},
		{"cut to nothing", blobName, func([]byte) []byte { return nil }},
		{"longer", blobName, func(b []byte) []byte { return append(b, 0) }},
		{"chunk more", blobName, func(b []byte) []byte { return append(b, chunk(b, 0)...) }},
		{"another path", metaName, func(b []byte) []byte { return bytes.Replace(b, []byte("/bad"), []byte("/bed"), 1) }},
		{"set-user-ID", metaName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"mode": 420`), []byte(`"mode": 2541`), 1) }},
		{"another digest", metaName, func(b []byte) []byte {
			return bytes.Replace(b, []byte(sha256Of(data)), []byte(sha256Of("x")), 1)
		}},
		{"another MAC", metaName, func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"mac": "`), []byte(`"mac": "00`), 1)
		}},
		{"field more", metaName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"version"`), []byte(`"extra":1,"version"`), 1) }},
		{"no JSON", metaName, func(b []byte) []byte { return b[1:] }},
		{"cut", metaName, func(b []byte) []byte { return b[:len(b)/2] }},
		{"of another version", metaName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 2`), 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, nil)
			path := write(t, filepath.Join(t.TempDir(), "bad"), data)
			if _, err := v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path}); err != nil {
				t.Fatal(err)
			}
			id := only(t, v).ID
			at := filepath.Join(v.itemDir(id), tt.file)
			b, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			changed := tt.change(bytes.Clone(b))
			if bytes.Equal(b, changed) {
				t.Fatal("the change changes nothing")
			}
			if err := os.WriteFile(at, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			want := ErrDamaged
			if tt.name == "of another version" {
				want = nil
			}
			check := func(what string, err error) {
				if err == nil || want != nil && !errors.Is(err, want) {
					t.Errorf("%s: %v", what, err)
				}
			}
			check("verify", v.Verify(t.Context(), id))
			_, err = v.Restore(t.Context(), id, "")
			check("restore", err)
			check("export", v.Export(t.Context(), id, FormPlain, "", &bytes.Buffer{}))
			if _, err := os.Lstat(path); err == nil {
				t.Error("something was restored")
			}
			if tt.file == metaName {
				_, err := v.List(t.Context())
				check("list", err)
				_, err = v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path})
				if class, _ := classAndReason(t, err); class != bridge.Permanent {
					t.Errorf("the same order: %v", err)
				}
			}
			if err := v.Drop(t.Context(), id); err != nil {
				t.Errorf("drop: %v", err)
			}
			empty(t, v)
		})
	}
}

// spoiler spoils what has been written of a blob while the rest is still read.
type spoiler struct {
	t    *testing.T
	blob string
	size int64
}

func (s *spoiler) ReadAt(p []byte, at int64) (int, error) {
	if at >= 8*blockSize {
		f, err := os.OpenFile(s.blob, os.O_RDWR, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 64)
		for place := int64(headerSize); bytes.Equal(b, make([]byte, 64)); {
			if _, err := f.ReadAt(b, place); err != nil {
				s.t.Fatal(err)
			}
		}
		if _, err := f.WriteAt([]byte("spoiled"), int64(headerSize)); err != nil {
			s.t.Fatal(err)
		}
	}
	n := min(int64(len(p)), s.size-at)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func TestCopyThatCannotBeOpenedIsNotTaken(t *testing.T) {
	t.Parallel()
	s := &spoiler{t, filepath.Join(t.TempDir(), blobName), 9 * blockSize}
	_, _, err := makeBlob(t.Context(), source{s, s.size, s.size}, s.blob, bytes.Repeat([]byte{7}, keySize), "id")
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

func TestItemsCannotChangePlaces(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	dir := t.TempDir()
	var ids []string
	for _, name := range []string{"a", "b"} {
		path := write(t, filepath.Join(dir, name), "same length "+name)
		if _, err := v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, newID("o1", bridge.KindQuarantineFile, path))
	}
	swap := func(a, b string) {
		if err := errors.Join(os.Rename(a, a+".x"), os.Rename(b, a), os.Rename(a+".x", b)); err != nil {
			t.Fatal(err)
		}
	}
	blobs := []string{filepath.Join(v.itemDir(ids[0]), blobName), filepath.Join(v.itemDir(ids[1]), blobName)}
	swap(blobs[0], blobs[1])
	for _, id := range ids {
		if err := v.Verify(t.Context(), id); !errors.Is(err, ErrDamaged) {
			t.Errorf("with the blob of another item: %v", err)
		}
	}
	swap(blobs[0], blobs[1])
	swap(v.itemDir(ids[0]), v.itemDir(ids[1]))
	for _, id := range ids {
		if err := v.Verify(t.Context(), id); !errors.Is(err, ErrDamaged) {
			t.Errorf("in the folder of another item: %v", err)
		}
	}
}

func TestAnotherKeyOpensNothingAndSealsNothing(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad"), "bad")
	if _, err := v.GetFile(t.Context(), "o1", bridge.GetFile{Path: path}); err != nil {
		t.Fatal(err)
	}
	id := only(t, v).ID
	other := newVault(t, func(c *Config) {
		c.Dir = v.cfg.Dir
		c.Key = func(context.Context) ([]byte, error) { return bytes.Repeat([]byte{8}, keySize), nil }
	})
	if _, err := other.List(t.Context()); !errors.Is(err, ErrKey) {
		t.Errorf("list: %v", err)
	}
	if _, err := other.QuarantineFile(t.Context(), "o2", bridge.QuarantineFile{Path: path}); !errors.Is(err, ErrKey) || !there(t, path, "bad") {
		t.Errorf("quarantine: %v", err)
	}
	// Without the check at the door the seals still hold.
	if err := os.Remove(filepath.Join(v.cfg.Dir, keyCheck)); err != nil {
		t.Fatal(err)
	}
	if err := other.Verify(t.Context(), id); !errors.Is(err, ErrDamaged) {
		t.Errorf("verify: %v", err)
	}
	short := newVault(t, func(c *Config) { c.Key = func(context.Context) ([]byte, error) { return []byte("short"), nil } })
	if _, err := short.List(t.Context()); err == nil {
		t.Error("a short key was taken")
	}
}

func TestKeyFileIsMadeOnceAndKeptPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	first, err := FileKey(path)(t.Context())
	if err != nil || len(first) != keySize || bytes.Equal(first, make([]byte, keySize)) {
		t.Fatalf("got %x, %v", first, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
	if again, err := FileKey(path)(t.Context()); err != nil || !bytes.Equal(first, again) {
		t.Errorf("again: %x, %v", again, err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := FileKey(path)(t.Context()); err == nil {
			t.Errorf("a key of mode %o was taken", mode)
		}
	}
	for _, n := range []int{0, keySize - 1, keySize + 1, maxKeyFile + 1} {
		bad := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(bad, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := FileKey(bad)(t.Context()); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
	link := filepath.Join(t.TempDir(), "key")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := FileKey(link)(t.Context()); !errors.Is(err, files.ErrLink) {
		t.Errorf("a link: %v", err)
	}
}

func TestVaultOthersMayLookIntoIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	v := newVault(t, func(c *Config) { c.Dir = dir })
	if _, err := v.List(t.Context()); err == nil {
		t.Error("a folder of mode 0755 was taken")
	}
}

func TestNewReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Dir: "q", MaxFile: -1, Quota: -1, Retention: -1, MaxTargets: 5000})
	for _, want := range []string{"dir:", "key:", "max_file:", "quota:", "retention:", "max_targets:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	key := bytes.Repeat([]byte{7}, keySize)
	id := newID("o1", bridge.KindGetFile, "/f")
	doc, err := encodeMeta(key, &Item{ID: id, Path: "/f <&>", Attributes: files.Attributes{Xattrs: []files.Xattr{{Raw: []byte{0xff}, Value: []byte{0}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"version":1,"item":{},"mac":""}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		it, err := decodeMeta(key, doc, id)
		if err != nil {
			return
		}
		again, err := encodeMeta(key, &it)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeMeta(key, again, id); err != nil || back.Path != it.Path {
			t.Errorf("%+v became %+v, %v", it, back, err)
		}
	})
}

func FuzzDecodePending(f *testing.F) {
	id := newID("o1", bridge.KindDeleteFile, "/f")
	f.Add([]byte(`{"version":1,"id":"` + id + `","order":"o1","task":"deleteFile","path":"/f","inode":1,"size":1,"stage":"/s"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		rec, err := decodePending(doc, id)
		if err == nil && (rec.ID != id || !filepath.IsAbs(string(rec.Path)) || rec.Stage != "" && !filepath.IsAbs(string(rec.Stage))) {
			t.Errorf("took %+v", rec)
		}
	})
}

func FuzzOpenBlob(f *testing.F) {
	key := bytes.Repeat([]byte{7}, keySize)
	dir := f.TempDir()
	for i, n := range []int{0, 10, chunkSize + 1} {
		path := filepath.Join(dir, string(rune('a'+i)))
		if _, _, err := makeBlob(context.Background(), source{bytes.NewReader(make([]byte, n)), int64(n), 1 << 20}, path, key, "id"); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := openBlob(bytes.NewReader(b), int64(len(b)), key, "id")
		if err != nil {
			return
		}
		var out bytes.Buffer
		if n, err := out.ReadFrom(r); err == nil && (n > int64(len(b)) || strings.Trim(out.String(), "\x00") != "") {
			t.Errorf("%d forged bytes were taken", n)
		} else if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("got %v", err)
		}
	})
}
