package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const lockName = "isolation.lock"

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

// lock keeps other processes with the same state folder from changing the isolation, such as `send` beside a running agent.
func (w *Firewall) lock(ctx context.Context) (func(), error) {
	if w.cfg.State == "" {
		return func() {}, nil
	}
	return lockFile(ctx, filepath.Join(w.cfg.State, lockName))
}
