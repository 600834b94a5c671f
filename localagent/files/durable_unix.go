//go:build !windows

package files

import (
	"errors"
	"os"
)

// SyncDir makes sure that what was renamed or made in the folder is found there after a loss of power (fsync(2)).
func SyncDir(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // folders of the agent's own state
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
