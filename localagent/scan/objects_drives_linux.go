package scan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// statfsPatience is how long a filesystem may take to say that it is there: a server that is gone never answers.
	statfsPatience = 5 * time.Second
	// maxLayers is how many device-mapper and RAID layers may lie above a disk.
	maxLayers = 8
)

// objectsOfDrives offers the files of all mounted filesystems of one kind, each once.
func (f *finder) objectsOfDrives(ctx context.Context, kind bridge.ScanType) error {
	mounts, err := readMounts(f.r.s.cfg.Roots.MountInfo)
	if err != nil {
		return err
	}
	var errs []error
	drives := f.drives(mounts, kind)
	for _, m := range drives {
		if err := f.drive(ctx, m); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", verdict.Shown(m.Point), err))
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	if len(drives) == 0 {
		return errNothing
	}
	return errors.Join(errs...)
}

// drives picks the mounts of one kind. Of a filesystem that is mounted whole, the folders mounted once more elsewhere are left
// out.
func (f *finder) drives(mounts []files.Mount, kind bridge.ScanType) []files.Mount {
	whole := map[string]bool{}
	var out []files.Mount
	for _, full := range []bool{true, false} {
		for _, m := range mounts {
			if (m.Root == "/") != full || whole[m.Device] || f.kindOf(m) != kind {
				continue
			}
			whole[m.Device] = whole[m.Device] || full
			out = append(out, m)
		}
	}
	return out
}

// kindOf returns the scope a mount belongs to, 0 when it is in none: made by the kernel, or in memory.
func (f *finder) kindOf(m files.Mount) bridge.ScanType {
	switch {
	case isNetwork(m):
		return bridge.ScanAllNetworkDrives
	case !onDisk(m):
		return 0
	case f.removable(f.blockDevice(m), 0):
		return bridge.ScanAllRemovableDrives
	default:
		return bridge.ScanAllFixedDrives
	}
}

// drive offers the files of one mounted filesystem, if it answers.
func (f *finder) drive(ctx context.Context, m files.Mount) error {
	used, err := filesOn(ctx, m.Point)
	if err != nil {
		return err
	}
	f.r.mu.Lock()
	f.r.expected += used
	f.r.mu.Unlock()
	return f.folder(ctx, m.Point, true)
}

// filesOn returns how many files a filesystem has about, 0 when it does not count them. It gives up after statfsPatience and
// leaves the thread behind that waits for a server.
func filesOn(ctx context.Context, path string) (int64, error) {
	type answer struct {
		files int64
		err   error
	}
	out := make(chan answer, 1)
	go func() {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		out <- answer{int64(st.Files - st.Ffree), err} //nolint:gosec // a count of files
	}()
	timer := time.NewTimer(statfsPatience)
	defer timer.Stop()
	select {
	case a := <-out:
		return max(a.files, 0), a.err
	case <-timer.C:
		return 0, fmt.Errorf("the filesystem does not answer within %s", statfsPatience)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// blockDevice returns the folder of sysfs that describes the device of a mount, or "".
func (f *finder) blockDevice(m files.Mount) string {
	sys := f.r.s.cfg.Roots.Sys
	link := filepath.Join(sys, "dev/block", m.Device)
	if strings.HasPrefix(m.Device, "0:") {
		// Filesystems over several devices have a number of their own: the source names one of them.
		name, ok := strings.CutPrefix(m.Source, "/dev/")
		if !ok || strings.Contains(name, "..") {
			return ""
		}
		link = filepath.Join(sys, "class/block", strings.ReplaceAll(strings.TrimPrefix(name, "mapper/"), "/", "!"))
	}
	real, err := filepath.EvalSymlinks(link)
	if err != nil {
		return ""
	}
	return real
}

// removable reports whether a block device can be pulled out: sysfs says so of it, of the disk it is a partition of, or of a disk
// below it (https://www.kernel.org/doc/Documentation/ABI/stable/sysfs-block), or it hangs on USB, where disks do not call
// themselves removable.
func (f *finder) removable(dir string, depth int) bool {
	if dir == "" || depth > maxLayers {
		return false
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		text, err := os.ReadFile(filepath.Join(d, "removable")) //nolint:gosec // below the mount point of sysfs
		if err == nil && strings.TrimSpace(string(text)) == "1" {
			return true
		}
	}
	rel, _ := filepath.Rel(f.r.s.cfg.Roots.Sys, dir)
	for part := range strings.SplitSeq(rel, "/") {
		if digits, ok := strings.CutPrefix(part, "usb"); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			return true
		}
	}
	below, _ := os.ReadDir(filepath.Join(dir, "slaves"))
	for _, s := range below {
		real, err := filepath.EvalSymlinks(filepath.Join(dir, "slaves", s.Name()))
		if err == nil && f.removable(real, depth+1) {
			return true
		}
	}
	return false
}
