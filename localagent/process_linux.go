package localagent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/process"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

type processSignal = unix.Signal

const (
	sigTerm processSignal = unix.SIGTERM
	sigKill processSignal = unix.SIGKILL
)

const (
	// lookers is how many goroutines share one look at all processes, lookAlone how many processes one of them takes at least.
	lookers   = 4
	lookAlone = 128
)

// candidates returns every process that may fulfil the criteria. gopsutil lists the numbers; the image is read by
// one readlink each, because asking gopsutil for it costs ten times as much. Each look of an order is at all of them: a process may begin to
// run the image when it sees another one end.
func candidates(ctx context.Context, c *criteria) ([]int, error) {
	// HOST_PROC in the environment would make gopsutil list another machine's processes.
	ctx = context.WithValue(ctx, common.EnvKey, common.EnvMap{common.HostProcEnvKey: "/proc"})
	all, err := process.PidsWithContext(ctx)
	if err != nil {
		return nil, err
	}
	share := max(lookAlone, (len(all)+lookers-1)/lookers)
	looks := make([]look, 0, lookers)
	for part := range slices.Chunk(all, share) {
		looks = append(looks, look{pids: part})
	}
	var wg sync.WaitGroup
	for i := range looks {
		if i+1 < len(looks) {
			wg.Go(func() { looks[i].run(c) })
		} else {
			looks[i].run(c)
		}
	}
	wg.Wait()
	found := make([]int, 0, 16)
	for _, l := range looks {
		found = append(found, l.found...)
	}
	return found, nil
}

// look is one goroutine's share of the processes, and what it saw.
type look struct {
	pids  []int32
	found []int
	// line is room for a command line.
	line []byte
}

func (l *look) run(c *criteria) {
	buf := make([]byte, unix.PathMax+len(deletedMark))
	for _, pid := range l.pids {
		n, err := unix.Readlink("/proc/"+strconv.Itoa(int(pid))+"/exe", buf)
		switch {
		case err == nil && l.maybe(c, int(pid), string(buf[:n])), errors.Is(err, os.ErrPermission):
			l.found = append(l.found, int(pid)) // pinning tells whether this agent may not look
		case errors.Is(err, unix.ENOENT) && threaded(int(pid)):
			l.found = append(l.found, int(pid)) // its first thread has ended
		case errors.Is(err, unix.ENAMETOOLONG) && len(c.paths) == 0:
			l.found = append(l.found, int(pid)) // no order can name its path
		}
	}
}

// maybe sorts out what cannot match by a glance at the exe link, and for interpreters at the command line.
func (l *look) maybe(c *criteria, pid int, link string) bool {
	if len(c.paths) == 0 {
		return true
	}
	image := strings.TrimSuffix(link, deletedMark)
	for _, p := range c.paths {
		// A process with a root directory of its own is linked as root + path, and a file may be called "x (deleted)".
		if c.ends(image, p) || len(link) > len(image) && c.ends(link, p) {
			return true
		}
	}
	in, ok := interpreterOf(image)
	return ok && l.maybeScript(c, pid, in)
}

// maybeScript reports whether the script of an interpreter can be the path asked for by its last name.
func (l *look) maybeScript(c *criteria, pid int, in interpreter) bool {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/cmdline", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true // pinning tells
	}
	defer func() { _ = unix.Close(fd) }()
	if l.line == nil {
		l.line = make([]byte, maxCommandLine)
	}
	n, err := unix.Read(fd, l.line)
	if err != nil || n == len(l.line) {
		return true
	}
	name := in.script(l.line[:n])
	if number, ok := strings.CutPrefix(name, "/dev/fd/"); ok && !strings.Contains(number, "/") {
		n, err := unix.Readlink("/proc/"+strconv.Itoa(pid)+"/fd/"+number, l.line)
		if errors.Is(err, unix.ENOENT) {
			return false // closed since
		}
		if err != nil || n == len(l.line) {
			return true // pinning tells
		}
		name = strings.TrimSuffix(string(l.line[:n]), deletedMark)
	}
	last := filepath.Base(name)
	return name != "" && (last == "." || last == ".." ||
		slices.ContainsFunc(c.paths, func(p string) bool { return strings.EqualFold(filepath.Base(p), last) }))
}

// ends reports whether image is path, or path below another folder.
func (c *criteria) ends(image, path string) bool {
	if !c.exact && strings.EqualFold(image, path) {
		return true
	}
	if len(image) < len(path) {
		return false
	}
	tail := image[len(image)-len(path):]
	return tail == path || !c.exact && strings.EqualFold(tail, path)
}

// threaded reports whether the process has more threads than its first one: the directory counts one link each
// besides its own two (proc_pid_task(5)). Threads of the kernel have no image either, but only one thread.
func threaded(pid int) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid)+"/task", &st) == nil && st.Nlink > 3
}

func checkPID(pid int) error {
	switch {
	case pid < 1 || pid > maxPID:
		return verdict.Refuse(bridge.ReasonInvalid, "pid %d is no process id: 1 to %d are", pid, maxPID)
	case pid == 1:
		return verdict.Refuse(bridge.ReasonProtectedProcess, "process 1 is protected: the machine ends with it")
	case pid == os.Getpid():
		return verdict.Refuse(bridge.ReasonProtectedProcess, "process %d is protected: it is this agent", pid)
	default:
		return nil
	}
}

// checkPIDRange refuses numbers this machine never gives to a process (proc_sys_kernel(5)).
func checkPIDRange(pid int) error {
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return nil //nolint:nilerr // without the limit the number is simply one of a process that is gone
	}
	if limit, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid > limit {
		return verdict.Refuse(bridge.ReasonInvalid, "pid %d is no process id: the limit of this machine is %d", pid, limit)
	}
	return nil
}

// startedAt turns ticks since boot into wall-clock time; it is good to about 20 ms.
func startedAt(start uint64, now time.Time) time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{}
	}
	boot := now.Add(-time.Duration(ts.Nano()))
	return boot.Add(time.Duration(start) * time.Second / userHZ).UTC() //nolint:gosec // ticks since boot fit for centuries
}
