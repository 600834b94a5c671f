//go:build !linux && !windows

package sensor

// lockFile locks nothing: there is no sensor on this system.
func lockFile(string) (func(), error) { return func() {}, nil }

// syncDir does nothing here.
func syncDir(string) error { return nil }
