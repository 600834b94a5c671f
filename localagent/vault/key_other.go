//go:build !windows

package vault

import (
	"context"
	"errors"
	"fmt"
)

// DPAPIKey returns a Config.Key that answers an error that wraps errors.ErrUnsupported: only Windows has DPAPI.
func DPAPIKey(string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		return nil, fmt.Errorf("key of the quarantine: DPAPI is a part of Windows, keep the key in a file here: %w", errors.ErrUnsupported)
	}
}
