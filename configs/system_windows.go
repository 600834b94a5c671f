package configs

import (
	"io/fs"
	"path/filepath"
)

const defaultBackend = "wincred"

func programData(env func(string) (string, bool)) string {
	if dir, ok := env("ProgramData"); ok && filepath.IsAbs(dir) {
		return dir
	}
	return `C:\ProgramData`
}

func defaultState(env func(string) (string, bool)) string {
	return filepath.Join(programData(env), productDir)
}

// systemFile is where the settings of the service are.
func systemFile(env func(string) (string, bool)) string {
	return filepath.Join(programData(env), productDir, settingsName)
}

// openToOthers and foreign find nothing: Windows has access lists, which edr-bridge judges before it does anything.
func openToOthers(fs.FileInfo) string { return "" }

func foreign(fs.FileInfo) string { return "" }
