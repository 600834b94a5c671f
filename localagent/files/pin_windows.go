package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Pinned is a regular file held open: whatever happens to its name, the file that is read, hashed and judged is the file
// that is acted on, because Windows renames and deletes by handle. It belongs to one goroutine; Close it.
type Pinned struct {
	// File is open for reading.
	File *os.File
	// Path is the cleaned absolute path, Name its last part.
	Path, Name string
	// Stat is what the system said when the file was pinned.
	Stat Stat
}

// Pin opens the regular file at the absolute path without following a reparse point. Errors are those of Open.
func Pin(name string) (*Pinned, error) {
	clean := filepath.Clean(name)
	// Somebody who denies deletion still may be read from: Unlink answers then.
	f, st, err := openHandle(clean, windows.GENERIC_READ|windows.DELETE|windows.FILE_WRITE_ATTRIBUTES)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		f, st, err = openHandle(clean, windows.GENERIC_READ)
	}
	if err != nil {
		return nil, err
	}
	if !st.Perm.IsRegular() {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: clean, Err: fmt.Errorf("%w: it is a directory", ErrNotRegular)}
	}
	return &Pinned{File: f, Path: clean, Name: filepath.Base(clean), Stat: st}, nil
}

// Pin is Open with the handle kept: the file the walk saw, or ErrSwapped.
func (e Entry) Pin() (*Pinned, error) {
	seen, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = seen.Close() }()
	st, err := StatOf(seen)
	if err != nil {
		return nil, err
	}
	p, err := Pin(e.Path)
	if err != nil {
		return nil, err
	}
	if p.Stat.ID != st.ID {
		_ = p.Close()
		return nil, &fs.PathError{Op: "open", Path: e.Path, Err: ErrSwapped}
	}
	return p, nil
}

// Still answers nil while the pinned file has the name it was found by, else an error that wraps ErrSwapped.
func (p *Pinned) Still() error {
	final, err := finalPath(windows.Handle(p.File.Fd()))
	if err != nil {
		return &fs.PathError{Op: "name", Path: p.Path, Err: err}
	}
	if want := bridge.NormalPath(final); bridge.NormalPath(p.Path) != want && bridge.NormalPath(longPath(p.Path)) != want {
		return &fs.PathError{Op: "name", Path: p.Path, Err: ErrSwapped}
	}
	return nil
}

// Look returns what the system says about the file at this moment.
func (p *Pinned) Look() (Stat, error) { return StatOf(p.File) }

// Close lets the file go; Unlink may have done that.
func (p *Pinned) Close() error {
	if err := p.File.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
