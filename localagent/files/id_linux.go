package files

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Key changes whenever the content of a file can have changed: ctime cannot be set by programs (inode(7)).
type Key struct {
	ID
	Size         int64
	Mtime, Ctime unix.Timespec
}

// IDOf returns the identity of the file at path; links are followed.
func IDOf(path string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ID{}, err
	}
	return ID{st.Dev, st.Ino}, nil
}

// KeyOf returns the key and the size of the open file.
func KeyOf(f *os.File) (Key, int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Key{}, 0, fmt.Errorf("stat: %w", err)
	}
	return Key{ID{st.Dev, st.Ino}, st.Size, st.Mtim, st.Ctim}, st.Size, nil
}
