//go:build !linux

package store

import "time"

// systemUptime returns the monotonic clock of this process.
func systemUptime() Uptime {
	start := time.Now()
	return func() (string, time.Duration, error) { return "", time.Since(start), nil }
}
