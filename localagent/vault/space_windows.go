package vault

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// reserve does nothing: a full disk shows while the blob is written.
func reserve(*os.File, int64) error { return nil }

// startWriteback does nothing.
func startWriteback(*os.File, int64, int64) {}

// full reports whether the error says that the disk is used up.
func full(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
