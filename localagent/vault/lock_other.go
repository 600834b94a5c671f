//go:build !linux && !windows

package vault

import (
	"errors"
	"fmt"
	"os"
)

// lockByte answers an error that wraps errors.ErrUnsupported.
func lockByte(*os.File, int64, bool) error {
	return fmt.Errorf("the quarantine works on Linux and Windows only, run the agent there: %w", errors.ErrUnsupported)
}
