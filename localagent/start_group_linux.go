package localagent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// groupFolder is the control group below which programs have theirs when no other one is named.
const groupFolder = "edr-bridge"

// findGroup returns the control group programs have theirs below, and makes it; "" where the hierarchy is not mounted, cannot be written
// to, or was handed to somebody else (Delegation in cgroups(7)), who could move programs out of their groups.
func findGroup() string {
	// A user namespace, whose root may be anybody, maps only some of the numbers (user_namespaces(7)).
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295" {
		return ""
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return ""
	}
	for _, m := range mounts {
		dir := filepath.Join(m.point, groupFolder)
		if !m.unified || !rootsGroup(m.point) || unix.Access(m.point, unix.W_OK) != nil {
			continue
		}
		if err := os.Mkdir(dir, 0o750); (err == nil || errors.Is(err, fs.ErrExist)) && rootsGroup(dir) {
			return dir
		}
	}
	return ""
}

// rootsGroup reports whether nobody but root can make groups in the control group or move processes into and out of it.
func rootsGroup(dir string) bool {
	for _, name := range []string{dir, filepath.Join(dir, "cgroup.procs")} {
		var st unix.Stat_t
		if unix.Lstat(name, &st) != nil || st.Uid != 0 || st.Mode&0o022 != 0 {
			return false
		}
	}
	return true
}
