package vault

import (
	"os"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// makePrivate makes a folder only the system and administrators may look into. One that is there is given that access list.
func makePrivate(dir string) error { return files.MakePrivate(dir) }

// checkPrivate reports why others may have written the open file; who may read it is a matter of its folder, which makePrivate made.
func checkPrivate(f *os.File) error { return files.CheckOpen(f) }
