package bridge_test

import (
	"runtime"
	"syscall"
	"testing"
	"time"
)

// cost returns the processor time do takes on its thread, which other programs of a busy machine do not add to.
func cost(t *testing.T, do func()) time.Duration {
	t.Helper()
	const thisThread = 1 // RUSAGE_THREAD, getrusage(2)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(thisThread, &before); err != nil {
		t.Fatal(err)
	}
	do()
	if err := syscall.Getrusage(thisThread, &after); err != nil {
		t.Fatal(err)
	}
	return time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
}
