//go:build !linux

package store

// limitChild is for systems with RLIMIT_FSIZE and errors for it.
func limitChild(string) {}
