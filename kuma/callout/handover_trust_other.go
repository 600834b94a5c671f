//go:build !linux

package callout

import "errors"

// handOverRead has no implementation for this platform: who wrote a file cannot be told.
func handOverRead(string, int64) ([]byte, error) { return nil, errors.ErrUnsupported }
