//go:build !windows

package socket

import "os"

// ownUID is the user of this process.
func ownUID() int { return os.Geteuid() }
