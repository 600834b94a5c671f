package safety

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// maxTreeFiles bounds the walk through protected trees; Kaspersky's have some ten thousand files.
const maxTreeFiles = 500_000

// errTooMany says that a tree was not searched to its end.
var errTooMany = errors.New("too many files to search")

// hit is one protected file: which entry it comes from, by what name, and what else is known of it.
type hit struct {
	entry  *Entry
	name   string
	detail string
}

// why is the text of a refusal.
func (h hit) why() string {
	if h.detail != "" {
		return h.entry.text() + " (" + h.detail + ")"
	}
	return h.entry.text()
}

// index finds the entry of a file by identity, by name, or by the tree or pattern its name is in.
type index struct {
	byID   map[files.ID]hit
	byName map[string]hit
	trees  []hit
	globs  []hit
}

func newIndex(entries []Entry) *index {
	x := &index{byID: make(map[files.ID]hit), byName: make(map[string]hit)}
	for i := range entries {
		e := &entries[i]
		for _, p := range e.Paths {
			x.add(hit{entry: e, name: p})
		}
	}
	return x
}

// add takes up one path of an entry. A later entry does not replace an earlier one.
func (x *index) add(h hit) {
	switch {
	case tree(h.name):
		x.trees = append(x.trees, h)
	case strings.ContainsAny(h.name, "*?["):
		x.globs = append(x.globs, h)
		found, err := filepath.Glob(h.name)
		if err != nil {
			return
		}
		for _, name := range found {
			x.identify(hit{h.entry, name, h.detail})
		}
	default:
		if _, ok := x.byName[h.name]; !ok {
			x.byName[h.name] = h
		}
		x.identify(h)
	}
}

// programFolders count whole where nobody can tell which package a file is from.
func programFolders() []string {
	return []string{
		"/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/",
		"/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/lib32/", "/usr/lib64/", "/usr/libx32/", "/usr/libexec/",
	}
}

// identify remembers which file the name is at this moment. A link is followed when root made it: a link anybody can make
// would put the protection over a file of his choice.
func (x *index) identify(h hit) {
	var st unix.Stat_t
	if unix.Lstat(h.name, &st) != nil {
		return
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if st.Uid != 0 || unix.Stat(h.name, &st) != nil {
			return
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	id := files.ID{Dev: st.Dev, Ino: st.Ino}
	if _, ok := x.byID[id]; !ok {
		x.byID[id] = h
	}
}

// named returns the entry that protects the name.
func (x *index) named(name string) (hit, bool) {
	if h, ok := x.byName[name]; ok {
		return h, true
	}
	for _, h := range x.trees {
		if strings.HasPrefix(name, h.name) {
			return h, true
		}
	}
	for _, h := range x.globs {
		if ok, err := path.Match(h.name, name); err == nil && ok {
			return h, true
		}
	}
	return hit{}, false
}

// identified returns the entry that protects the identity; the name is looked up again, because an inode number may have
// been given to another file.
func (x *index) identified(id files.ID) (hit, bool) {
	h, ok := x.byID[id]
	if !ok {
		return hit{}, false
	}
	now, err := files.IDOf(h.name)
	return h, err == nil && now == id
}

// linked looks for another name of the file in the protected trees; files with one name only need not be looked for.
func (x *index) linked(ctx context.Context, id files.ID) (hit, bool, error) {
	var found hit
	seen := 0
	for _, t := range x.trees {
		var st unix.Stat_t
		if err := unix.Stat(t.name, &st); err != nil || st.Dev != id.Dev {
			continue // links do not leave their file system
		}
		err := filepath.WalkDir(t.name, func(name string, d fs.DirEntry, err error) error {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			if seen++; seen > maxTreeFiles {
				return fmt.Errorf("%w in %s", errTooMany, t.name)
			}
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if now, err := files.IDOf(name); err == nil && now == id {
				found = hit{t.entry, name, "another name of " + name}
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			return hit{}, false, fmt.Errorf("other names of the file: %w", err)
		}
		if found.entry != nil {
			return found, true, nil
		}
	}
	return hit{}, false, nil
}
