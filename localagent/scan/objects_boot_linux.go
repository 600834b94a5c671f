package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// bootRegion is what is looked at of a disk: the boot record, and the gap behind it where boot loaders keep their second part.
const bootRegion = 1 << 20

// objectsOfBootSectors offers the first MiB of each disk and partition, and the boot loaders below /boot and on the EFI
// partition.
func (f *finder) objectsOfBootSectors(ctx context.Context) error {
	disks, err := os.ReadDir(filepath.Join(f.r.s.cfg.Roots.Sys, "block"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list disks: %w", err)
	}
	found := false
	for _, d := range disks {
		if !isDisk(d.Name()) {
			continue
		}
		dir := filepath.Join(f.r.s.cfg.Roots.Sys, "block", d.Name())
		devices := []string{dir}
		parts, _ := os.ReadDir(dir)
		for _, p := range parts {
			if _, err := os.Stat(filepath.Join(dir, p.Name(), "partition")); err == nil {
				devices = append(devices, filepath.Join(dir, p.Name()))
			}
		}
		for _, sysfs := range devices {
			ok, err := f.region(ctx, sysfs)
			if err != nil {
				return err
			}
			found = found || ok
		}
	}
	for _, place := range []string{"/boot", "/boot/efi", "/efi"} {
		ok, err := f.place(ctx, place)
		if err != nil {
			return err
		}
		found = found || ok
	}
	if !found {
		return errNothing
	}
	return nil
}

// isDisk leaves out what no machine boots from: files and memory posing as disks, layers above other disks, optical drives.
func isDisk(name string) bool {
	for _, p := range []string{"loop", "ram", "zram", "dm-", "sr", "fd", "nbd"} {
		if rest, ok := strings.CutPrefix(name, p); ok && strings.Trim(rest, "0123456789") == "" {
			return false
		}
	}
	return true
}

// region offers the beginning of the device a folder of sysfs describes.
func (f *finder) region(ctx context.Context, sysfs string) (bool, error) {
	number, err := os.ReadFile(filepath.Join(sysfs, "dev")) //nolint:gosec // below the mount point of sysfs
	if err != nil {
		return false, nil //nolint:nilerr // the device was pulled out
	}
	size, _ := os.ReadFile(filepath.Join(sysfs, "size")) //nolint:gosec // below the mount point of sysfs
	if strings.TrimSpace(string(size)) == "0" {
		return false, nil
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(number), "%d:%d", &major, &minor); err != nil {
		return false, nil //nolint:nilerr // no device
	}
	// A slash in the name of a device is a "!" in sysfs (cciss!c0d0).
	path := filepath.Join(f.r.s.cfg.Roots.Dev, strings.ReplaceAll(filepath.Base(sysfs), "!", "/"))
	err = f.offer(ctx, object{kind: KindRegion, path: path, size: bootRegion, open: func() (*os.File, error) {
		return f.r.s.openRegion(path, major, minor)
	}})
	return true, err
}

// openRegion copies the beginning of a device into a file in memory: engines take files.
func (s *Scanner) openRegion(path string, major, minor uint32) (*os.File, error) {
	dev, err := s.cfg.Roots.OpenDevice(path, major, minor)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dev.Close() }()
	region := make([]byte, bootRegion)
	n, err := io.ReadFull(dev, region)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	fd, err := unix.MemfdCreate("edr-bridge-region", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if _, err := io.Copy(f, bytes.NewReader(region[:n])); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("copy the beginning of %s: %w", path, err)
	}
	return f, nil
}

// openDevice opens the node of the block device major:minor, which must be there under this name.
func openDevice(path string, major, minor uint32) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(major, minor) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("is not the block device %d:%d", major, minor)}
	}
	opened, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOMEDIUM) {
		return nil, errNoMedium
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(opened), path), nil
}
