//go:build !linux

package nobus

// Restore does nothing: only the Linux part of the keyring module uses D-Bus.
func Restore() {}
