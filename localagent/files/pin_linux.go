package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Pinned is a regular file held open together with the directory it was found in: whatever happens to its name, the
// file that is read, hashed and judged is the file that is acted on. It belongs to one goroutine; Close it.
type Pinned struct {
	// File is open for reading, without touching the access time where the system allows that.
	File *os.File
	// Path is the cleaned absolute path, Name its last part.
	Path, Name string
	// Stat is what the system said when the file was pinned.
	Stat Stat

	dir   int    // O_PATH
	mount uint64 // of the file: statx(2), stx_mnt_id
}

// Pin opens the regular file at the absolute path and its directory without following a link. Errors are those of Open, and
// ErrPseudo for files of /proc, /sys and their like.
func Pin(name string) (*Pinned, error) {
	clean := path.Clean(name)
	dir, base := split(clean)
	dirfd, err := openPath(dir)
	if err != nil {
		return nil, err
	}
	p, err := pinAt(dirfd, base, clean)
	if err != nil {
		_ = unix.Close(dirfd)
		return nil, err
	}
	return p, nil
}

// pinAt takes dirfd over when it succeeds.
func pinAt(dirfd int, base, clean string) (*Pinned, error) {
	if base == "/" {
		return nil, &fs.PathError{Op: "open", Path: clean, Err: fmt.Errorf("%w: it is a directory", ErrNotRegular)}
	}
	fd, err := openAt(dirfd, base, clean, 0, noLinks|unix.RESOLVE_BENEATH)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if made, err := pseudo(fd); err != nil || made {
		return nil, &fs.PathError{Op: "open", Path: clean, Err: errors.Join(err, ErrPseudo)}
	}
	f, st, err := reopen(fd, clean)
	if err != nil {
		return nil, err
	}
	_, mount, err := statAt(fd, "")
	if err != nil {
		_ = f.Close()
		return nil, &fs.PathError{Op: "stat", Path: clean, Err: err}
	}
	return &Pinned{File: f, Path: clean, Name: base, Stat: st, dir: dirfd, mount: mount}, nil
}

// Pin is Open with the directory held, too: the file the walk saw, or ErrSwapped.
func (e Entry) Pin() (*Pinned, error) {
	p, err := Pin(e.Path)
	if err != nil {
		return nil, err
	}
	if e.Info == nil || p.Stat.ID != e.Stat().ID {
		_ = p.Close()
		return nil, &fs.PathError{Op: "open", Path: e.Path, Err: ErrSwapped}
	}
	return p, nil
}

// Still answers nil while the name leads to the pinned file, else an error that wraps ErrSwapped or fs.ErrNotExist.
// The answer may be out of date at once; what acts by name checks afterwards what it took.
func (p *Pinned) Still() error {
	st, _, err := statAt(p.dir, p.Name)
	if err != nil {
		return &fs.PathError{Op: "stat", Path: p.Path, Err: err}
	}
	if st.ID != p.Stat.ID {
		return &fs.PathError{Op: "stat", Path: p.Path, Err: ErrSwapped}
	}
	return nil
}

// Look returns what the system says about the file at this moment.
func (p *Pinned) Look() (Stat, error) { return StatOf(p.File) }

// Close lets the file and its directory go.
func (p *Pinned) Close() error {
	return errors.Join(p.File.Close(), unix.Close(p.dir))
}
