package files

import (
	"io/fs"
	"time"
)

// Stat is what the system says about a file. Times it does not keep are zero.
type Stat struct {
	ID
	// Bytes is the size, Links the number of names the file has.
	Bytes int64
	Links uint64
	// Perm is type and permissions in Go's form.
	Perm fs.FileMode
	// UID and GID are the owner; zero on Windows.
	UID, GID uint32
	// Modified is when the content changed, Changed when content or attributes did (zero on Windows), Accessed when it was
	// read, Created when the file was made.
	Modified, Changed, Accessed, Created time.Time
}

// info makes a Stat an fs.FileInfo.
type info struct {
	name string
	Stat
}

var _ fs.FileInfo = (*info)(nil)

// Name returns the last part of the path.
func (i *info) Name() string { return i.name }

// Size returns the bytes.
func (i *info) Size() int64 { return i.Bytes }

// Mode returns type and permissions.
func (i *info) Mode() fs.FileMode { return i.Perm }

// ModTime returns when the content changed.
func (i *info) ModTime() time.Time { return i.Modified }

// IsDir reports whether it is a directory.
func (i *info) IsDir() bool { return i.Perm.IsDir() }

// Sys returns the *Stat.
func (i *info) Sys() any { return &i.Stat }
