//go:build !linux && !windows

package scan

// isMainThread is false: no thread is special here.
func isMainThread() bool { return false }

// lower does nothing: this system has no priorities for threads.
func lower(Priority) error { return nil }
