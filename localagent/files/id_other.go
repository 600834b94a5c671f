//go:build !linux && !windows

package files

import (
	"errors"
	"fmt"
	"os"
)

// Key exists on Linux and Windows only.
type Key struct{}

// KeyOf answers an error that wraps errors.ErrUnsupported.
func KeyOf(*os.File) (Key, int64, error) {
	return Key{}, 0, fmt.Errorf("files are told apart on Linux and Windows only: %w", errors.ErrUnsupported)
}
