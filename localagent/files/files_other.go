//go:build !linux && !windows

package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// folder exists on Linux and Windows only.
type folder struct{}

func errSystem() error {
	return fmt.Errorf("files are handled safely on Linux and Windows only, run the agent there: %w", errors.ErrUnsupported)
}

// IDOf answers an error that wraps errors.ErrUnsupported.
func IDOf(string) (ID, error) { return ID{}, errSystem() }

// StatOf answers an error that wraps errors.ErrUnsupported.
func StatOf(*os.File) (Stat, error) { return Stat{}, errSystem() }

// Open answers an error that wraps errors.ErrUnsupported.
func Open(string) (*os.File, error) { return nil, errSystem() }

// Open answers an error that wraps errors.ErrUnsupported.
func (Entry) Open() (*os.File, error) { return nil, errSystem() }

// Walk answers an error that wraps errors.ErrUnsupported.
func Walk(context.Context, string, WalkConfig, func(Entry) error) (WalkStats, error) {
	return WalkStats{}, errSystem()
}

// CheckPath answers an error that wraps errors.ErrUnsupported.
func CheckPath(string) error { return errSystem() }

// CheckFound answers an error that wraps errors.ErrUnsupported.
func CheckFound(string) error { return errSystem() }

// SameName reports whether two names are equal.
func SameName(a, b string) bool { return a == b }

// Below reports whether the clean path is the folder or lies below it; it goes by name.
func Below(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

// Pinned exists on Linux and Windows only.
type Pinned struct {
	File       *os.File
	Path, Name string
	Stat       Stat
}

// Pin answers an error that wraps errors.ErrUnsupported.
func Pin(string) (*Pinned, error) { return nil, errSystem() }

// Pin answers an error that wraps errors.ErrUnsupported.
func (Entry) Pin() (*Pinned, error) { return nil, errSystem() }

// Still answers an error that wraps errors.ErrUnsupported.
func (*Pinned) Still() error { return errSystem() }

// Look answers an error that wraps errors.ErrUnsupported.
func (*Pinned) Look() (Stat, error) { return Stat{}, errSystem() }

// Close does nothing.
func (*Pinned) Close() error { return nil }

// Writable answers an error that wraps errors.ErrUnsupported.
func (*Pinned) Writable() error { return errSystem() }

// Remove answers an error that wraps errors.ErrUnsupported.
func (*Pinned) Remove() error { return errSystem() }

// MoveTo answers an error that wraps errors.ErrUnsupported.
func (*Pinned) MoveTo(string, uint32) error { return errSystem() }

// MoveOut answers an error that wraps errors.ErrUnsupported.
func MoveOut(string, string) error { return errSystem() }

// FolderFlags answers an error that wraps errors.ErrUnsupported.
func (*Pinned) FolderFlags() (ino uint64, flags uint32, err error) { return 0, 0, errSystem() }

// SetFolderFlags answers an error that wraps errors.ErrUnsupported.
func SetFolderFlags(string, uint64, uint32) error { return errSystem() }

// Stage exists on Linux only.
type Stage struct{}

// Path is empty.
func (*Stage) Path() string { return "" }

// Close does nothing.
func (*Stage) Close() error { return nil }

// Stage answers an error that wraps errors.ErrUnsupported.
func (*Pinned) Stage(string) (*Stage, error) { return nil, errSystem() }

// NearStage answers an error that wraps errors.ErrUnsupported.
func (*Pinned) NearStage() (*Stage, error) { return nil, errSystem() }

// DropStage does nothing.
func DropStage(string) {}

// Taken exists on Linux and Windows only.
type Taken struct{}

// At is empty.
func (*Taken) At() string { return "" }

// Take answers an error that wraps errors.ErrUnsupported.
func (*Pinned) Take(*Stage, string) (*Taken, error) { return nil, errSystem() }

// PutBack answers an error that wraps errors.ErrUnsupported.
func (*Taken) PutBack() error { return errSystem() }

// Unlink answers an error that wraps errors.ErrUnsupported.
func (*Taken) Unlink() error { return errSystem() }

// AttributesOf answers an error that wraps errors.ErrUnsupported.
func AttributesOf(*os.File) (Attributes, []string, error) { return Attributes{}, nil, errSystem() }

// Apply answers an error that wraps errors.ErrUnsupported.
func Apply(*os.File, *Attributes) ([]string, error) { return nil, errSystem() }

// Flags answers an error that wraps errors.ErrUnsupported.
func Flags(*os.File) (uint32, error) { return 0, errSystem() }

// SetFlags answers an error that wraps errors.ErrUnsupported.
func SetFlags(*os.File, uint32) error { return errSystem() }

// Frozen keeps nobody off.
type Frozen struct{}

// Freeze does nothing.
func Freeze(*os.File) *Frozen { return &Frozen{} }

// Held answers false.
func (*Frozen) Held() bool { return false }

// Thaw does nothing.
func (*Frozen) Thaw() {}

// Holders answers an error that wraps errors.ErrUnsupported.
func Holders(context.Context, ID) ([]Holder, error) { return nil, errSystem() }

// Draft exists on Linux and Windows only.
type Draft struct {
	File *os.File
}

// NewDraft answers an error that wraps errors.ErrUnsupported.
func NewDraft(string) (*Draft, error) { return nil, errSystem() }

// Commit answers an error that wraps errors.ErrUnsupported.
func (*Draft) Commit(string) error { return errSystem() }

// Close does nothing.
func (*Draft) Close() error { return nil }
