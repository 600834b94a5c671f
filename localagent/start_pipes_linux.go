package localagent

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// filePipe is added to the name of an output for the pipe it comes through.
	filePipe = ".pipe"
	// maxDrain bounds what is taken over at the end from a pipe somebody still writes to; a pipe holds 64 KiB (pipe(7)).
	maxDrain = 1 << 20
)

// launcherState keeps the reading ends of the outputs of programs nobody has waited for yet: what a pipe holds is lost with its last end.
type launcherState struct {
	// mu guards unread.
	mu     sync.Mutex
	unread map[string][2]*os.File
}

// listen opens the reading ends before the program can have ended.
func (l *Launcher) listen(order, dir string) error {
	var ends [2]*os.File
	for i, name := range []string{fileStdout, fileStderr} {
		f, err := os.OpenFile(filepath.Join(dir, name+filePipe), os.O_RDONLY|unix.O_NONBLOCK, 0) //nolint:gosec // in the folder of the program
		if err != nil {
			if i == 1 {
				_ = ends[0].Close()
			}
			return err
		}
		ends[i] = f
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unread == nil {
		l.unread = make(map[string][2]*os.File)
	}
	l.unread[order] = ends
	return nil
}

// unlisten returns the reading ends, once.
func (l *Launcher) unlisten(order string) (ends [2]*os.File, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ends, ok = l.unread[order]
	delete(l.unread, order)
	return ends, ok
}

// makePipe makes the pipe and opens both its ends in one, without waiting for anybody (fifo(7)).
func makePipe(name string) (*os.File, error) {
	if err := unix.Mkfifo(name, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Base(name)), nil
}

// keep begins to carry the output into the files of the program.
func (l *Launcher) keep(order string) *outputs {
	dir := l.folder(order)
	to := [2]string{filepath.Join(dir, fileStdout), filepath.Join(dir, fileStderr)}
	from, ok := l.unlisten(order)
	if !ok {
		if err := l.listen(order, dir); err != nil {
			l.log.Error("output of a program cannot be read", "order", order, "err", err)
			return &outputs{}
		}
		from, _ = l.unlisten(order)
	}
	return keepOutputs(from, to)
}

// drain takes over what is in the pipe at this moment without waiting for more.
func drain(from *os.File, to io.Writer) {
	rc, err := from.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) {
		buf := make([]byte, 64<<10)
		for left := maxDrain; left > 0; {
			n, err := unix.Read(int(fd), buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return
			}
			_, _ = to.Write(buf[:n])
			left -= n
		}
	})
}
