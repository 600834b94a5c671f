package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/configs"
)

// checkTrusted refuses files that somebody else than root, this user, or the user who called sudo could change: whoever writes the settings, or
// the program itself, of a process with root's rights has these rights. Folders on the way count, unless their sticky bit keeps
// others from replacing what is not theirs. It says nothing to a process without root's rights.
func (a *app) checkTrusted(paths ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	trusted := []uint32{0}
	if text, ok := a.env("SUDO_UID"); ok {
		if uid, err := strconv.ParseUint(text, 10, 32); err == nil {
			trusted = append(trusted, uint32(uid))
		}
	}
	var errs []error
	for _, path := range paths {
		if path == "" {
			continue
		}
		if err := trustedPath(path, trusted); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fail(exitConfig, "config.untrusted", err, "chown root FILE; chmod go-w FILE; the same for its folders")
	}
	return nil
}

// closeState has nothing to close: who may enter folders is in their modes, which checkTrusted reads.
func (a *app) closeState(*configs.Settings) error { return nil }

// maxLinks is how many links may stand on the way to a file, as in path_resolution(7).
const maxLinks = 40

// trustedPath walks to the file as the kernel does: each folder on the way, each link in it, and what the link leads to, must be out of
// the reach of others. A missing file is nobody's; who needs it says so.
func trustedPath(path string, trusted []uint32) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	rest, links := strings.Split(path, "/")[1:], 0
	at := "/"
	if err := trustedPlace(at, len(rest) > 0, trusted); err != nil {
		return err
	}
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := trustedPlace(next, len(rest) > 0, trusted); err != nil {
				return err
			}
			at = next
			continue
		}
		if err := trustedOwner(next, info, trusted); err != nil {
			return err
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return fmt.Errorf("%s: too many links, or one that cannot be read: %w", path, err)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}

// trustedOwner says who could replace a thing that is his.
func trustedOwner(at string, info fs.FileInfo, trusted []uint32) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be told", at)
	}
	if !slices.Contains(trusted, st.Uid) {
		return fmt.Errorf("%s belongs to user %d, who could change what runs with root's rights", at, st.Uid)
	}
	return nil
}

// trustedPlace judges a file, or a folder on the way to one, whose sticky bit keeps others from replacing what is not theirs.
func trustedPlace(at string, onTheWay bool, trusted []uint32) error {
	info, err := os.Lstat(at)
	if err != nil {
		return err
	}
	if err := trustedOwner(at, info, trusted); err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	sticky := info.IsDir() && onTheWay && info.Mode()&fs.ModeSticky != 0
	switch mode := info.Mode().Perm(); {
	case sticky:
	case mode&0o002 != 0:
		return fmt.Errorf("%s may be written by everybody (mode %o)", at, mode)
	case mode&0o020 != 0 && ok && st.Gid != 0 && !ownGroup(st.Gid, trusted):
		return fmt.Errorf("%s may be written by group %d (mode %o)", at, st.Gid, mode)
	case mode&0o020 != 0 && hasACL(at):
		return fmt.Errorf("%s may be written by those its access list names (getfacl)", at)
	}
	return nil
}

// ownGroup reports whether the group is a trusted user's private one, of his number and his name (adduser(8), USERGROUPS).
func ownGroup(gid uint32, trusted []uint32) bool {
	if !slices.Contains(trusted, gid) {
		return false
	}
	id := strconv.FormatUint(uint64(gid), 10)
	u, err := user.LookupId(id)
	if err != nil {
		return false
	}
	g, err := user.LookupGroupId(id)
	return err == nil && g.Name == u.Username
}

// hasACL reports whether the file has entries beside its mode. Of such a file the group's bits are the most any entry may (acl(5)).
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
