package firewall

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// lockName is a file in the folder of Windows, where only administrators can make one.
const lockName = "edr-bridge-firewall.lock"

// trusted refuses a record somebody else could have written.
func trusted(f *os.File) error { return files.CheckOpen(f) }

// lock keeps other processes of this machine from changing what stands in the filtering platform: an agent, `edr-bridge agent release`
// beside it, the task of the scheduler. There is one platform, so the state folder does not matter.
func (w *Firewall) lock(ctx context.Context) (func(), error) {
	name := w.platform.lock
	if name == "" {
		dir, err := windows.GetSystemWindowsDirectory()
		if err != nil {
			return nil, fmt.Errorf("folder of windows: %w", err)
		}
		name = filepath.Join(dir, lockName)
	}
	return lockFile(ctx, name)
}

// namespaces returns none: only Linux has network namespaces.
func (w *Firewall) namespaces() []uint64 { return nil }

func (w *Firewall) recallNamespaces(*record) {}

func (w *Firewall) claimNamespaces() {}
