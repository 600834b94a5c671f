//go:build !linux && !windows

package scan

import (
	"context"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// objectsOfDrives is not known here.
func (f *finder) objectsOfDrives(_ context.Context, kind bridge.ScanType) error {
	return unsupported(kind)
}
