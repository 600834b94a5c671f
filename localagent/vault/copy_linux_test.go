package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const text = "#!/bin/sh\necho bad\n"

func TestQuarantineTakesTheFileAwayAndKeepsASealedCopy(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad.sh"), text)
	task := bridge.QuarantineFile{MD5: strings.ToUpper(md5Of(text)), SHA256: sha256Of(text), Path: path}
	r, err := v.QuarantineFile(t.Context(), "o1", task)
	if err != nil || r.State != bridge.StateDone || !strings.HasPrefix(r.Detail, "quarantined "+path+" as ") {
		t.Fatalf("got %+v, %v", r, err)
	}
	if there(t, path, text) {
		t.Error("the file is still there")
	}
	it := only(t, v)
	if it.Path != path || it.MD5 != md5Of(text) || it.SHA256 != sha256Of(text) || it.Size != int64(len(text)) || it.Order != "o1" || it.Task != bridge.KindQuarantineFile {
		t.Errorf("got %+v", it)
	}
	blob, err := os.ReadFile(filepath.Join(v.itemDir(it.ID), blobName))
	if err != nil || strings.Contains(string(blob), "echo bad") || int64(len(blob)) != sealedLen(it.Size) {
		t.Errorf("blob of %d bytes, %v", len(blob), err)
	}
	if got := content(t, v, it.ID); got != text {
		t.Errorf("the copy holds %q", got)
	}

	again, err := v.QuarantineFile(t.Context(), "o1", task)
	if err != nil || !strings.HasPrefix(again.Detail, "already quarantined "+path+" as "+it.ID) {
		t.Errorf("the same order again: %+v, %v", again, err)
	}
	// A file of that name that came later belongs to no order that has been carried out.
	write(t, path, text)
	if again, err = v.QuarantineFile(t.Context(), "o1", task); err != nil || !there(t, path, text) {
		t.Errorf("the same order once more: %+v, %v", again, err)
	}
	if r, err := v.QuarantineFile(t.Context(), "o2", task); err != nil || there(t, path, text) {
		t.Errorf("another order: %+v, %v", r, err)
	}
}

func TestGetFileLeavesTheOriginalUntouched(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "evidence"), text)
	if err := unix.Chmod(path, 0o4751); err != nil {
		t.Fatal(err)
	}
	// Older than the modification, so that relatime would move it (mount(8)).
	old := []unix.Timespec{{Sec: 1_000_000_000, Nsec: 1}, {Sec: 1_500_000_000, Nsec: 2}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, old, 0); err != nil {
		t.Fatal(err)
	}
	var before, after unix.Stat_t
	if err := unix.Stat(path, &before); err != nil {
		t.Fatal(err)
	}
	r, err := v.GetFile(t.Context(), "o1", bridge.GetFile{Path: path})
	if err != nil || r.State != bridge.StateDone || !strings.HasPrefix(r.Detail, "copied ") {
		t.Fatalf("got %+v, %v", r, err)
	}
	if err := unix.Stat(path, &after); err != nil || before != after {
		t.Errorf("before %+v\nafter %+v, %v", before, after, err)
	}
	it := only(t, v)
	if got := content(t, v, it.ID); got != text || it.Attributes.Mode != 0o4751 {
		t.Errorf("the copy holds %q, mode %o", got, it.Attributes.Mode)
	}
	if r, err = v.GetFile(t.Context(), "o1", bridge.GetFile{Path: path}); err != nil || !strings.HasPrefix(r.Detail, "already copied ") {
		t.Errorf("again: %+v, %v", r, err)
	}
}

func TestCopyOfEveryLengthIsWhole(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	dir := t.TempDir()
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, blockSize - 1, blockSize, blockSize + 1, 3 * blockSize, 3*blockSize + chunkSize} {
		data := strings.Repeat("0123456789abcdef", n/16+1)[:n]
		path := write(t, filepath.Join(dir, "f"), data)
		order := "o" + data[:min(n, 8)] + string(rune('a'+n%26))
		if _, err := v.QuarantineFile(t.Context(), order, bridge.QuarantineFile{Path: path}); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		it, err := v.Show(t.Context(), newID(order, bridge.KindQuarantineFile, path))
		if err != nil || it.SHA256 != sha256Of(data) || it.Size != int64(n) {
			t.Errorf("%d bytes: %+v, %v", n, it, err)
		}
		if content(t, v, it.ID) != data {
			t.Errorf("%d bytes: the copy is another", n)
		}
		if err := v.Drop(t.Context(), it.ID); err != nil {
			t.Fatal(err)
		}
	}
	empty(t, v)
}
