package scan

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// ioprioWhoProcess and ioprioClassIdle are values of ioprio_set(2) that x/sys does not have.
	ioprioWhoProcess = 1
	ioprioClassIdle  = 3 << 13
	// lowNice is how much nicer Low is: a third of the CPU time of a program that competes (sched(7)). At 10 a collection of
	// garbage takes four times as long while others are busy, because it waits for each thread of the scan.
	lowNice = 5
)

// isMainThread reports whether the calling thread is the one the process began with.
func isMainThread() bool { return unix.Gettid() == unix.Getpid() }

// lower takes the calling thread back. It needs no rights.
func lower(p Priority) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, ioprioClassIdle); errno != 0 {
		return fmt.Errorf("take the idle I/O class: %w", errno)
	}
	if p == Idle {
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
			return fmt.Errorf("take the idle CPU class: %w", err)
		}
		return nil
	}
	// The system call answers 20 minus the nice value (getpriority(2)).
	inverse, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	if err != nil {
		return fmt.Errorf("read the nice value: %w", err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), min(20-inverse+lowNice, 19)); err != nil {
		return fmt.Errorf("be nicer: %w", err)
	}
	return nil
}
