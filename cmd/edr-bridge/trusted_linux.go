package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
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

// trustedPath looks at the file itself, at what its links lead to, and at every folder above.
func trustedPath(path string, trusted []uint32) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // who needs it says so
	}
	if err != nil {
		return err
	}
	for at := real; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: its owner cannot be told", at)
		}
		sticky := info.IsDir() && at != real && info.Mode()&fs.ModeSticky != 0
		switch {
		case !slices.Contains(trusted, st.Uid):
			return fmt.Errorf("%s belongs to user %d, who could change what runs with root's rights", at, st.Uid)
		case info.Mode().Perm()&0o002 != 0 && !sticky:
			return fmt.Errorf("%s may be written by everybody (mode %o)", at, info.Mode().Perm())
		case info.Mode().Perm()&0o020 != 0 && !sticky && st.Gid != 0 && !slices.Contains(trusted, st.Gid):
			return fmt.Errorf("%s may be written by group %d (mode %o)", at, st.Gid, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
