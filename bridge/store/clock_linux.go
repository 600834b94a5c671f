package store

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootIDFile names the boot (random(4)).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// systemUptime returns CLOCK_BOOTTIME (clock_gettime(2)): it goes on while the machine is suspended, and setting the clock does not
// touch it.
func systemUptime() Uptime {
	var boot string
	if raw, err := os.ReadFile(bootIDFile); err == nil { // without it jumps are seen within a process only
		boot = strings.TrimSpace(string(raw))
	}
	return func() (string, time.Duration, error) {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			return "", 0, os.NewSyscallError("clock_gettime", err)
		}
		return boot, time.Duration(ts.Nano()), nil
	}
}
