//go:build !windows

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// openAppend opens the file to add to its end, without following a symbolic link (O_NOFOLLOW, open(2)) and without waiting for
// the other end of a pipe.
func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640) //nolint:gosec // group may read it
}
