package sensor

import (
	"errors"
	"os"
)

// errGone says that there is no such process, or that it is over and its parent has not asked yet.
var errGone = errors.New("the process has ended")

// world is what the sensor asks the system; system is the real one. All but pids answer errors that wrap errGone for a process
// that has ended, and only for that.
type world interface {
	// pids returns the processes there are, in no order.
	pids() ([]int, error)
	stat(pid int) (stat, error)
	// image returns the path of the image and whether its file was removed since.
	image(pid int) (path string, deleted bool, err error)
	// commandLine returns up to limit bytes of the arguments, each ended by a NUL byte.
	commandLine(pid, limit int) ([]byte, error)
	// open opens the image.
	open(pid int) (*os.File, error)
	// after reports whether a process with that start began certainly after when, an event's time: then it is another one.
	after(start, when uint64) bool
	// program returns the image of this process, "" when it is not known; isOurs reports whether root runs the same file as another one.
	program() string
	isOurs(pid int) bool
	// boot tells this run of the machine from others; it may be empty.
	boot() string
}

// stat is what a process is, besides its image.
type stat struct {
	ppid int
	// start is the start time: clock ticks since boot on Linux, 100 ns since 1601 on Windows.
	start uint64
	// name is what the process calls itself; on Linux it is chosen by the program and cut at 15 bytes.
	name string
	uid  uint32
	// user says that uid is known.
	user bool
	// dead says that the process has ended and its parent has not asked yet.
	dead bool
}
