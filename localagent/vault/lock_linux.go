package vault

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockByte takes the lock of one byte for the open file (fcntl(2), open file description locks): it holds against
// goroutines of this process, too. It answers errHeld at once when somebody else has it.
func lockByte(f *os.File, place int64, exclusive bool) error {
	l := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: place, Len: 1}
	if exclusive {
		l.Type = unix.F_WRLCK
	}
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
			return errHeld
		case err != nil:
			return os.NewSyscallError("lock", err)
		default:
			return nil
		}
	}
}
