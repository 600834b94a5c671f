//go:build !linux

package scan

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func unsupported(kind bridge.ScanType) error {
	return fmt.Errorf("the local agent scans %s on Linux only, name folders here: %w", kind, errors.ErrUnsupported)
}

// objectsOfMemory is not known here.
func (f *finder) objectsOfMemory(context.Context) error {
	return unsupported(bridge.ScanSystemMemory)
}

// objectsOfStartup is not known here.
func (f *finder) objectsOfStartup(context.Context) error {
	return unsupported(bridge.ScanStartupAndProcesses)
}

// objectsOfBootSectors is not known here.
func (f *finder) objectsOfBootSectors(context.Context) error {
	return unsupported(bridge.ScanDiskBootSectors)
}

// objectsOfBackups is not known here.
func (f *finder) objectsOfBackups(context.Context) error {
	return unsupported(bridge.ScanSystemBackupStorage)
}

// objectsOfEmail is not known here.
func (f *finder) objectsOfEmail(context.Context) error { return unsupported(bridge.ScanEmail) }

// openDevice is not known here.
func openDevice(string, uint32, uint32) (*os.File, error) {
	return nil, fmt.Errorf("open a disk: %w", errors.ErrUnsupported)
}
