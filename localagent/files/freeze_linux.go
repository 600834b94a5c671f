package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// Frozen keeps writers off a file while it is copied or judged.
type Frozen struct {
	f    *os.File
	held bool
}

// Freeze takes a read lease (fcntl(2), F_SETLEASE): the kernel grants it only when nobody has the file open for writing, and holds
// up whoever opens it for writing meanwhile, for 45 s at most. Held tells whether it was granted; without it, content must be
// compared before and after. Thaw it soon.
func Freeze(f *os.File) *Frozen {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	return &Frozen{f, err == nil}
}

// Held reports whether nobody could have written into the file since Freeze.
func (z *Frozen) Held() bool {
	if !z.held {
		return false
	}
	kind, err := unix.FcntlInt(z.f.Fd(), unix.F_GETLEASE, 0)
	return err == nil && kind == unix.F_RDLCK
}

// Thaw lets writers go on.
func (z *Frozen) Thaw() {
	if z.held {
		_, _ = unix.FcntlInt(z.f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		z.held = false
	}
}
