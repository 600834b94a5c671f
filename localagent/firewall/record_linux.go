package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockName = "isolation.lock"
	lockPoll = 5 * time.Millisecond
)

// trusted refuses a record somebody else could have written.
func trusted(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it is no file")
	case int64(st.Uid) != int64(os.Geteuid()):
		return fmt.Errorf("it belongs to user %d", st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("others may write it (mode %#o)", st.Mode&0o777)
	}
	return nil
}

func syncFolder(name string) error {
	d, err := os.Open(name) //nolint:gosec // the folder of the settings
	if err != nil {
		return fmt.Errorf("sync the state folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// lock keeps other processes with the same state folder from changing the isolation, such as `send` beside a running agent.
func (w *Firewall) lock(ctx context.Context) (func(), error) {
	if w.cfg.State == "" {
		return func() {}, nil
	}
	name := filepath.Join(w.cfg.State, lockName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600) //nolint:gosec // the folder of the settings
	if err != nil {
		return nil, fmt.Errorf("lock the isolation: %w", err)
	}
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock the isolation: %w", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another process changes the isolation: %w", context.Cause(ctx)), f.Close())
		case <-poll.C:
		}
	}
}
