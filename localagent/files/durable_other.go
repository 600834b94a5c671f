//go:build !linux && !windows

package files

import "os"

// noFollow has no meaning where nothing is locked.
const noFollow = 0

// lock answers an error that wraps errors.ErrUnsupported.
func lock(*os.File) (held bool, err error) { return false, errSystem() }

// unlock has nothing to do where nothing is locked.
func unlock(*os.File) {}
