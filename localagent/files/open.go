package files

import "errors"

var (
	// ErrLink says that a symbolic link, a magic link of /proc or a reparse point stands on the way to a file or in its place.
	ErrLink = errors.New("a link stands on the way")
	// ErrNotRegular says that a path leads to a directory, a FIFO, a socket or a device.
	ErrNotRegular = errors.New("not a regular file")
	// ErrPseudo says that a path leads into a filesystem the kernel makes up, such as /proc or /sys.
	ErrPseudo = errors.New("not on a disk: the kernel makes this filesystem up")
	// ErrBusy says that another process keeps a file to itself for the moment: a lease on Linux, no sharing on Windows.
	ErrBusy = errors.New("another process keeps the file to itself")
	// ErrSwapped says that a name does not lead to the file any more that was looked at.
	ErrSwapped = errors.New("the name leads to another file than a moment ago")
)
