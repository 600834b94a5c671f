package files

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLockFileFollowsNoLink(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.Symlink(path+".elsewhere", path); err != nil {
		t.Fatal(err)
	}
	if _, err := LockFile(path); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v, want %v", err, unix.ELOOP)
	}
	if _, err := os.Lstat(path + ".elsewhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made where the link leads: %v", err)
	}
}
