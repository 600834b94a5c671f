//go:build !unix

package callout

// calloutSend has no implementation for this platform: it has neither a journal nor /dev/log.
func calloutSend(string, []byte) bool { return false }
