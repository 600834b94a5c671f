//go:build !linux && !windows

package store

import (
	"errors"
	"os"
)

// lockFile has no implementation for this platform.
func lockFile(*os.File) (held bool, err error) { return false, errors.ErrUnsupported }
