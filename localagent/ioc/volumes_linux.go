package ioc

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// collectVolumes lists what is mounted where this program runs.
func collectVolumes(ctx context.Context, h host, o *object, emit func(*object)) error {
	mounts, err := h.mounts()
	if err != nil {
		return errCollector("list the filesystems", err)
	}
	for _, m := range mounts {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		where := storageOf(m.Type)
		o.text(volumeName, m.Point)
		o.text(volumeDevice, m.Source)
		o.text(volumeFilesystem, m.Type)
		o.text(volumeFlags, strings.Split(m.Options, ",")...)
		o.truth(volumeMounted, true)
		switch where {
		case remote:
			// Its numbers would have to be asked for over the network, which may hang.
			o.text(volumeType, "DRIVE_REMOTE")
		case made:
			o.text(volumeType, "DRIVE_UNKNOWN")
		case local, merged:
			o.text(volumeType, h.driveType(m))
			var st unix.Statfs_t
			if err := unix.Statfs(h.path(m.Point), &st); err == nil {
				o.number(volumeUnit, st.Frsize)
				o.number(volumeUnits, int64(st.Blocks)) //nolint:gosec // no disk has 2^63 blocks
				o.number(volumeFree, int64(st.Bavail))  //nolint:gosec // see above
			}
		}
		emit(o)
	}
	return nil
}

// driveType uses the words of GetDriveType (learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getdrivetypew), which
// indicators use.
func (h host) driveType(m files.Mount) string {
	switch m.Type {
	case "tmpfs", "ramfs":
		return "DRIVE_RAMDISK"
	case "iso9660", "udf":
		return "DRIVE_CDROM"
	}
	disk, err := filepath.EvalSymlinks(h.path("/sys/dev/block/" + m.Device))
	if err != nil {
		return "DRIVE_FIXED"
	}
	// A partition has no such file, but its disk, one folder up, does.
	for _, folder := range []string{disk, filepath.Dir(disk)} {
		if b, err := os.ReadFile(filepath.Join(folder, "removable")); err == nil { //nolint:gosec // in /sys
			if strings.TrimSpace(string(b)) == "1" {
				return "DRIVE_REMOVABLE"
			}
			break
		}
	}
	return "DRIVE_FIXED"
}
