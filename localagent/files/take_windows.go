package files

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Stage does nothing on Windows, where a file is deleted by its handle and needs no place of its own.
type Stage struct{}

// Path is empty.
func (*Stage) Path() string { return "" }

// Close does nothing.
func (*Stage) Close() error { return nil }

// Stage returns a stage that does nothing.
func (*Pinned) Stage(string) (*Stage, error) { return &Stage{}, nil }

// NearStage returns a stage that does nothing.
func (*Pinned) NearStage() (*Stage, error) { return &Stage{}, nil }

// DropStage does nothing.
func DropStage(string) {}

// Taken is a file whose handle may delete it. End it with Unlink or PutBack.
type Taken struct {
	p *Pinned
}

// At is where the file is.
func (t *Taken) At() string { return t.p.Path }

// Take looks whether the pinned file still has its name; the error wraps ErrSwapped when not.
func (p *Pinned) Take(*Stage, string) (*Taken, error) {
	if err := p.Still(); err != nil {
		return nil, err
	}
	return &Taken{p}, nil
}

// PutBack does nothing: the file was not moved.
func (*Taken) PutBack() error { return nil }

// Unlink removes the file for good. A file in use is renamed and goes when the machine starts again: a *RestartError. One that
// its holder does not let be renamed is ErrBusy and stays as it is. It has no undo.
func (t *Taken) Unlink() error {
	h := windows.Handle(t.p.File.Fd())
	plain, err := deleteHandle(h)
	if err == nil && plain {
		return t.p.gone()
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, windows.ERROR_ACCESS_DENIED) && !errors.Is(err, windows.ERROR_SHARING_VIOLATION) &&
		!errors.Is(err, windows.ERROR_USER_MAPPED_FILE) {
		return &fs.PathError{Op: "delete", Path: t.p.Path, Err: err}
	}
	// The name changes first, so that nothing starts the file by its name until then. Without a name nobody could foresee nothing is
	// left to the restart: whoever owns the folder could lead its old name to any file of the system by then.
	at := t.p.Path + ".edr-bridge-" + strings.ToLower(rand.Text())
	if renameErr := renameHandle(h, at); renameErr != nil {
		return &fs.PathError{Op: "delete", Path: t.p.Path, Err: fmt.Errorf("%w: %w", ErrBusy, errors.Join(err, renameErr))}
	}
	name, nameErr := windows.UTF16PtrFromString(at)
	if nameErr != nil {
		return nameErr
	}
	if moveErr := windows.MoveFileEx(name, nil, windows.MOVEFILE_DELAY_UNTIL_REBOOT); moveErr != nil {
		err = errors.Join(err, moveErr)
		if back := renameHandle(h, t.p.Path); back != nil {
			err = fmt.Errorf("it is %q by now: %w", at, errors.Join(err, back))
		}
		return &fs.PathError{Op: "delete", Path: t.p.Path, Err: err}
	}
	return &RestartError{at}
}

// gone closes the file and looks whether its name went with it: where the system cannot delete at once, it deletes when the last handle is
// closed, and whoever has another one can take that back.
func (p *Pinned) gone() error {
	if err := p.Close(); err != nil {
		return err
	}
	if _, err := os.Lstat(p.Path); !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "delete", Path: p.Path, Err: errors.New("it goes when everybody who has it open closes it, unless they undo that")}
	}
	return nil
}

// Writable answers nil: Unlink finds out.
func (*Pinned) Writable() error { return nil }

// Remove removes the pinned file. It has no undo.
func (p *Pinned) Remove() error { return (&Taken{p}).Unlink() }

// MoveTo gives the pinned file the path to on the same volume. It answers ErrExists when the name is taken.
func (p *Pinned) MoveTo(to string, _ uint32) error {
	err := renameHandle(windows.Handle(p.File.Fd()), to)
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) || errors.Is(err, windows.ERROR_FILE_EXISTS) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("move %q to %q: %w", p.Path, to, err)
	}
	return nil
}

// MoveOut answers an error that wraps errors.ErrUnsupported: there is no stage on Windows.
func MoveOut(string, string) error { return errors.ErrUnsupported }

// deleteHandle marks the open file for deletion; its name goes at once where the system can do that (Windows 10 1607),
// else with the last handle, which is plain. learn.microsoft.com/windows-hardware/drivers/ddi/ntddk/ns-ntddk-_file_disposition_information_ex
func deleteHandle(h windows.Handle) (plain bool, err error) {
	const deletePOSIXReadOnly = 0x1 | 0x2 | 0x10
	flags := uint32(deletePOSIXReadOnly)
	size := uint32(unsafe.Sizeof(flags))
	err = windows.SetFileInformationByHandle(h, windows.FileDispositionInfoEx, (*byte)(unsafe.Pointer(&flags)), size)
	if err == nil || errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return false, err
	}
	yes := byte(1)
	return true, windows.SetFileInformationByHandle(h, windows.FileDispositionInfo, &yes, 1)
}

// renameHandle renames the open file without replacing another.
// learn.microsoft.com/windows/win32/api/winbase/ns-winbase-file_rename_info
func renameHandle(h windows.Handle, to string) error {
	name, err := windows.UTF16FromString(to)
	if err != nil {
		return err
	}
	type renameInfo struct {
		replace uint32
		root    windows.Handle
		length  uint32
		name    [1]uint16
	}
	head := unsafe.Offsetof(renameInfo{}.name)
	buf := make([]uint64, (int(head)+2*len(name))/8+1)
	info := (*renameInfo)(unsafe.Pointer(&buf[0]))
	info.length = uint32(2 * (len(name) - 1)) //nolint:gosec // a path
	copy(unsafe.Slice(&info.name[0], len(name)), name)
	size := uint32(8 * len(buf)) //nolint:gosec // a path
	return windows.SetFileInformationByHandle(h, windows.FileRenameInfo, (*byte)(unsafe.Pointer(&buf[0])), size)
}
