package files

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Draft is a file without a name in a folder: nobody sees it before it is whole. Commit gives it its name; Close it in any case.
type Draft struct {
	// File is open for reading and writing.
	File *os.File

	folder string
	dir    int    // O_PATH
	temp   string // its name for the time being, where the filesystem has no files without one
}

// NewDraft makes a draft in the folder, which is opened without following a link and must exist (open(2), O_TMPFILE). Its mode
// is 0600.
func NewDraft(folder string) (*Draft, error) {
	folder = path.Clean(folder)
	dir, err := openPath(folder)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return &Draft{File: os.NewFile(uintptr(fd), folder), folder: folder, dir: dir}, nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		var d *Draft
		if d, err = newNamedDraft(folder, dir); err == nil {
			return d, nil
		}
	}
	_ = unix.Close(dir)
	if errors.Is(err, unix.EROFS) {
		err = ErrReadOnly
	}
	return nil, &fs.PathError{Op: "create a file in", Path: folder, Err: err}
}

// newNamedDraft is for filesystems without files that have no name.
func newNamedDraft(folder string, dir int) (*Draft, error) {
	temp := ".edr-bridge-" + strings.ToLower(rand.Text())
	fd, err := unix.Openat(dir, temp, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return &Draft{File: os.NewFile(uintptr(fd), folder), folder: folder, dir: dir, temp: temp}, nil
}

// Commit makes the content durable, gives the file its name, and makes that durable, too. It answers ErrExists when
// the name is taken: nothing is overwritten (linkat(2)), and ErrSwapped when another file has the name then.
func (d *Draft) Commit(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return &fs.PathError{Op: "name", Path: name, Err: fs.ErrInvalid}
	}
	if err := d.File.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	var err error
	if d.temp != "" {
		err = renameNoReplace(d.dir, d.temp, d.dir, name)
	} else {
		err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(d.File.Fd())), d.dir, name, unix.AT_SYMLINK_FOLLOW)
	}
	if errors.Is(err, unix.EEXIST) {
		err = ErrExists
	}
	if err != nil {
		return &fs.PathError{Op: "name", Path: path.Join(d.folder, name), Err: err}
	}
	named := d.temp != ""
	d.temp = ""
	if named {
		// A name can be swapped before it is renamed; a link of the open file cannot lead elsewhere.
		if err := d.is(name); err != nil {
			return &fs.PathError{Op: "name", Path: path.Join(d.folder, name), Err: err}
		}
	}
	return syncFD(d.dir)
}

// is answers ErrSwapped unless the name leads to the draft.
func (d *Draft) is(name string) error {
	at, _, err := statAt(d.dir, name)
	if err != nil {
		return err
	}
	own, _, err := statAt(int(d.File.Fd()), "")
	if err == nil && at.ID != own.ID {
		err = ErrSwapped
	}
	return err
}

// Close lets the draft go; one without a name is gone then.
func (d *Draft) Close() error {
	if d.temp != "" {
		_ = unix.Unlinkat(d.dir, d.temp, 0)
	}
	return errors.Join(d.File.Close(), unix.Close(d.dir))
}
