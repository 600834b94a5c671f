//go:build !linux && !windows

package files

import (
	"errors"
	"os"
)

// lock has no implementation for this platform.
func lock(*os.File) (held bool, err error) { return false, errors.ErrUnsupported }
