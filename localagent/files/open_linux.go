package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// noLinks makes openat2(2) answer ELOOP for a link anywhere on the way, those of /proc included.
const noLinks = unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Open opens the regular file at the absolute path for reading, without following a link anywhere on the way and without
// touching its access time where the system allows that. Nothing but a regular file is ever opened: the path is pinned
// first (O_PATH), looked at, and only then opened, because to open a device can have an effect (a watchdog starts).
//
// Errors wrap ErrLink, ErrNotRegular, fs.ErrNotExist, fs.ErrPermission, or ErrBusy when another process holds a
// lease on the file (fcntl(2), F_SETLEASE): the kernel takes the lease away within a minute, so try again then.
func Open(path string) (*os.File, error) {
	fd, err := openPath(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	f, _, err := reopen(fd, path)
	return f, err
}

// openPath pins whatever is at the absolute path.
func openPath(path string) (int, error) {
	if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
		return -1, &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
	}
	return openAt(unix.AT_FDCWD, path, path, 0, noLinks)
}

// openAt pins name in the directory dir; shown is what an error calls it.
func openAt(dir int, name, shown string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(unix.O_PATH | unix.O_CLOEXEC | flags), Resolve: resolve} //nolint:gosec // flags are positive
	for {
		fd, err := unix.Openat2(dir, name, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ELOOP):
			return -1, &fs.PathError{Op: "open", Path: shown, Err: ErrLink}
		case errors.Is(err, unix.ENOSYS):
			err = fmt.Errorf("the kernel has no openat2, which Linux 5.6 brought: %w", errors.ErrUnsupported)
		}
		return -1, &fs.PathError{Op: "open", Path: shown, Err: err}
	}
}

// reopen opens the pinned file for reading when it is a regular one. It goes through the descriptor, not through
// the name, so that it is the same file (proc_pid_fd(5)).
func reopen(fd int, shown string) (*os.File, Stat, error) {
	st, _, err := statAt(fd, "")
	if err != nil {
		return nil, Stat{}, &fs.PathError{Op: "stat", Path: shown, Err: err}
	}
	if !st.Perm.IsRegular() {
		return nil, st, &fs.PathError{Op: "open", Path: shown, Err: fmt.Errorf("%w: it is a %s", ErrNotRegular, typeName(st.Perm))}
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	link := "/proc/self/fd/" + strconv.Itoa(fd)
	opened, err := openRetry(link, flags|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		opened, err = openRetry(link, flags)
	}
	if errors.Is(err, unix.EAGAIN) {
		err = fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return nil, st, &fs.PathError{Op: "open", Path: shown, Err: err}
	}
	return os.NewFile(uintptr(opened), shown), st, nil
}

func openRetry(name string, flags int) (int, error) {
	for {
		fd, err := unix.Open(name, flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// typeName says in a word what a file is that is not regular.
func typeName(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "link"
	case m&fs.ModeNamedPipe != 0:
		return "FIFO"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeDevice != 0:
		return "device"
	default:
		return "file of another kind"
	}
}

// pseudo reports whether the open file lies in a filesystem the kernel makes up (statfs(2)).
func pseudo(fd int) (bool, error) {
	var s unix.Statfs_t
	for {
		if err := unix.Fstatfs(fd, &s); err == nil {
			break
		} else if !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("statfs: %w", err)
		}
	}
	switch s.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEVPTS_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.SMACK_MAGIC, unix.BPF_FS_MAGIC,
		unix.EFIVARFS_MAGIC, unix.PSTOREFS_MAGIC, unix.BINFMTFS_MAGIC, unix.AUTOFS_SUPER_MAGIC, unix.NSFS_MAGIC, unix.HUGETLBFS_MAGIC,
		unix.RDTGROUP_SUPER_MAGIC, unix.XENFS_SUPER_MAGIC, unix.USBDEVICE_SUPER_MAGIC:
		return true, nil
	default:
		return false, nil
	}
}

// split returns the directory and the last part of an absolute path.
func split(name string) (dir, base string) {
	name = path.Clean(name)
	return path.Dir(name), path.Base(name)
}
