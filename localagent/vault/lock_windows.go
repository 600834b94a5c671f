package vault

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockByte takes the lock of one byte for the open file (LockFileEx, learn.microsoft.com/windows/win32/api/fileapi). It answers
// errHeld at once when somebody else has it.
func lockByte(f *os.File, place int64, exclusive bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	where := &windows.Overlapped{Offset: uint32(place), OffsetHigh: uint32(place >> 32)} //nolint:gosec // two halves of one number
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, where)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errHeld
	}
	if err != nil {
		return os.NewSyscallError("LockFileEx", err)
	}
	return nil
}
