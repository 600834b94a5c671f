package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// dirBatch is how many names of a folder are read at once.
const dirBatch = 1024

// folder remembers how the walk saw the file: the folder entry holds the file's index.
type folder struct {
	seen fs.FileInfo
}

// Open opens the file the walk saw, without links, at any time and from any goroutine: it answers an error that wraps
// ErrSwapped when the name leads to another file by then, and else the errors of Open.
func (e Entry) Open() (*os.File, error) {
	if e.from == nil {
		return nil, &fs.PathError{Op: "open", Path: e.Path, Err: errNotWalked}
	}
	f, err := Open(e.Path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if e.from.seen != nil && !os.SameFile(fi, e.from.seen) {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: e.Path, Err: ErrSwapped}
	}
	return f, nil
}

// Walk visits the regular files in the folder root, and below it when cfg.Recursive is set, in no order. A root that
// is a regular file is visited itself. It never goes through a reparse point, so that it stays on its volume, opens
// folders only, and looks at ctx before each name. Folders that vanish or may not be read are counted. It ends with the error
// of visit, with the cause of ctx, or with what was wrong with root. The counts are right in every case.
func Walk(ctx context.Context, root string, cfg WalkConfig, visit func(Entry) error) (WalkStats, error) {
	if cfg.MaxEntries <= 0 {
		cfg.MaxEntries = defaultEntries
	}
	w := walker{cfg: cfg, visit: visit, left: cfg.MaxEntries}
	err := w.root(ctx, filepath.Clean(root))
	if errors.Is(err, errEnough) {
		w.stats.Truncated, err = true, nil
	}
	return w.stats, err
}

// walker is one walk.
type walker struct {
	cfg   WalkConfig
	visit func(Entry) error
	left  int
	stats WalkStats
}

func (w *walker) root(ctx context.Context, path string) error {
	f, st, err := openHandle(path, windows.GENERIC_READ)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if st.Perm.IsRegular() {
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		w.stats.Files++
		return w.visit(Entry{path, &info{filepath.Base(path), st}, &folder{fi}})
	}
	return w.dir(ctx, f, strings.TrimSuffix(path, `\`), 0)
}

func (w *walker) dir(ctx context.Context, f *os.File, path string, depth int) error {
	w.stats.Dirs++
	var subs []string
	for {
		batch, err := f.ReadDir(dirBatch)
		for _, d := range batch {
			into, err := w.entry(ctx, path, d)
			if err != nil {
				return err
			}
			if into {
				subs = append(subs, d.Name())
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.stats.Denied++
			break
		}
	}
	if len(subs) > 0 && depth+1 >= maxDepth {
		w.stats.Truncated = true
		return nil
	}
	for _, name := range subs {
		below, st, err := openHandle(path+`\`+name, windows.GENERIC_READ)
		if err != nil || !st.Perm.IsDir() {
			if err == nil {
				_ = below.Close()
			}
			w.stats.Denied++
			continue
		}
		err = w.dir(ctx, below, path+`\`+name, depth+1)
		_ = below.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// entry deals with one name of a folder and reports whether it is a folder to go into.
func (w *walker) entry(ctx context.Context, path string, d fs.DirEntry) (bool, error) {
	if cause := context.Cause(ctx); cause != nil {
		return false, fmt.Errorf("walk: %w", cause)
	}
	if w.left == 0 {
		return false, errEnough
	}
	w.left--
	full := path + `\` + d.Name()
	switch {
	case d.Type()&(fs.ModeSymlink|fs.ModeIrregular) != 0:
		w.stats.Links++
	case d.IsDir() && !w.cfg.Recursive:
	case d.IsDir() && w.cfg.SkipDir != nil && w.cfg.SkipDir(full):
		w.stats.Skipped++
	case d.IsDir():
		return true, nil
	case !d.Type().IsRegular():
		w.stats.Others++
	default:
		fi, err := d.Info()
		if err != nil {
			w.stats.Denied++
			return false, nil //nolint:nilerr // counted: one file does not end a walk
		}
		w.stats.Files++
		return false, w.visit(Entry{full, &info{d.Name(), seenStat(fi)}, &folder{fi}})
	}
	return false, nil
}

// seenStat is what a folder entry says about a file; its index stays inside of it.
func seenStat(fi fs.FileInfo) Stat {
	st := Stat{Bytes: fi.Size(), Perm: fi.Mode(), Modified: fi.ModTime()}
	if a, ok := fi.Sys().(*syscall.Win32FileAttributeData); ok {
		st.Accessed, st.Created = time.Unix(0, a.LastAccessTime.Nanoseconds()), time.Unix(0, a.CreationTime.Nanoseconds())
	}
	return st
}
