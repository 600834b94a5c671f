//go:build !linux

package prevention

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Listen answers an error that wraps errors.ErrUnsupported: only Linux needs a listener.
func Listen(context.Context, Config, *os.File) error {
	return fmt.Errorf("the listener is a part of the guard on Linux: %w", errors.ErrUnsupported)
}
