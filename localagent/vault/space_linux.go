package vault

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// reserve takes the room for a blob in advance, so that a full disk shows before anything was read (fallocate(2)).
func reserve(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil, errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		default:
			return fmt.Errorf("reserve %d bytes: %w", size, err)
		}
	}
}

// startWriteback lets the disk begin while the rest is still sealed, so that the sync at the end has little left to wait for
// (sync_file_range(2)). It promises nothing.
func startWriteback(f *os.File, at, size int64) {
	_ = unix.SyncFileRange(int(f.Fd()), at, size, unix.SYNC_FILE_RANGE_WRITE)
}

// full reports whether the error says that the disk or the quota of a user is used up.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
