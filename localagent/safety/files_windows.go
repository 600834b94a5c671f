package safety

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// maxLinks bounds the names of one file that are looked at; NTFS allows 1024.
const maxLinks = 1024

// filesState is what Files keeps on Windows.
type filesState struct{ digests files.Cache }

// executablePlaces finds executables by name.
type executablePlaces struct {
	places []place
	own    string
	// byID holds the named programs and why they are protected.
	byID map[files.ID]string
}

// Check returns ReasonNone when the open file may be taken, moved or deleted, else the reason and the entry of the table in
// words. The file is judged by all names it has on its volume, by what kind of file it is and by Windows' own list of
// protected files (sfc.h, SfcIsFileProtected). An error means that it cannot be told: then nothing may be done.
func (f *Files) Check(_ context.Context, file *os.File, path string) (bridge.Reason, string, error) {
	if file == nil {
		return bridge.ReasonNone, "", errors.New("look at the file: it is not open")
	}
	handle := windows.Handle(file.Fd())
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(handle, &info); err != nil {
		return bridge.ReasonNone, "", fmt.Errorf("look at the file: %w", err)
	}
	switch {
	case info.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0:
		return refusal(named(KindFile, Folder))
	case info.FileAttributes&(windows.FILE_ATTRIBUTE_REPARSE_POINT|windows.FILE_ATTRIBUTE_DEVICE) != 0:
		return refusal(named(KindFile, Device))
	}
	names, err := namesOf(handle, path, info.NumberOfLinks)
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	places, err := placesOf(Of(KindFile))
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	self, err := os.Executable()
	if err != nil {
		return bridge.ReasonNone, "", fmt.Errorf("own program: %w", err)
	}
	for _, name := range names {
		for _, own := range append([]string{self}, f.cfg.Own...) {
			if within(own, name) {
				return refusal(named(KindFile, OwnFiles))
			}
		}
		for i := range places {
			if places[i].covers(name) {
				return refusal(*places[i].entry)
			}
		}
		protected, err := resourceProtected(name)
		if err != nil {
			return bridge.ReasonNone, "", err
		}
		if protected {
			return refusal(named(KindFile, SystemPackage))
		}
	}
	return bridge.ReasonNone, "", nil
}

// Scope says in words what is known of the files of this system.
func (f *Files) Scope(context.Context) (string, error) {
	return "files under Windows Resource Protection and in the folders of the system are protected", nil
}

func refusal(e Entry) (bridge.Reason, string, error) {
	return bridge.ReasonProtectedPath, e.text(), nil
}

// within reports whether name is own or below it.
func within(own, name string) bool {
	own = filepath.Clean(own)
	return strings.EqualFold(own, name) || len(name) > len(own) && name[len(own)] == '\\' && strings.EqualFold(name[:len(own)], own)
}

// namesOf returns every name of the open file: the one it was opened by, the one Windows gives, and its hard links.
func namesOf(handle windows.Handle, path string, links uint32) ([]string, error) {
	buf := make([]uint16, windows.MAX_LONG_PATH)
	n, err := windows.GetFinalPathNameByHandle(handle, &buf[0], uint32(len(buf)), 0) //nolint:gosec // a constant
	if err != nil || n == 0 || int(n) > len(buf) {
		return nil, fmt.Errorf("name of the file: %w", errors.Join(err, errTooLong(n, len(buf))))
	}
	real := strings.TrimPrefix(windows.UTF16ToString(buf[:n]), `\\?\`)
	names := []string{real}
	if path != "" {
		names = append(names, filepath.Clean(path))
	}
	if links < 2 {
		return names, nil
	}
	others, err := linksOf(real)
	return append(names, others...), err
}

func errTooLong(n uint32, limit int) error {
	if int(n) > limit {
		return fmt.Errorf("it has %d characters, %d are read", n, limit)
	}
	return nil
}

// linksOf lists the hard links of a file (fileapi.h, FindFirstFileNameW). They come without their drive.
func linksOf(name string) ([]string, error) {
	kernel := windows.NewLazySystemDLL("kernel32.dll")
	first, next := kernel.NewProc("FindFirstFileNameW"), kernel.NewProc("FindNextFileNameW")
	if err := errors.Join(first.Find(), next.Find()); err != nil {
		return nil, fmt.Errorf("other names of the file: %w", err)
	}
	from, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, fmt.Errorf("other names of the file: %w", err)
	}
	buf := make([]uint16, windows.MAX_LONG_PATH)
	size := uint32(len(buf))                                                                                                    //nolint:gosec // a constant
	h, _, err := first.Call(uintptr(unsafe.Pointer(from)), 0, uintptr(unsafe.Pointer(&size)), uintptr(unsafe.Pointer(&buf[0]))) //nolint:gosec // out parameters
	if windows.Handle(h) == windows.InvalidHandle {
		return nil, fmt.Errorf("other names of the file: %w", err)
	}
	defer func() { _ = windows.FindClose(windows.Handle(h)) }()
	var names []string
	for range maxLinks {
		names = append(names, filepath.VolumeName(name)+windows.UTF16ToString(buf))
		size = uint32(len(buf))                                                                      //nolint:gosec // a constant
		ok, _, err := next.Call(h, uintptr(unsafe.Pointer(&size)), uintptr(unsafe.Pointer(&buf[0]))) //nolint:gosec // out parameters
		if ok == 0 {
			if errors.Is(err, windows.ERROR_HANDLE_EOF) {
				return names, nil
			}
			return nil, fmt.Errorf("other names of the file: %w", err)
		}
	}
	return nil, fmt.Errorf("other names of the file: more than %d", maxLinks)
}

// resourceProtected asks Windows whether the file is under Windows Resource Protection (learn.microsoft.com, SfcIsFileProtected).
func resourceProtected(name string) (bool, error) {
	ask := windows.NewLazySystemDLL("sfc.dll").NewProc("SfcIsFileProtected")
	if err := ask.Find(); err != nil {
		return false, fmt.Errorf("ask whether Windows protects the file: %w", err)
	}
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return false, fmt.Errorf("ask whether Windows protects the file: %w", err)
	}
	yes, _, err := ask.Call(0, uintptr(unsafe.Pointer(p))) //nolint:gosec // an in parameter
	if yes == 0 && !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) && !errors.Is(err, windows.ERROR_SUCCESS) {
		return false, fmt.Errorf("ask whether Windows protects the file: %w", err)
	}
	return yes != 0, nil
}

// Executables returns the programs that must never be denied execution. It hashes the named ones, which takes some tenths of a
// second; what is only in a protected folder is known by its path. An error means that nothing may be denied.
func (f *Files) Executables(ctx context.Context) (*Executables, error) {
	places, err := placesOf(append(Of(KindExecution), Of(KindProcess)...))
	if err != nil {
		return nil, fmt.Errorf("programs that must always run: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("programs that must always run: %w", err)
	}
	x := &Executables{byDigest: newDigests(), executablePlaces: executablePlaces{places, self, make(map[files.ID]string)}}
	own := named(KindExecution, OwnProgram)
	if err := f.digest(ctx, x, self, &own); err != nil {
		return nil, err
	}
	for i := range places {
		p := &places[i]
		if tree(p.path) || p.drive || strings.ContainsAny(p.path, "*?[") {
			continue
		}
		if err := f.digest(ctx, x, p.path, p.entry); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (f *Files) digest(ctx context.Context, x *Executables, name string, e *Entry) error {
	file, err := os.Open(name) //nolint:gosec // a path of the table
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("programs that must always run: %w", err)
	}
	defer func() { _ = file.Close() }()
	d, err := f.digests.Of(ctx, file, true, true)
	if err != nil {
		return fmt.Errorf("programs that must always run: digest of %s: %w", name, err)
	}
	for _, sum := range []string{d.MD5, d.SHA256} {
		x.byDigest[sum] = e.text()
	}
	if id, err := files.IDOf(name); err == nil {
		x.byID[id] = e.text()
	}
	return nil
}

// ByID returns ReasonNone when a rule may forbid the file of this identity, else the reason and the entry in words.
func (x *Executables) ByID(id files.ID) (bridge.Reason, string) {
	if why, ok := x.byID[id]; ok {
		return bridge.ReasonProtectedPath, why
	}
	return bridge.ReasonNone, ""
}

// ByPath returns ReasonNone when a rule may forbid whatever is at the absolute path, else the reason and the entry in words.
func (x *Executables) ByPath(path string) (bridge.Reason, string) {
	path = filepath.Clean(path)
	if strings.EqualFold(path, x.own) {
		e := named(KindExecution, OwnProgram)
		return bridge.ReasonProtectedPath, e.text()
	}
	for i := range x.places {
		if x.places[i].covers(path) {
			return bridge.ReasonProtectedPath, x.places[i].entry.text()
		}
	}
	return bridge.ReasonNone, ""
}
