package files

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// noFollow opens a link itself and not what it leads to (CreateFileW, learn.microsoft.com/windows/win32/api/fileapi).
const noFollow = windows.FILE_FLAG_OPEN_REPARSE_POINT

// lock takes the exclusive lock of one byte far behind the end (LockFileEx, learn.microsoft.com/windows/win32/api/fileapi),
// held = somebody else has it.
func lock(f *os.File) (held bool, err error) {
	where := &windows.Overlapped{OffsetHigh: 1}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, where)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return true, nil
	}
	if err != nil {
		return false, os.NewSyscallError("LockFileEx", err)
	}
	return false, nil
}

// SyncDir does nothing: NTFS keeps a log of renames, and folders cannot be synced.
func SyncDir(string) error { return nil }

// unlock has nothing to do: handles are not inherited.
func unlock(*os.File) {}
