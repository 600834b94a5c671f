package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// maxLinks is how many links may lie on the way of one path (path_resolution(7)).
const maxLinks = 40

// openImage opens what a link of /proc leads to, even when no path does any more. Nothing but a regular file is opened.
func openImage(link string) (*os.File, error) {
	fd, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: link, Err: err}
	}
	pinned := os.NewFile(uintptr(fd), link)
	defer func() { _ = pinned.Close() }()
	st, err := files.StatOf(pinned)
	if err != nil {
		return nil, err
	}
	if !st.Perm.IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: link, Err: files.ErrNotRegular}
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	opened, err := unix.Open(self, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		opened, err = unix.Open(self, flags, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: link, Err: err}
	}
	return os.NewFile(uintptr(opened), link), nil
}

// image offers what a link of /proc leads to: as the file of that path when the path leads there as well, else as an image.
func (f *finder) image(ctx context.Context, link string) error {
	f.r.busy(f.sl, link, f.r.s.cfg.PerFile)
	defer f.r.busy(f.sl, "", 0)
	var st unix.Stat_t
	err := unix.Stat(link, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	var path string
	if err == nil {
		path, err = os.Readlink(link)
	}
	if err != nil {
		f.unread(link, err)
		return nil
	}
	id := files.ID{Dev: st.Dev, Ino: st.Ino}
	o := object{kind: KindImage, path: path, id: id, size: st.Size, open: func() (*os.File, error) { return openImage(link) }}
	if at, err := files.IDOf(path); err == nil && at == id {
		o.kind = KindFile
	}
	return f.offer(ctx, o)
}

// unread counts what could not be looked at. What is gone holds nothing: a process that ended, and kernel threads, which have no image.
func (f *finder) unread(path string, err error) {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOTDIR) {
		return
	}
	reason := reasonNotOpened
	if errors.Is(err, fs.ErrPermission) {
		reason = reasonDenied
	}
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	f.r.failed.add(reason, path)
	f.r.res.Found++
	f.r.settled++
}

// file offers the regular file at a path without links; what is not there is left out.
func (f *finder) file(ctx context.Context, path string) error {
	f.r.busy(f.sl, path, f.r.s.cfg.PerFile)
	defer f.r.busy(f.sl, "", 0)
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err != nil {
		f.unread(path, err)
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	return f.offer(ctx, object{
		kind: KindFile, path: path, id: files.ID{Dev: st.Dev, Ino: st.Ino}, size: st.Size,
		open: func() (*os.File, error) { return files.Open(path) },
	})
}

// place walks a folder the system itself names: links on the way to it, such as /bin → usr/bin, are resolved first; links inside
// are not followed. found says whether it is there.
func (f *finder) place(ctx context.Context, path string) (found bool, err error) {
	real, err := resolve(f.r.s.cfg.Roots.Root, path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", verdict.Shown(path), bare(err))
	}
	if err := f.folder(ctx, real, true); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, fmt.Errorf("%s: %w", verdict.Shown(path), err)
	}
	return true, nil
}

// resolve returns where the absolute path leads below root once all links are taken; links that begin with "/" begin at root.
func resolve(root, path string) (string, error) {
	rest := strings.Split(strings.Trim(path, "/"), "/")
	at := "/"
	for links := 0; len(rest) > 0; {
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
		st, err := os.Lstat(filepath.Join(root, next)) //nolint:gosec // looked at, not opened
		if err != nil {
			return "", err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: path, Err: unix.ELOOP}
		}
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(target, "/") {
			at = "/"
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return filepath.Join(root, at), nil
}
