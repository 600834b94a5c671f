//go:build !linux && !windows

package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// checkAccess refuses what has one of the forbidden permission bits.
func checkAccess(info fs.FileInfo, forbidden fs.FileMode) error {
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return finding(fmt.Sprintf("others may use it (mode %04o)", mode))
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // the directory of the settings
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
