package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// noFollow keeps the last part of a path from being a link (open(2)).
const noFollow = unix.O_NOFOLLOW

// lock takes the exclusive lock of the open file (flock(2)), which goes with its last descriptor; held = somebody else has it.
func lock(f *os.File) (held bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, os.NewSyscallError("flock", err)
	}
	return false, nil
}

// unlock gives the lock back although somebody else has a copy of the descriptor.
func unlock(f *os.File) { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) }
