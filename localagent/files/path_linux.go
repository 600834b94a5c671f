package files

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// CheckPath reports why path names no certain place on this machine: what bridge.CheckPath says, and a path of Windows. It asks
// no disk.
func CheckPath(name string) error {
	if err := bridge.CheckPath(name); err != nil {
		return fmt.Errorf("the path %w", err)
	}
	if !strings.HasPrefix(name, "/") {
		return errors.New("the path is one of Windows: this machine runs Linux")
	}
	return nil
}

// CheckFound reports why path is none that a walk of this machine can have found: it must be absolute, clean, and may hold any
// character a name can have.
func CheckFound(name string) error {
	if !strings.HasPrefix(name, "/") || path.Clean(name) != name || strings.ContainsRune(name, 0) {
		return errors.New("the path is not absolute and clean")
	}
	return nil
}

// SameName reports whether two names of one folder are the same name to the system.
func SameName(a, b string) bool { return a == b }

// Below reports whether the clean path is the folder or lies below it; it goes by name.
func Below(name, folder string) bool {
	return name == folder || strings.HasPrefix(name, strings.TrimSuffix(folder, "/")+"/")
}
