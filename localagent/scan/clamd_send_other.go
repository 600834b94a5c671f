//go:build !linux

package scan

import (
	"context"
	"os"
)

// sendFile sends the content: descriptors are passed on Linux only.
func (s *session) sendFile(f *os.File, size int64) error { return s.stream(f, size) }

// reportsLimits cannot be found out without passing a descriptor.
func (c *clamd) reportsLimits(context.Context) (bool, error) { return false, nil }
