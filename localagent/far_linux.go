package localagent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// resolveCached is RESOLVE_CACHED of openat2(2), Linux 5.12.
const resolveCached = 0x20

// nearTypes are file systems without a disk of their own that the kernel serves by itself (filesystems(5)).
var nearTypes = []string{"tmpfs", "ramfs", "rootfs", "devtmpfs", "overlay", "btrfs", "zfs", "bcachefs", "squashfs", "erofs", "aufs"}

// statExe looks at the image as it is at this moment by what the kernel remembers of it. It asks no file system: the program of a user
// (FUSE) refuses to answer others, root among them, or never answers, and neither does a server that is gone.
func (p *pinned) statExe() (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(p.dir, p.exeLink, unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &st)
	if !errors.Is(err, unix.EACCES) {
		return st, err
	}
	// Without a wish for more the device is told nevertheless, and the kernel knows the number of what is open.
	fd, oerr := unix.Openat(p.dir, p.exeLink, unix.O_PATH|unix.O_CLOEXEC, 0)
	if oerr != nil {
		return st, err
	}
	defer func() { _ = unix.Close(fd) }()
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st) != nil {
		return st, err
	}
	n, ierr := fdinfo(fd, "ino:")
	if ierr != nil {
		return st, err // before Linux 5.14
	}
	st.Ino, st.Size = n, 0
	return st, nil
}

func idOf(st *unix.Statx_t) files.ID {
	return files.ID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
}

// fdinfo returns a number the kernel tells of an open file (proc_pid_fdinfo(5)).
func fdinfo(fd int, field string) (uint64, error) {
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, field); ok {
			return strconv.ParseUint(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, errors.New("the kernel does not tell it")
}

// rememberedID returns the identity of the file at a path below at if the kernel can tell it without asking a file system (openat2(2),
// RESOLVE_CACHED). The name of a file that is open or runs is remembered.
func rememberedID(at int, path string, resolve uint64) (files.ID, error) {
	fd, err := unix.Openat2(at, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve | resolveCached})
	if err != nil {
		return files.ID{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st); err != nil {
		return files.ID{}, err
	}
	return idOf(&st), nil
}

// far reports whether the file may be served by a program or by another machine. What lies on a disk does not: only root mounts disks.
func far(id files.ID) bool {
	if unix.Major(id.Dev) != 0 {
		return false
	}
	all, err := files.Mounts()
	if err != nil && !errors.Is(err, files.ErrMountsPartial) {
		return true
	}
	device := fmt.Sprintf("%d:%d", unix.Major(id.Dev), unix.Minor(id.Dev))
	return !slices.ContainsFunc(all, func(m files.Mount) bool { return m.Device == device && slices.Contains(nearTypes, m.Type) })
}
