package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkAccess refuses what has one of the forbidden permission bits, or belongs neither to this account nor to root.
func checkAccess(info fs.FileInfo, forbidden fs.FileMode) error {
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return finding(fmt.Sprintf("others may use it (mode %04o)", mode))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return finding(fmt.Sprintf("it belongs to uid %d", st.Uid))
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
