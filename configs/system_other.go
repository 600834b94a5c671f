//go:build !linux && !windows

package configs

import (
	"fmt"
	"io/fs"
	"os"
)

const defaultBackend = "file"

func defaultState(env func(string) (string, bool)) string {
	if os.Geteuid() == 0 {
		return "/var/lib/" + productDir
	}
	return userState(env)
}

// systemFile is where the settings of the service are.
func systemFile(func(string) (string, bool)) string { return "/etc/" + productDir + "/" + settingsName }

// openToOthers says why others could change a file or replace it in its directory, or nothing.
func openToOthers(info fs.FileInfo) string {
	mode := info.Mode()
	if mode.Perm()&0o002 == 0 || mode.IsDir() && mode&fs.ModeSticky != 0 {
		return ""
	}
	return fmt.Sprintf("anyone may write to it (mode %04o)", mode.Perm())
}

// foreign finds nothing: owners are compared on Linux only.
func foreign(fs.FileInfo) string { return "" }
