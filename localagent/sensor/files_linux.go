package sensor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errLocked says that another program uses the folder.
var errLocked = errors.New("another program uses it: give each its own folder")

// lockFile locks the file for this process, for as long as it lives or until the function it returns is called (flock(2)).
func lockFile(name string) (func(), error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600) //nolint:gosec // the settings name the folder
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { _ = f.Close() }, nil
}

// syncDir makes the names in a folder outlive the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the settings name the folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
