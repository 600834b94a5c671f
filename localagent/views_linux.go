package localagent

import (
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxCommandLine bounds how much of a command line is searched for the script.
	maxCommandLine = 64 << 10
	// maxScript bounds the scripts that are hashed.
	maxScript = 64 << 20
)

// views yields the files p can be said to run: its image by the name the kernel gives, by the name it has below
// the root directory of the process (chroot, container), and, when the image is an interpreter, the script.
func (p *pinned) views() iter.Seq[view] {
	return func(yield func(view) bool) {
		image := p.imageView()
		if p.image == "" || !yield(image) {
			return
		}
		root, err := p.readlink("root")
		if err != nil {
			root = "/"
		}
		if inner, ok := below(root, p.image); ok && !yield(view{inner, image.open, image.far}) {
			return
		}
		script := p.script()
		if script == "" {
			return
		}
		inner, ok := below(root, script)
		if !ok {
			inner = script
		}
		open := func() (*os.File, error) { return p.openInside(inner) }
		isFar := func() bool { return p.farInside(inner) }
		if !yield(view{script, open, isFar}) || !ok {
			return
		}
		yield(view{inner, open, isFar})
	}
}

// imageView is the image by the name the kernel gives.
func (p *pinned) imageView() view {
	return view{p.image, p.openExe, func() bool { return far(p.exe) }}
}

// below returns path as seen by a process whose root directory is root; ok is false when that is no other name.
func below(root, path string) (inner string, ok bool) {
	if root == "/" {
		return "", false
	}
	inner, ok = strings.CutPrefix(path, root)
	return inner, ok && strings.HasPrefix(inner, "/")
}

// script returns the absolute path of the file argument of an interpreter, or "". The process can rewrite its
// command line: that hides a script, it cannot put one over another process.
func (p *pinned) script() string {
	in, ok := interpreterOf(p.image)
	if !ok {
		return ""
	}
	fd, err := unix.Openat(p.dir, "cmdline", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), "cmdline")
	defer func() { _ = f.Close() }()
	line, err := io.ReadAll(io.LimitReader(f, maxCommandLine))
	if err != nil {
		return ""
	}
	name := in.script(line)
	if name == "" {
		return ""
	}
	if n, ok := strings.CutPrefix(name, "/dev/fd/"); ok && !strings.Contains(n, "/") {
		// A script handed over as an open file is known by what the file is.
		link, err := p.readlink("fd/" + n)
		if err != nil || !filepath.IsAbs(link) {
			return ""
		}
		return strings.TrimSuffix(link, deletedMark)
	}
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	cwd, err := p.readlink("cwd")
	if err != nil || !filepath.IsAbs(cwd) {
		return ""
	}
	return filepath.Join(cwd, name)
}

// farInside is far for a file as the process itself would find it; one whose name the kernel does not remember may be anywhere.
func (p *pinned) farInside(path string) bool {
	root, err := unix.Openat(p.dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer func() { _ = unix.Close(root) }()
	id, err := rememberedID(root, path, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	return !errors.Is(err, unix.ENOENT) && (err != nil || far(id))
}

// openInside opens a regular file as the process itself would find it, and never hangs on a pipe.
func (p *pinned) openInside(path string) (*os.File, error) {
	root, err := unix.Openat(p.dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOSYS):
		return nil, err
	case err != nil:
		// What cannot be opened is not the script any more: it was removed, or never was a file.
		return nil, os.ErrNotExist
	}
	f := os.NewFile(uintptr(fd), path)
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxScript) {
		// Devices, pipes and huge files are no scripts.
		err = os.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// spellings returns the names path is known by. On systems whose /bin is a link to /usr/bin the kernel only ever
// says /usr/bin. No other link is followed: whoever can plant one could aim the order at another program.
func spellings(path string) []string {
	path = filepath.Clean(path)
	names := []string{path}
	first, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || !slices.Contains([]string{"bin", "sbin", "lib", "lib64"}, first) {
		return names
	}
	if to, err := os.Readlink("/" + first); err == nil {
		if !filepath.IsAbs(to) {
			to = "/" + to
		}
		names = append(names, filepath.Join(to, rest))
	}
	return names
}
