package scan

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// objectsOfDrives offers the files of all drive letters of one kind
// (https://learn.microsoft.com/en-us/windows/win32/api/fileapi/nf-fileapi-getdrivetypew).
func (f *finder) objectsOfDrives(ctx context.Context, kind bridge.ScanType) error {
	letters, err := windows.GetLogicalDrives()
	if err != nil {
		return fmt.Errorf("list drives: %w", err)
	}
	var errs []error
	found := false
	for i := range 26 {
		if letters&(1<<i) == 0 {
			continue
		}
		root := string(rune('A'+i)) + `:\`
		name, err := windows.UTF16PtrFromString(root)
		if err != nil {
			return err
		}
		if driveKind(windows.GetDriveType(name)) != kind {
			continue
		}
		found = true
		err = f.folder(ctx, root, true)
		if errors.Is(err, windows.ERROR_NOT_READY) {
			f.emptyDrive(root)
		} else if err != nil {
			errs = append(errs, fmt.Errorf("%s %w", root, err))
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	if !found {
		return errNothing
	}
	return errors.Join(errs...)
}

// emptyDrive counts a drive without a medium: every machine has some.
func (f *finder) emptyDrive(root string) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	f.r.skipped.addMany(reasonNoMedium, root, 1)
	f.r.res.Found++
	f.r.settled++
}

func driveKind(t uint32) bridge.ScanType {
	switch t {
	case windows.DRIVE_REMOVABLE, windows.DRIVE_CDROM:
		return bridge.ScanAllRemovableDrives
	case windows.DRIVE_REMOTE:
		return bridge.ScanAllNetworkDrives
	case windows.DRIVE_FIXED:
		return bridge.ScanAllFixedDrives
	default:
		return 0
	}
}
