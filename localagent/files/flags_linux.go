package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The inode flags that forbid to rename and to unlink (ioctl_iflags(2); linux/fs.h).
const (
	flagImmutable = 0x10
	flagAppend    = 0x20
	holdingFlags  = flagImmutable | flagAppend
)

// Flags returns the inode flags of the open file as chattr(1) knows them, 0 where the filesystem has none.
func Flags(f *os.File) (uint32, error) { return flagsOf(int(f.Fd())) }

// SetFlags adds the inode flags immutable and append-only when they are among flags.
func SetFlags(f *os.File, flags uint32) error { return setFlags(int(f.Fd()), flags&holdingFlags) }

// FolderFlags returns the inode number of the folder the file was found in, and which of immutable and append-only it has.
func (p *Pinned) FolderFlags() (ino uint64, flags uint32, err error) {
	fd, err := unix.Openat(p.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	st, _, err := statAt(fd, "")
	if err != nil {
		return 0, 0, err
	}
	flags, err = flagsOf(fd)
	return st.Ino, flags & holdingFlags, err
}

// SetFolderFlags adds immutable and append-only to the folder at the path, if it is the one with the inode number.
func SetFolderFlags(name string, ino uint64, flags uint32) error {
	dir, err := openPath(name)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	st, _, err := statAt(fd, "")
	if err != nil || st.Ino != ino {
		return err
	}
	return setFlags(fd, flags&holdingFlags)
}

func flagsOf(fd int) (uint32, error) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return 0, nil
	}
	return flags, err
}

// clearFlags takes immutable and append-only away and returns those that were set.
func clearFlags(fd int) (uint32, error) {
	flags, err := flagsOf(fd)
	if err != nil || flags&holdingFlags == 0 {
		return 0, err
	}
	return flags & holdingFlags, unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^holdingFlags))
}

// setFlags adds flags to what is set.
func setFlags(fd int, flags uint32) error { return replaceFlags(fd, flags, flags) }

// replaceFlags sets those of the flags in mask that are in flags, and clears the others.
func replaceFlags(fd int, mask, flags uint32) error {
	has, err := flagsOf(fd)
	if err != nil {
		return err
	}
	want := has&^mask | flags
	if want == has {
		return nil
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(want))
}
