package files

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// statxMask asks for what Stat holds and for the mount the file is reached through.
const statxMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID

// StatOf returns what the system says about the open file.
func StatOf(f *os.File) (Stat, error) {
	st, _, err := statAt(int(f.Fd()), "")
	return st, err
}

// statAt looks at name in the directory dir without following links and without mounting anything (statx(2));
// an empty name is dir itself, which may be any file. It also returns the mount it is on.
func statAt(dir int, name string) (st Stat, mount uint64, err error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var x unix.Statx_t
	for {
		if err = unix.Statx(dir, name, flags, statxMask, &x); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return Stat{}, 0, err
	}
	return Stat{
		ID:    ID{unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino},
		Bytes: int64(x.Size), Links: uint64(x.Nlink), Perm: goMode(uint32(x.Mode)), UID: x.Uid, GID: x.Gid, //nolint:gosec // sizes fit
		Modified: goTime(x.Mtime), Changed: goTime(x.Ctime), Accessed: goTime(x.Atime), Created: goTime(x.Btime),
	}, x.Mnt_id, nil
}

func goTime(t unix.StatxTimestamp) time.Time {
	if t.Sec == 0 && t.Nsec == 0 {
		return time.Time{}
	}
	return time.Unix(t.Sec, int64(t.Nsec))
}

// goMode turns the bits of inode(7) into Go's.
func goMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFREG:
	default:
		mode |= fs.ModeIrregular
	}
	if m&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if m&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if m&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}
