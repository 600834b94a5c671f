package sensor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// errLocked says that another program uses the folder.
var errLocked = errors.New("another program uses it: give each its own folder")

// lockFile opens the file so that nobody else can, until the function it returns is called.
func lockFile(name string) (func(), error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(path, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_ALWAYS,
		windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return nil, errLocked
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, os.NewSyscallError("CreateFile", err))
	}
	return func() { _ = windows.CloseHandle(h) }, nil
}

// syncDir does nothing: a rename on NTFS is in its journal.
func syncDir(string) error { return nil }
