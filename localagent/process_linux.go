package localagent

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
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

// candidates returns every process that may fulfil the criteria. gopsutil lists the numbers; the image is read by
// one readlink each, because asking gopsutil for it costs ten times as much.
func candidates(ctx context.Context, c *criteria) ([]int, error) {
	// HOST_PROC in the environment would make gopsutil list another machine's processes.
	ctx = context.WithValue(ctx, common.EnvKey, common.EnvMap{common.HostProcEnvKey: "/proc"})
	all, err := process.PidsWithContext(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]int, 0, 16)
	buf := make([]byte, unix.PathMax+len(deletedMark))
	for _, pid := range all {
		n, err := unix.Readlink("/proc/"+strconv.Itoa(int(pid))+"/exe", buf)
		switch {
		case err == nil:
			if c.maybe(string(buf[:n])) {
				found = append(found, int(pid))
			}
		case errors.Is(err, unix.ENOENT) && threaded(int(pid)), errors.Is(err, os.ErrPermission):
			// Either the first thread has ended, or this agent may not look: pinning tells which.
			found = append(found, int(pid))
		}
	}
	return found, nil
}

// maybe sorts out what cannot match by a glance at the exe link.
func (c *criteria) maybe(link string) bool {
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
	_, script := interpreterOf(image)
	return script
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
	err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/task", &st)
	return err == nil && st.Nlink > 3
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
