//go:build !windows

package vault

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// makePrivate makes a folder only its owner may look into; one that is there must be such a folder.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%q is not a folder", dir)
	}
	if err := owned(fi); err != nil {
		return fmt.Errorf("%q: %w", dir, err)
	}
	return nil
}

// checkPrivate reports why others may read the open file.
func checkPrivate(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	return owned(fi)
}

func owned(fi os.FileInfo) error {
	if fi.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("others than its owner have rights on it (mode %04o): take them away with chmod go-rwx", fi.Mode().Perm())
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("its owner cannot be told")
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d, want %d: chown it", st.Uid, os.Geteuid())
	}
	return nil
}
