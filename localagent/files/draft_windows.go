package files

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Draft is a file under a name of ours in a folder. Commit gives it its own name; Close it in any case.
type Draft struct {
	// File is open for reading and writing.
	File *os.File

	folder string
	done   bool
}

// NewDraft makes a draft in the folder, which must exist and is reached through no reparse point.
func NewDraft(folder string) (*Draft, error) {
	folder = filepath.Clean(folder)
	dir, st, err := openHandle(folder, windows.GENERIC_READ)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	if !st.Perm.IsDir() {
		return nil, &fs.PathError{Op: "create a file in", Path: folder, Err: errors.New("not a folder")}
	}
	temp := filepath.Join(folder, ".edr-bridge-"+strings.ToLower(rand.Text()))
	name, err := windows.UTF16PtrFromString(temp)
	if err != nil {
		return nil, err
	}
	const access = windows.GENERIC_READ | windows.GENERIC_WRITE | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER
	h, err := windows.CreateFile(name, access, 0, nil, windows.CREATE_NEW, windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "create a file in", Path: folder, Err: err}
	}
	d := &Draft{File: os.NewFile(uintptr(h), temp), folder: folder}
	if _, err := judgeHandle(h, temp); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "create a file in", Path: folder, Err: err}, d.Close())
	}
	return d, nil
}

// Commit makes the content durable and gives the file its name. It answers ErrExists when the name is taken: nothing is
// overwritten.
func (d *Draft) Commit(name string) error {
	path := filepath.Join(d.folder, name)
	if filepath.Base(path) != name || bridge.CheckPath(path) != nil {
		return &fs.PathError{Op: "name", Path: name, Err: fs.ErrInvalid}
	}
	if err := d.File.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	err := renameHandle(windows.Handle(d.File.Fd()), path)
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) || errors.Is(err, windows.ERROR_FILE_EXISTS) {
		err = ErrExists
	}
	if err != nil {
		return &fs.PathError{Op: "name", Path: path, Err: err}
	}
	d.done = true
	return nil
}

// Close lets the draft go; one without its name is gone then.
func (d *Draft) Close() error {
	var err error
	if !d.done {
		_, err = deleteHandle(windows.Handle(d.File.Fd()))
	}
	return errors.Join(err, d.File.Close())
}
