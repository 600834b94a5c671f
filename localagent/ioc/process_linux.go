package ioc

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxArguments is how much of a command line is looked at, in bytes.
	maxArguments = 128 << 10
	// userHZ is the unit of times in /proc, fixed at 100 on every Linux port Go runs on (proc_pid_stat(5)).
	userHZ = 100
	// deletedMark ends the exe link of a process whose image has no name any more (proc_pid_exe(5)).
	deletedMark = " (deleted)"
)

// program is a running process.
type program struct {
	pid, parent  int
	comm, image  string
	arguments    string
	uid          uint32
	start        uint64 // ticks since boot
	user, kernel time.Duration
}

// name returns what the process is called: after its image if it has one, which it cannot choose.
func (p *program) name() string {
	if p.image != "" {
		return path.Base(p.image)
	}
	return p.comm
}

// eachProcess calls f with the open /proc folder of every process. The folder stays that of the process: when it
// ends, reading fails and never shows a later process of the same number.
func (h host) eachProcess(ctx context.Context, f func(pid int, dir *os.Root)) error {
	list, err := os.Open(h.path("/proc"))
	if err != nil {
		return err
	}
	defer func() { _ = list.Close() }()
	names, err := list.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid <= 0 {
			continue
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		dir, err := os.OpenRoot(h.path("/proc/" + name))
		if err != nil {
			continue
		}
		f(pid, dir)
		_ = dir.Close()
	}
	return nil
}

// readProcess reads what the kernel says about a process; false when it has ended.
func readProcess(pid int, dir *os.Root) (program, bool) {
	p := program{pid: pid}
	stat, err := readIn(dir, "stat", 4<<10)
	if err != nil || !p.parseStat(stat) {
		return p, false
	}
	status, err := readIn(dir, "status", 16<<10)
	if err != nil {
		return p, false
	}
	p.uid = realUID(status)
	if link, err := dir.Readlink("exe"); err == nil {
		p.image = strings.TrimSuffix(link, deletedMark)
	}
	if line, err := readIn(dir, "cmdline", maxArguments); err == nil {
		p.arguments = strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")
	}
	return p, true
}

// parseStat reads proc_pid_stat(5). The name may hold blanks and parentheses, so fields are counted from the last one.
func (p *program) parseStat(stat []byte) bool {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return false
	}
	p.comm = string(stat[open+1 : end])
	f := strings.Fields(string(stat[end+1:]))
	const parent, utime, stime, start = 1, 11, 12, 19
	if len(f) <= start {
		return false
	}
	var err [4]error
	var user, kernel uint64
	p.parent, err[0] = strconv.Atoi(f[parent])
	user, err[1] = strconv.ParseUint(f[utime], 10, 48)
	kernel, err[2] = strconv.ParseUint(f[stime], 10, 48)
	p.start, err[3] = strconv.ParseUint(f[start], 10, 48)
	p.user, p.kernel = ticks(user), ticks(kernel)
	return errors.Join(err[:]...) == nil
}

// ticks turns the unit of /proc into a duration; what does not fit is no duration.
func ticks(n uint64) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Second/userHZ)
	return time.Duration(min(n, most)) * (time.Second / userHZ)
}

// realUID reads the first number of the line Uid of proc_pid_status(5).
func realUID(status []byte) uint32 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseUint(f[0], 10, 32)
				return uint32(n)
			}
		}
	}
	return 0
}

// readIn reads a file of an open folder up to limit bytes; the rest is left.
func readIn(dir *os.Root, name string, limit int) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 0, 512)
	for len(b) < limit {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := f.Read(b[len(b):min(cap(b), limit)])
		b = b[:len(b)+n]
		if n == 0 || err != nil {
			break
		}
	}
	return b, nil
}

// bootTime is when the machine started, good to about a tick.
func bootTime(now time.Time) time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{}
	}
	return now.Add(-time.Duration(ts.Nano()))
}

func collectProcesses(ctx context.Context, h host, o *object, emit func(*object)) error {
	boot := bootTime(h.now())
	accounts, _, err := readUsers(h)
	names := namesByUID(accounts)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(errCollector("list the users", err), h.eachProcess(ctx, func(pid int, dir *os.Root) {
		p, running := readProcess(pid, dir)
		if !running {
			return
		}
		o.text(processName, p.name())
		if p.comm != p.name() {
			o.text(processName, p.comm)
		}
		o.text(processPath, p.image)
		o.text(processArguments, p.arguments)
		o.number(processPID, int64(p.pid))
		o.number(processParent, int64(p.parent))
		o.text(processUser, names[p.uid])
		o.text(processUID, uidText(p.uid))
		if !boot.IsZero() {
			o.moment(processStart, boot.Add(ticks(p.start)))
		}
		o.span(processKernelTime, p.kernel)
		o.span(processUserTime, p.user)
		emit(o)
	}))
}

func namesByUID(accounts []account) map[uint32]string {
	names := make(map[uint32]string, len(accounts))
	for _, a := range accounts {
		if _, taken := names[a.uid]; !taken {
			names[a.uid] = a.name
		}
	}
	return names
}
