//go:build !linux

package scan

import "github.com/edr-bridge/edr-bridge/localagent/files"

// checkWriters relies on the access list of the folder.
func checkWriters(files.Stat) error { return nil }
