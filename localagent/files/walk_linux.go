package files

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// direntBuffer holds about 2000 names for one call of getdents64.
const direntBuffer = 64 << 10

// folder is an open directory of a walk. Entries may outlive it: then they open by path.
type folder struct {
	// mu guards fd, which is -1 when closed.
	mu sync.RWMutex
	fd int
}

func (f *folder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = unix.Close(f.fd)
	f.fd = -1
}

// Open opens the file the walk saw, without links, at any time and from any goroutine: it answers an error that wraps
// ErrSwapped when the name leads to another file by then, and else the errors of Open.
func (e Entry) Open() (*os.File, error) {
	if e.from == nil {
		return nil, &fs.PathError{Op: "open", Path: e.Path, Err: errNotWalked}
	}
	fd, err := e.from.pin(e.Info.Name(), e.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	f, st, err := reopen(fd, e.Path)
	if err != nil {
		return nil, err
	}
	if st.ID != e.Stat().ID {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: e.Path, Err: ErrSwapped}
	}
	return f, nil
}

func (f *folder) pin(name, path string) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.fd < 0 {
		return openPath(path)
	}
	return openAt(f.fd, name, path, 0, noLinks|unix.RESOLVE_BENEATH)
}

// Walk visits the regular files in the folder root, and below it when cfg.Recursive is set, in no order. A root
// that is a regular file is visited itself. It never follows a link (a link on the way to root is ErrLink), never leaves the
// filesystem root is on, never opens anything but folders, and looks at ctx before each name. Folders that vanish or may not be
// read are counted. It ends with the error of visit, with the cause of ctx, or with what was wrong with root: an error
// that wraps fs.ErrNotExist, ErrLink, ErrNotRegular or ErrPseudo. The counts are right in every case.
func Walk(ctx context.Context, root string, cfg WalkConfig, visit func(Entry) error) (WalkStats, error) {
	if cfg.MaxEntries <= 0 {
		cfg.MaxEntries = defaultEntries
	}
	w := walker{ctx: ctx, cfg: cfg, visit: visit, left: cfg.MaxEntries}
	err := w.root(root)
	if errors.Is(err, errEnough) {
		w.stats.Truncated, err = true, nil
	}
	return w.stats, err
}

// walker is one walk.
type walker struct {
	ctx   context.Context //nolint:containedctx // lives as long as the call of Walk
	cfg   WalkConfig
	visit func(Entry) error
	left  int
	// dev and mount are those of root.
	dev, mount uint64
	stats      WalkStats
}

// inside reports whether a file is on the filesystem of root: on its device, or seen through its mount. The files of an overlay and the
// subvolumes of btrfs have devices of their own (stat(2) of overlayfs, https://docs.kernel.org/filesystems/overlayfs.html).
func (w *walker) inside(st Stat, mount uint64) bool {
	return st.Dev == w.dev || mount != 0 && mount == w.mount // kernels before 5.8 tell no mount
}

func (w *walker) root(path string) error {
	fd, err := openPath(path)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	st, mount, err := statAt(fd, "")
	if err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if made, err := pseudo(fd); err != nil || made {
		return &fs.PathError{Op: "walk", Path: path, Err: errors.Join(err, ErrPseudo)}
	}
	w.dev, w.mount = st.Dev, mount
	switch {
	case st.Perm.IsRegular():
		w.stats.Files++
		_, base := split(path)
		return w.visit(Entry{path, &info{base, st}, &folder{fd: -1}})
	case !st.Perm.IsDir():
		return &fs.PathError{Op: "walk", Path: path, Err: fmt.Errorf("%w: it is a %s", ErrNotRegular, typeName(st.Perm))}
	}
	return w.dir(fd, ".", strings.TrimSuffix(path, "/"), st.ID, 0)
}

// dir walks the folder name in the directory parent, which was seen to be id.
func (w *walker) dir(parent int, name, path string, id ID, depth int) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		switch {
		case depth == 0:
			return &fs.PathError{Op: "walk", Path: path, Err: err}
		case !errors.Is(err, unix.ENOENT): // a folder that is gone holds nothing
			w.stats.Denied++
		}
		return nil
	}
	f := &folder{fd: fd}
	defer f.close()
	if st, _, err := statAt(fd, ""); err != nil || st.ID != id {
		w.stats.Denied++
		// Counted: a folder that was swapped is none of root's.
		return nil
	}
	w.stats.Dirs++
	subs, err := w.names(f, path)
	if err != nil {
		return err
	}
	if len(subs) > 0 && depth+1 >= maxDepth {
		w.stats.Truncated = true
		return nil
	}
	for _, sub := range subs {
		if err := w.dir(fd, sub.name, path+"/"+sub.name, sub.id, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// sub is a folder in a folder.
type sub struct {
	name string
	id   ID
}

// names visits the files of a folder and returns the folders to go into.
func (w *walker) names(f *folder, path string) ([]sub, error) {
	buf := make([]byte, direntBuffer)
	var subs []sub
	for {
		n, err := unix.Getdents(f.fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			w.stats.Denied++
			return subs, nil //nolint:nilerr // counted: one unreadable folder does not end a walk
		}
		if n == 0 {
			return subs, nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			var name string
			var kind byte
			name, kind, rest = dirent(rest)
			if name == "" || name == "." || name == ".." {
				continue
			}
			s, err := w.entry(f, path, name, kind)
			if err != nil {
				return nil, err
			}
			if s != nil {
				subs = append(subs, *s)
			}
		}
	}
}

// entry deals with one name of a folder; it returns it when it is a folder to go into.
func (w *walker) entry(f *folder, path, name string, kind byte) (*sub, error) {
	if cause := context.Cause(w.ctx); cause != nil {
		return nil, fmt.Errorf("walk: %w", cause)
	}
	if w.left == 0 {
		return nil, errEnough
	}
	w.left--
	switch kind {
	case unix.DT_LNK:
		w.stats.Links++
		return nil, nil //nolint:nilnil // no folder
	case unix.DT_FIFO, unix.DT_SOCK, unix.DT_CHR, unix.DT_BLK:
		w.stats.Others++
		return nil, nil //nolint:nilnil // no folder
	}
	if kind == unix.DT_DIR && !w.cfg.Recursive {
		return nil, nil //nolint:nilnil // no folder to go into
	}
	// Before anything is asked about it: a folder that is left out may be the mount point of a server that does not answer.
	if kind == unix.DT_DIR && w.cfg.SkipDir != nil && w.cfg.SkipDir(path+"/"+name) {
		w.stats.Skipped++
		return nil, nil //nolint:nilnil // no folder to go into
	}
	st, mount, err := statAt(f.fd, name)
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		w.stats.Denied++
	case st.Perm&fs.ModeSymlink != 0:
		w.stats.Links++
	case st.Perm.IsRegular() && !w.inside(st, mount):
		w.stats.OtherDevices++
	case st.Perm.IsRegular():
		w.stats.Files++
		return nil, w.visit(Entry{path + "/" + name, &info{name, st}, f})
	case !st.Perm.IsDir():
		w.stats.Others++
	case !w.cfg.Recursive:
	case !w.inside(st, mount):
		w.stats.OtherDevices++
	case kind != unix.DT_DIR && w.cfg.SkipDir != nil && w.cfg.SkipDir(path+"/"+name):
		w.stats.Skipped++
	default:
		return &sub{name, st.ID}, nil
	}
	return nil, nil //nolint:nilnil // no folder
}

// dirent takes the first record off a buffer of getdents64(2): inode 8 bytes, offset 8, length 2, type 1, name with NUL.
func dirent(b []byte) (name string, kind byte, rest []byte) {
	const header = 19
	if len(b) < header {
		return "", 0, nil
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size < header || size > len(b) {
		return "", 0, nil
	}
	text := b[header:size]
	for i, c := range text {
		if c == 0 {
			text = text[:i]
			break
		}
	}
	return string(text), b[18], b[size:]
}
