package scan

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// Values for SetThreadPriority
// (https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-setthreadpriority).
const (
	threadPriorityBelowNormal = -1
	threadModeBackgroundBegin = 0x00010000
)

// isMainThread is false: no thread is special here.
func isMainThread() bool { return false }

// lower takes the calling thread back; Idle is background mode, which lowers CPU, I/O and memory priority.
func lower(p Priority) error {
	level := threadPriorityBelowNormal
	if p == Idle {
		level = threadModeBackgroundBegin
	}
	set := windows.NewLazySystemDLL("kernel32.dll").NewProc("SetThreadPriority")
	if ok, _, err := set.Call(uintptr(windows.CurrentThread()), uintptr(level)); ok == 0 {
		return fmt.Errorf("lower the priority of a thread: %w", err)
	}
	return nil
}
