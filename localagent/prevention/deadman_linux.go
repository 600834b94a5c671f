package prevention

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deadman is a timer of the kernel that kills this process unless it is wound up again and again (timer_create(2)). The kernel
// counts also while the process is stopped (SIGSTOP, a debugger), and SIGKILL ends a stopped process; the fanotify groups close with it, and
// everything that waits goes on. Only a process frozen together with its cgroup is out of its reach on cgroup v1.
type deadman struct {
	id    int32
	stall time.Duration
	wound time.Time
}

// sigevent is struct sigevent of the kernel (asm-generic/siginfo.h): 64 bytes.
type sigevent struct {
	value  uint64
	signal int32
	notify int32 // 0 = SIGEV_SIGNAL
	_      [12]int32
}

func newDeadman(stall time.Duration) (*deadman, error) {
	d := &deadman{stall: stall}
	ev := sigevent{signal: int32(unix.SIGKILL)}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC,
		uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&d.id))) //nolint:gosec // x/sys has no wrapper
	if errno != 0 {
		return nil, fmt.Errorf("timer_create: %w", errno)
	}
	return d, d.set(stall)
}

// wind starts the time anew; eight times in its span are enough.
func (d *deadman) wind(now time.Time) error {
	if now.Sub(d.wound) < d.stall/8 {
		return nil
	}
	d.wound = now
	return d.set(d.stall)
}

// stop disarms the timer.
func (d *deadman) stop() { _ = d.set(0) }

func (d *deadman) set(after time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(after))}
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(d.id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0) //nolint:gosec // x/sys has no wrapper
	if errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}
