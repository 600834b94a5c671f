package sensor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// deletedMark is what the kernel appends to the link of an image whose file was removed (proc_pid_exe(5)).
	deletedMark = " (deleted)"
	// userHZ is the unit of start times in /proc on every architecture Go supports (proc_pid_stat(5)).
	userHZ = 100
	// statSize is more than /proc/PID/stat ever has: 52 numbers and a name of at most 64 bytes.
	statSize = 2048
)

// system reads /proc.
type system struct{}

func (system) pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	list := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			list = append(list, pid)
		}
	}
	return list, nil
}

func procPath(pid int, file string) string { return "/proc/" + strconv.Itoa(pid) + "/" + file }

func (system) stat(pid int) (stat, error) {
	fd, err := unix.Open(procPath(pid, "stat"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return stat{}, goneOr(err, "state")
	}
	defer func() { _ = unix.Close(fd) }()
	var buf [statSize]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return stat{}, goneOr(err, "state")
	}
	st, err := parseStat(buf[:n])
	if err != nil {
		return stat{}, fmt.Errorf("state of process %d: %w", pid, err)
	}
	var file unix.Stat_t
	// The owner of the files of a process is its effective user, or root where it may not be looked into (proc(5)).
	if unix.Fstat(fd, &file) == nil {
		st.uid, st.user = file.Uid, true
	}
	return st, nil
}

// parseStat reads /proc/PID/stat from behind the last parenthesis, because the name before it is chosen by the
// process and may hold anything (proc_pid_stat(5)).
func parseStat(b []byte) (stat, error) {
	from, to := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if from < 0 || to < from {
		return stat{}, errors.New("no process name in it")
	}
	st := stat{name: string(b[from+1 : to])}
	field := 3
	for f := range bytes.FieldsSeq(b[to+1:]) {
		var err error
		switch field {
		case 3:
			st.dead = f[0] == 'Z' || f[0] == 'X'
		case 4:
			st.ppid, err = strconv.Atoi(string(f))
		case 20:
			var threads int
			threads, err = strconv.Atoi(string(f))
			// The first thread may end before the others do.
			st.dead = st.dead && threads <= 1
		case 22:
			st.start, err = strconv.ParseUint(string(f), 10, 64)
			if err == nil {
				return st, nil
			}
		}
		if err != nil {
			return stat{}, fmt.Errorf("field %d: %w", field, err)
		}
		field++
	}
	return stat{}, fmt.Errorf("it has %d fields, 22 are needed", field-1)
}

func (system) image(pid int) (string, bool, error) {
	var buf [unix.PathMax + len(deletedMark)]byte
	n, err := readlinkNow(procPath(pid, "exe"), buf[:])
	if errors.Is(err, unix.ENOENT) {
		n, err = threadImage(pid, buf[:])
	}
	if err != nil {
		return "", false, goneOr(err, "image")
	}
	path, deleted := strings.CutSuffix(string(buf[:n]), deletedMark)
	return path, deleted, nil
}

// readlinkNow reads a link of /proc, which waits for nothing; see receiveNow.
func readlinkNow(path string, buf []byte) (int, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return 0, err
	}
	at := unix.AT_FDCWD
	n, _, errno := unix.RawSyscall6(unix.SYS_READLINKAT, uintptr(at), uintptr(unsafe.Pointer(name)), //nolint:gosec // readlinkat(2)
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0) //nolint:gosec // readlinkat(2)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// threadImage reads the image by way of another thread: the first one has none any more when it ended before the others.
func threadImage(pid int, buf []byte) (int, error) {
	dir, err := unix.Open(procPath(pid, "task"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	var entries [256]byte
	n, err := unix.ReadDirent(dir, entries[:])
	_ = unix.Close(dir)
	if err != nil {
		return 0, unix.ENOENT
	}
	_, _, names := unix.ParseDirent(entries[:n], 2, nil)
	for _, tid := range names {
		if n, err := unix.Readlink(procPath(pid, "task/"+tid+"/exe"), buf); err == nil {
			return n, nil
		}
	}
	return 0, unix.ENOENT
}

func (system) commandLine(pid, limit int) ([]byte, error) {
	fd, err := unix.Open(procPath(pid, "cmdline"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, goneOr(err, "command line")
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 0, 512)
	for len(buf) < limit {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(limit, 4*cap(buf))), buf...)
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err != nil {
			return nil, goneOr(err, "command line")
		}
		if n == 0 {
			break
		}
		buf = buf[:len(buf)+n]
	}
	return buf[:min(len(buf), limit)], nil
}

func (system) open(pid int) (*os.File, error) {
	fd, err := unix.Open(procPath(pid, "exe"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, goneOr(err, "image")
	}
	return os.NewFile(uintptr(fd), "image"), nil
}

func goneOr(err error, what string) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return errGone
	}
	return fmt.Errorf("%s of a process: %w", what, err)
}

func (system) after(start, when uint64) bool {
	var boot, mono unix.Timespec
	if when == 0 || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return false
	}
	// The boot clock also counts the time the machine slept, and starts are cut to whole ticks.
	at := when + uint64(boot.Nano()-mono.Nano()) //nolint:gosec // the boot clock is never behind
	return start > at*userHZ/1e9+1
}

func (system) program() string {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return ""
	}
	return path
}

func (system) isOurs(pid int) bool {
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return false
	}
	its, err := os.Stat(procPath(pid, "exe"))
	if err != nil || !os.SameFile(own, its) {
		return false
	}
	// The files of a process that may not be looked into belong to root whoever runs it, this one tells (proc_pid_status(5)).
	status, err := os.ReadFile(procPath(pid, "status"))
	return err == nil && bytes.Contains(status, []byte("\nUid:\t0\t0\t"))
}

func (system) boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
