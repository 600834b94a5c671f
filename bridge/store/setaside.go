package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// SetAside renames the database of a folder and its log to names with the time in them ("edr-bridge.db.2026-05-06T070809Z"), so
// that the next Open starts with an empty store and a person can look at the old one. It returns the path of the
// database. It refuses with ErrLocked while a bridge runs on the folder; other processes (send, audit) must not use it either.
// os.ErrNotExist: there is no database.
func SetAside(dir string, now time.Time) (moved string, err error) {
	unlock, err := lockDir(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	path := filepath.Join(dir, FileName)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("set aside: %w", err)
	}
	moved = path + now.UTC().Format(".2006-01-02T150405Z")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if _, err := os.Lstat(moved + suffix); !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("set aside: %s is there already: wait a second", moved+suffix)
		}
	}
	// The database first: the other way round a crash would leave one that lacks what its log held, and nobody would see it.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+suffix, moved+suffix); err != nil && (suffix == "" || !errors.Is(err, os.ErrNotExist)) {
			return "", fmt.Errorf("set aside: %w", err)
		}
	}
	return moved, syncDir(dir)
}
