package files

import (
	"errors"
	"io/fs"
)

const (
	// defaultEntries bounds a walk nobody bounded: a big server holds a few million files.
	defaultEntries = 5_000_000
	// maxDepth bounds the open descriptors of a walk, one a level. PATH_MAX allows no more than 2048 levels.
	maxDepth = 256
)

// WalkConfig says what a walk looks at.
type WalkConfig struct {
	// Recursive also looks into the folders below root.
	Recursive bool
	// MaxEntries is how many names are looked at, folders included; after that the walk ends with Truncated. 0 = 5 million.
	MaxEntries int
	// SkipDir keeps the walk out of a folder; it gets the whole path of every folder below root. Nil = none.
	SkipDir func(path string) bool
}

// WalkStats counts what a walk met.
type WalkStats struct {
	// Files were visited, Dirs looked into; root counts.
	Files, Dirs int
	// Links were not followed, Others (FIFOs, sockets, devices) not opened, Skipped kept out of by SkipDir.
	Links, Others, Skipped int
	// Denied could not be looked at, OtherDevices are folders and files on another filesystem.
	Denied, OtherDevices int
	// Truncated says that the walk ended or left folders out because of MaxEntries or because they lie more than 256 levels deep.
	Truncated bool
}

// Entry is one regular file a walk met.
type Entry struct {
	// Path is the path of root and the names from there.
	Path string
	// Info describes the file as the walk saw it; its Sys is the *Stat.
	Info fs.FileInfo

	from *folder
}

// Stat returns what the system said about the file.
func (e Entry) Stat() Stat {
	if i, ok := e.Info.(*info); ok {
		return i.Stat
	}
	return Stat{}
}

var (
	// errNotWalked says that an Entry was made by hand.
	errNotWalked = errors.New("the entry comes from no walk")
	// errEnough ends a walk at its limit.
	errEnough = errors.New("enough entries")
)
