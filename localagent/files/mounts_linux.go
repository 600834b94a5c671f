package files

import (
	"fmt"
	"os"
)

// Mounts lists what is mounted where this process runs (proc_pid_mountinfo(5)). Its errors are those of ParseMounts, or say why
// the list cannot be opened.
func Mounts() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the list of mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	return ParseMounts(f)
}
