//go:build !windows

package store

import (
	"errors"
	"os"
)

// syncDir makes sure that what was renamed in the folder is found there after a loss of power (fsync(2)).
func syncDir(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // the folder is the operator's setting
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
