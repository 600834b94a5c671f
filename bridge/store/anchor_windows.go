package store

import (
	"fmt"
	"os"
)

// openAppend opens the file to add to its end. Windows has no O_NOFOLLOW for os.OpenFile; making a symbolic link takes a right of
// administrators there (SeCreateSymbolicLinkPrivilege), so looking before is enough.
func openAppend(path string) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640) //nolint:gosec // the path is the operator's setting
}
