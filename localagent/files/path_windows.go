package files

import (
	"errors"
	"fmt"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// CheckPath reports why path names no certain place on this machine: what bridge.CheckPath says, and a path that starts with /.
// It asks no disk; a short name (PROGRA~1) is judged when the file is open.
func CheckPath(name string) error {
	if err := bridge.CheckPath(name); err != nil {
		return fmt.Errorf("the path %w", err)
	}
	if strings.HasPrefix(name, "/") {
		return errors.New("the path has no drive letter: this machine runs Windows")
	}
	return nil
}

// CheckFound is CheckPath: names it does not take cannot be opened safely on Windows.
func CheckFound(name string) error { return CheckPath(name) }

// SameName reports whether two names of one folder are the same name to the system.
func SameName(a, b string) bool { return bridge.NormalPath(`c:\`+a) == bridge.NormalPath(`c:\`+b) }

// Below reports whether the clean path is the folder or lies below it; it goes by name.
func Below(name, folder string) bool {
	name, folder = bridge.NormalPath(name), bridge.NormalPath(folder)
	return name == folder || strings.HasPrefix(name, strings.TrimSuffix(folder, `\`)+`\`)
}
