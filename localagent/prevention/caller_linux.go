package prevention

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxStat    = 4096
	maxCmdline = 4096
)

// identify reads who asks, but for the command line. It takes no lock another process can hold (proc_pid_stat(5), proc_pid_exe(5)).
func identify(pid int) (Caller, error) {
	c := Caller{PID: pid}
	if pid <= 0 {
		return c, errors.New("the process is in another pid namespace")
	}
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := readSome(dir+"/stat", maxStat)
	if err != nil {
		return c, err
	}
	if c.PPID, c.Start, err = parseStat(stat); err != nil {
		return c, err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return c, err
	}
	c.UID = st.Uid
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		c.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	return c, nil
}

// cmdline reads the arguments of the process. It can hang for as long as the process wants, see readLines.
func cmdline(pid int) string {
	b, err := readSome("/proc/"+strconv.Itoa(pid)+"/cmdline", maxCmdline)
	if err != nil {
		return ""
	}
	return string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '}))
}

// asking is a question for the command line of a process.
type asking struct {
	pid    int
	answer chan string // has room for one
}

// readLines answers questions for command lines until ctx ends. The memory of a process may be backed by a file system it serves itself:
// then the thread that reads it hangs for as long as that process likes, and not even SIGKILL ends it. So it has a table of descriptors of
// its own, without the groups and the connection: they close with the process all the same, everything goes on, and the agent knows.
func (l *listener) readLines(ctx context.Context) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() { // /proc/self/fd is the table of the first thread, which the others go by
		defer runtime.UnlockOSThread()
		var elsewhere sync.WaitGroup
		elsewhere.Go(func() { l.readLines(ctx) })
		elsewhere.Wait()
		return
	}
	// Locked for good: the thread ends with the goroutine.
	err := unix.Unshare(unix.CLONE_FILES)
	if err == nil {
		for _, fd := range []int{l.exec.fd, l.file.fd, l.conn} {
			_ = unix.Close(fd)
		}
	}
	l.apart.Done()
	if err != nil {
		l.fault("command lines are not read: unshare", err)
		return
	}
	each(ctx, l.lines, func(a asking) { a.answer <- cmdline(a.pid) })
}

// line returns the command line of a process, or "" when nobody knows it before the deadline.
func (l *listener) line(ctx context.Context, pid int) string {
	a := asking{pid, make(chan string, 1)}
	patience := time.NewTimer(l.cfg.Deadline)
	defer patience.Stop()
	select {
	case l.lines <- a:
	default: // all who read hang
		return ""
	}
	select {
	case line := <-a.answer:
		return line
	case <-patience.C:
	case <-ctx.Done():
	}
	return ""
}

// parseStat returns fields 4 and 22. The name in field 2 may hold anything, so the fields are counted from its last bracket.
func parseStat(b []byte) (ppid int, start uint64, err error) {
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("stat of a process has %d fields", len(fields))
	}
	if ppid, err = strconv.Atoi(string(fields[1])); err != nil {
		return 0, 0, fmt.Errorf("ppid: %w", err)
	}
	if start, err = strconv.ParseUint(string(fields[19]), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("start: %w", err)
	}
	return ppid, start, nil
}

// readSome reads the beginning of a file of /proc with one call.
func readSome(path string, limit int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, limit)
	n, err := unix.Read(fd, b)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

// alive reports whether the process behind the pidfd is still there, so that what was read of its number is its own.
func alive(pidfd int) bool {
	return pidfd < 0 || !errors.Is(unix.PidfdSendSignal(pidfd, 0, nil, 0), unix.ESRCH)
}
