package scan

import (
	"runtime"
	"sync"
)

// Priority says how much a scan may get in the way of other work on this machine. clamd works at its own priority in any case.
type Priority int

// The priorities.
const (
	// Low takes the disk only when nobody else wants it, and a smaller share of the CPU. It is safe beside other work of the same
	// program.
	Low Priority = iota
	// Idle takes disk and CPU only when nobody else wants them. It is for a program that does nothing but scan: in any other,
	// whatever waits for a thread of the scan (the garbage collector waits for all) waits until the machine has nothing better to
	// do. Measured with three busy programs on two CPUs: a collection took 0.16 ms without a scan, 10 ms beside one at Normal or
	// Low, 370 ms (at worst 3.5 s) beside one at Idle.
	Idle
	// Normal competes like any other program.
	Normal
)

// onThread runs f at the priority, and returns when f does. A thread whose priority was lowered ends with f: to raise it again
// needs a right (RLIMIT_NICE, sched(7)). f gets what went wrong with that, and runs all the same.
func onThread(p Priority, f func(error)) {
	if p == Normal {
		f(nil)
		return
	}
	runtime.LockOSThread()
	if !isMainThread() {
		f(lower(p)) // never unlocked: so the thread ends with the goroutine
		return
	}
	// The main thread cannot end, and its priority is what others see of the whole program. While it is held here, the next
	// goroutine that wants a thread gets another.
	defer runtime.UnlockOSThread()
	var wg sync.WaitGroup
	wg.Go(func() { onThread(p, f) })
	wg.Wait()
}
