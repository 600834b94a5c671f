//go:build !linux

package bridge_test

import (
	"testing"
	"time"
)

// cost returns the time do takes.
func cost(t *testing.T, do func()) time.Duration {
	t.Helper()
	start := time.Now()
	do()
	return time.Since(start)
}
