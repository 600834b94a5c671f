package firewall

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// systemUptime returns the boot id (random(4)) and CLOCK_BOOTTIME (clock_gettime(2)).
func systemUptime() (string, time.Duration) {
	var ts unix.Timespec
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return "", 0
	}
	return strings.TrimSpace(string(raw)), time.Duration(ts.Nano())
}
