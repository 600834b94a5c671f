package files

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// plainFlags are inode flags that can be set back and hinder nobody: synchronous, no dump, no atime (linux/fs.h).
const plainFlags = 0x8 | 0x40 | 0x80

// AttributesOf reads the attributes of the open file. lost are extended attributes that could not be read or are
// too many to keep (512 KiB), in words; they are no error, because whoever owns a file can give it any number of them.
func AttributesOf(f *os.File) (a Attributes, lost []string, err error) {
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Attributes{}, nil, fmt.Errorf("stat: %w", err)
	}
	a = Attributes{
		Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		Accessed: Moment{st.Atim.Sec, st.Atim.Nsec}, Modified: Moment{st.Mtim.Sec, st.Mtim.Nsec},
	}
	if a.Flags, err = flagsOf(fd); err != nil {
		lost = append(lost, fmt.Sprintf("inode flags: %v", err))
	}
	names, err := xattrNames(fd)
	if err != nil {
		return a, append(lost, fmt.Sprintf("extended attributes: %v", err)), nil
	}
	left := maxXattrs
	for _, name := range names {
		value, err := xattrValue(fd, name)
		left -= len(name) + len(value)
		switch {
		case errors.Is(err, unix.ENODATA):
		case err != nil:
			lost = append(lost, fmt.Sprintf("%q: %v", name, err))
		case left < 0:
			return a, append(lost, fmt.Sprintf("%q and what follows: more than %d bytes of extended attributes", name, maxXattrs)), nil
		default:
			a.Xattrs = append(a.Xattrs, newXattr(name, value))
		}
	}
	return a, lost, nil
}

func xattrNames(fd int) ([]string, error) {
	// XATTR_LIST_MAX (linux/limits.h): no list is longer.
	buf := make([]byte, 64<<10)
	n, err := unix.Flistxattr(fd, buf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 }), nil
}

func xattrValue(fd int, name string) ([]byte, error) {
	// XATTR_SIZE_MAX (linux/limits.h): no value is longer.
	buf := make([]byte, 64<<10)
	n, err := unix.Fgetxattr(fd, name, buf)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), buf[:n]...), nil
}

// Apply gives the open file the attributes, and takes away what it has from its folder (default ACL, inode flags), but for the inode
// flags immutable and append-only: a file that has them cannot be given its name (SetFlags afterwards). Owner, mode and times that
// cannot be set are an error, and so is an ACL that stays: it would let others in. missing are other attributes the filesystem did not
// take, in words. The order matters: chown(2) clears set-user-ID and capabilities.
func Apply(f *os.File, a *Attributes) (missing []string, err error) {
	fd := int(f.Fd())
	if err := unix.Fchown(fd, int(a.UID), int(a.GID)); err != nil {
		return nil, fmt.Errorf("give back the owner %d:%d: %w", a.UID, a.GID, err)
	}
	if err := dropACL(fd); err != nil {
		return nil, fmt.Errorf("take away the access list of the folder: %w", err)
	}
	for _, x := range a.Xattrs {
		if err := unix.Fsetxattr(fd, x.name(), x.Value, 0); err != nil {
			missing = append(missing, fmt.Sprintf("%q: %v", x.name(), err))
		}
	}
	if err := unix.Fchmod(fd, a.Mode&0o7777); err != nil {
		return missing, fmt.Errorf("give back the mode %04o: %w", a.Mode, err)
	}
	if err := replaceFlags(fd, plainFlags, a.Flags&plainFlags); err != nil {
		missing = append(missing, fmt.Sprintf("inode flags: %v", err))
	}
	times := []unix.Timespec{{Sec: a.Accessed.Sec, Nsec: a.Accessed.Nsec}, {Sec: a.Modified.Sec, Nsec: a.Modified.Nsec}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), times, 0); err != nil {
		return missing, fmt.Errorf("give back the times: %w", err)
	}
	return missing, nil
}

// dropACL takes away the access list a file has from the default one of its folder (acl(5)).
func dropACL(fd int) error {
	err := unix.Fremovexattr(fd, "system.posix_acl_access")
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
