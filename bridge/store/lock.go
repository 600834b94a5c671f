package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const lockName = "lock"

// ErrLocked is returned by LockInstance while another running bridge uses the folder.
var ErrLocked = errors.New("another bridge runs on this folder")

// LockInstance marks the folder as used by a running bridge, in the file "lock" with the process id in it, until
// unlock is called or the process ends. A second one gets ErrLocked, which names the process. Stores without
// the lock (send, audit, …) are not hindered.
func (s *Store) LockInstance() (unlock func() error, err error) { return lockDir(s.cfg.Dir) }

func lockDir(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the folder is the operator's setting
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	held, err := lockFile(f)
	if err == nil && held {
		err = fmt.Errorf("lock store %s: %w%s: stop it or use another folder", dir, ErrLocked, holder(f))
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return sync.OnceValue(f.Close), nil
}

// holder reads who wrote the file; nobody is trusted to have finished writing.
func holder(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("lock store: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("lock store: %w", err)
	}
	return nil
}
