package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// shareAll lets others go on with the file while it is held open: an agent must not break what it looks at.
const shareAll = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE

// Open opens the regular file at the absolute path for reading. Reparse points (links, junctions, cloud placeholders) are not
// followed: the name the system gives the open handle must be the path, in any case of letters and with short names
// written out, else the error wraps ErrLink. Other errors wrap ErrNotRegular, fs.ErrNotExist or fs.ErrPermission.
func Open(path string) (*os.File, error) { return openRegular(path, shareAll) }

// OpenHeld is Open, and as long as the file is open nobody can write to it, rename or delete it. The error wraps ErrBusy when somebody has it
// open for that already.
func OpenHeld(path string) (*os.File, error) { return openRegular(path, windows.FILE_SHARE_READ) }

func openRegular(path string, share uint32) (*os.File, error) {
	f, st, err := openShared(path, windows.GENERIC_READ, share)
	if err != nil {
		return nil, err
	}
	if !st.Perm.IsRegular() {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w: it is a directory", ErrNotRegular)}
	}
	return f, nil
}

// openHandle opens a file or folder without following anything and lets others go on with it.
func openHandle(path string, access uint32) (*os.File, Stat, error) {
	return openShared(path, access, shareAll)
}

// openShared is openHandle with what others may do meanwhile.
// learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
func openShared(path string, access, share uint32) (*os.File, Stat, error) {
	failed := func(err error) (*os.File, Stat, error) {
		return nil, Stat{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err := bridge.CheckPath(path); err != nil {
		return failed(fmt.Errorf("%w: the path %w", fs.ErrInvalid, err))
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return failed(fs.ErrInvalid)
	}
	const flags = windows.FILE_FLAG_OPEN_REPARSE_POINT | windows.FILE_FLAG_BACKUP_SEMANTICS
	h, err := windows.CreateFile(name, access, share, nil, windows.OPEN_EXISTING, flags, 0)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		err = fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return failed(err)
	}
	f := os.NewFile(uintptr(h), path)
	st, err := judgeHandle(h, path)
	if err != nil {
		_ = f.Close()
		return failed(err)
	}
	return f, st, nil
}

// judgeHandle refuses what is not the file the path spells.
func judgeHandle(h windows.Handle, path string) (Stat, error) {
	if kind, err := windows.GetFileType(h); err != nil || kind != windows.FILE_TYPE_DISK {
		return Stat{}, fmt.Errorf("%w: it is a device or pipe", ErrNotRegular)
	}
	var i windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &i); err != nil {
		return Stat{}, fmt.Errorf("stat: %w", err)
	}
	if i.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0 {
		return Stat{}, ErrLink
	}
	final, err := finalPath(h)
	if err != nil {
		return Stat{}, fmt.Errorf("name of the open file: %w", err)
	}
	if want := bridge.NormalPath(final); bridge.NormalPath(path) != want && bridge.NormalPath(longPath(path)) != want {
		return Stat{}, fmt.Errorf("%w: the file really is %q", ErrLink, final)
	}
	return goStat(&i), nil
}

// StatOf returns what the system says about the open file.
func StatOf(f *os.File) (Stat, error) {
	var i windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &i); err != nil {
		return Stat{}, fmt.Errorf("stat: %w", err)
	}
	return goStat(&i), nil
}

func goStat(i *windows.ByHandleFileInformation) Stat {
	st := Stat{
		ID:    ID{uint64(i.VolumeSerialNumber), uint64(i.FileIndexHigh)<<32 | uint64(i.FileIndexLow)},
		Bytes: int64(i.FileSizeHigh)<<32 | int64(i.FileSizeLow), Links: uint64(i.NumberOfLinks), Perm: 0o666,
		Modified: goTime(i.LastWriteTime), Accessed: goTime(i.LastAccessTime), Created: goTime(i.CreationTime),
	}
	if i.FileAttributes&windows.FILE_ATTRIBUTE_READONLY != 0 {
		st.Perm = 0o444
	}
	if i.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0 {
		st.Perm |= fs.ModeDir | 0o111
	}
	return st
}

func goTime(t windows.Filetime) time.Time {
	if t.HighDateTime == 0 && t.LowDateTime == 0 {
		return time.Time{}
	}
	return time.Unix(0, t.Nanoseconds())
}

// finalPath returns the path the system knows the open file by, \\?\ included.
func finalPath(h windows.Handle) (string, error) {
	buf := make([]uint16, windows.MAX_PATH)
	for {
		n, err := windows.GetFinalPathNameByHandle(h, &buf[0], uint32(len(buf)), 0) //nolint:gosec // at most 32768
		if err != nil {
			return "", err
		}
		if int(n) < len(buf) {
			return windows.UTF16ToString(buf[:n]), nil
		}
		if len(buf) >= windows.MAX_LONG_PATH {
			return "", errors.New("longer than any path")
		}
		buf = make([]uint16, windows.MAX_LONG_PATH)
	}
}

// longPath writes short names (PROGRA~1) out; where it cannot it returns path.
func longPath(path string) string {
	from, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return path
	}
	buf := make([]uint16, windows.MAX_LONG_PATH)
	n, err := windows.GetLongPathName(from, &buf[0], uint32(len(buf))) //nolint:gosec // 32768
	if err != nil || int(n) >= len(buf) {
		return path
	}
	return windows.UTF16ToString(buf[:n])
}
