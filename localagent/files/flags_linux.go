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
func setFlags(fd int, flags uint32) error {
	if flags == 0 {
		return nil
	}
	has, err := flagsOf(fd)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(has|flags))
}
