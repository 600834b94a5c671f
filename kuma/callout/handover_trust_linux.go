package callout

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// handOverRead reads a file nobody but root and this user can have written.
func handOverRead(path string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) //nolint:gosec // checked below
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || info.Mode().Type() != 0:
		return nil, fmt.Errorf("%s is no file", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to user %d: want root: %w", path, st.Uid, fs.ErrPermission)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("others may write to %s: chmod 644: %w", path, fs.ErrPermission)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return io.ReadAll(io.LimitReader(file, limit))
}
