package files

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteDurableReplacesTheWholeFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	for _, text := range []string{"a long first version", "short"} {
		if err := WriteDurable(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadOwn(path, 64)
		if err != nil || string(got) != text {
			t.Errorf("read %q, %v, want %q", got, err, text)
		}
	}
	if _, err := ReadOwn(path, 4); err == nil {
		t.Error("5 bytes were read within a limit of 4")
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v, want the file alone", entries, err)
	}
	if err := WriteDurable(filepath.Join(filepath.Dir(path), "missing", "state"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
}

func TestLockFileHasOneHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockFile(path); !errors.Is(err, ErrLocked) {
		t.Errorf("second holder: %v, want ErrLocked", err)
	}
	first.Release()
	again, err := LockFile(path)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	again.Release()
}
