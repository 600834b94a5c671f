package secrets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	newPrefix = ".new-" // directories in which a value is written before it takes its place
	newMaxAge = time.Hour

	othersMay        fs.FileMode = 0o007
	groupOrOthersMay fs.FileMode = 0o077
)

// putFile lets the module write the encrypted value into a fresh directory beside the others, then moves the file into
// its place, because the module truncates the old file before it writes.
func (s *Store) putFile(ctx context.Context, k opener, ref Ref, data []byte) (err error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := checkDir(s.cfg.Dir); err != nil {
		return err
	}
	if err := s.samePassphrase(k, ref); err != nil {
		return err
	}
	s.sweep()
	tmp, err := os.MkdirTemp(s.cfg.Dir, newPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	ring, err := k(tmp)
	if err != nil {
		return err
	}
	if err := ring.Set(s.item(ref, data)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx) // nobody waits any more: leave the old value
	}
	written := filepath.Join(tmp, fileName(ref))
	if err := syncFile(written); err != nil {
		return err
	}
	if err := os.Rename(written, filepath.Join(s.cfg.Dir, fileName(ref))); err != nil {
		return err
	}
	return syncDir(s.cfg.Dir)
}

// samePassphrase refuses to add a value under another passphrase than its neighbours have: nobody could open both.
func (s *Store) samePassphrase(k opener, ref Ref) error {
	refs, err := s.listFiles()
	if err != nil {
		return err
	}
	ring, err := k("")
	if err != nil {
		return err
	}
	for _, other := range refs {
		if other == ref && len(refs) > 1 {
			continue // it may be damaged, which is why it is set again
		}
		item, err := ring.Get(string(other))
		clear(item.Data)
		if err == nil {
			return nil
		}
		if strings.Contains(err.Error(), "integrity check failed") {
			return &Error{
				Kind: ErrLocked, Detail: fmt.Sprintf("wrong passphrase, or %s is damaged", other),
				Advice: "give the passphrase the other secrets were stored with, or delete them first",
			}
		}
	}
	return nil
}

func (s *Store) removeFile(ref Ref) error {
	if err := checkDir(s.cfg.Dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(s.cfg.Dir, fileName(ref))); err != nil {
		return err
	}
	return syncDir(s.cfg.Dir)
}

func (s *Store) listFiles() ([]Ref, error) {
	if err := checkDir(s.cfg.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var refs []Ref
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if ref, err := NewRef(strings.ReplaceAll(e.Name(), "%2F", "/")); err == nil {
			refs = append(refs, ref)
		}
	}
	slices.Sort(refs)
	return refs, nil
}

// sweep removes what a crash left of an earlier write. It holds encrypted values only, so failing to is no error.
func (s *Store) sweep() {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), newPrefix) || s.cfg.Now().Sub(info.ModTime()) < newMaxAge {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.cfg.Dir, e.Name())); err != nil {
			s.cfg.Logger.Warn("a rest of an earlier write stays", "dir", e.Name(), "err", err)
		}
	}
}

// fileName is how the module names the file of a key: a slash is %2F, and Ref holds no other special character.
func fileName(ref Ref) string { return strings.ReplaceAll(string(ref), "/", "%2F") }

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &Error{Kind: ErrBackend, Detail: dir + " is not a directory"}
	}
	if err := checkAccess(info, groupOrOthersMay); err != nil {
		return &Error{Kind: ErrLocked, Detail: dir + ": " + detail(err), Advice: "it must belong to this account with mode 0700"}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // a file this package has just written
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
