package localagent

import (
	"cmp"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// hurry gives the calling goroutine the highest ordinary priority until the returned function is called: beside hundreds of processes
// that fork it would hardly ever run. Without CAP_SYS_NICE nothing changes.
func hurry() (done func()) {
	runtime.LockOSThread()
	before, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err == nil {
		err = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	}
	return func() {
		if err == nil {
			// The system call answers 20 minus the priority (getpriority(2), C library/kernel differences).
			_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 20-before)
		}
		runtime.UnlockOSThread()
	}
}

// childrenFirst sorts a tree so that parents are ended last. A process group that loses its last parent while members are stopped is sent
// SIGHUP (setpgid(2)), also those members that are to be left alone; told to end, a process does not count as stopped any more.
func childrenFirst(targets []*pinned) {
	parents := make(map[int]int, len(targets))
	for _, p := range targets {
		parents[p.pid] = p.ppid
	}
	depth := make(map[*pinned]int, len(targets))
	for _, p := range targets {
		for pid, ok := p.ppid, true; ok && depth[p] <= len(targets); depth[p]++ {
			pid, ok = parents[pid]
		}
	}
	slices.SortStableFunc(targets, func(a, b *pinned) int { return cmp.Compare(depth[b], depth[a]) })
}
