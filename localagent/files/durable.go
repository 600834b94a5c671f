package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ErrLocked is returned by LockFile while another process, or another holder in this one, has the lock.
var ErrLocked = errors.New("somebody else holds the lock")

// WriteDurable puts data at path with the mode perm, whole or not at all: written beside it, synced, renamed over it, and the
// folder synced (fsync(2), rename(2)). The folder must exist and belong to the agent. It blocks for two syncs of the disk.
func WriteDurable(path string, data []byte, perm os.FileMode) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".write-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Chmod(perm)
	}
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return SyncDir(dir)
}

// ReadOwn reads a file of the agent's own, at most limit bytes; more are an error. errors.Is(err, fs.ErrNotExist) tells a missing one.
func ReadOwn(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // paths of the agent's own state
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, err
}

// Locked is a held lock file.
type Locked struct {
	f *os.File
}

// LockFile takes the exclusive lock of the file at path and makes it (0600) when it is missing; a link there is not followed. The
// lock goes with the process, however that ends. It does not wait: the error wraps ErrLocked when somebody else has it. Lock files
// are not removed, because two could then hold two files of one name.
func LockFile(path string) (*Locked, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|noFollow, 0o600) //nolint:gosec // paths of the agent's own state
	if err != nil {
		return nil, err
	}
	held, err := lock(f)
	if err == nil && held {
		err = fmt.Errorf("%s: %w", path, ErrLocked)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Locked{f}, nil
}

// Release gives the lock back.
func (l *Locked) Release() {
	// A child that is forked at this moment has the descriptor too, until it begins its program.
	unlock(l.f)
	_ = l.f.Close()
}
