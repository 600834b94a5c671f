package localagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/safety"
)

// maxCgroupFile bounds what is read of /proc/PID/cgroup; a line has at most a path.
const maxCgroupFile = 16 << 10

// unitMain reports whether p is the main process of a protected service of systemd: the oldest process the service manager
// started in the unit's control group. What a service was made to run does not count, hence not interpreters, not younger
// processes, and no image others than root can write.
func unitMain(_ context.Context, _ *Agent, _ *ownFacts, p *pinned) (bool, error) {
	var buf [maxCgroupFile]byte
	b, err := p.read("cgroup", buf[:])
	if errors.Is(err, unix.ENOENT) && p.alive() == nil {
		return false, nil // a kernel without control groups
	}
	if err != nil {
		return false, p.lost("read cgroup", err)
	}
	unit, group := systemUnit(b)
	if unit == "" || p.ppid != 1 || !protectedUnit(unit) {
		return false, nil
	}
	if _, ok := interpreterOf(p.image); ok {
		return false, nil
	}
	st, err := p.statExe()
	if err != nil {
		return false, p.lost("look at exe", err)
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 {
		return false, nil
	}
	older, err := olderSibling(p, group)
	return !older, err
}

// systemUnit returns the service of the system's own slice a process is in, and its control group. Users can have services of
// the same name, but only below their own slice. Lines are "0::PATH" (version 2) and "N:name=systemd:PATH" (version 1), cgroups(7).
func systemUnit(b []byte) (unit, group string) {
	for line := range bytes.Lines(b) {
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		rest, ok := strings.CutPrefix(fields[2], "/system.slice/")
		if !ok {
			continue
		}
		if unit, _, _ := strings.Cut(rest, "/"); strings.HasSuffix(unit, ".service") {
			return unit, "/system.slice/" + unit
		}
	}
	return "", ""
}

func protectedUnit(unit string) bool {
	for _, e := range safety.Of(safety.KindProcess) {
		for _, u := range e.Units {
			if ok, err := path.Match(u, unit); err == nil && ok {
				return true
			}
		}
	}
	return false
}

// olderSibling reports whether the control group holds an older process whose parent is process 1, too. Where the group cannot
// be looked into, p counts as the oldest.
func olderSibling(p *pinned, group string) (bool, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return false, err
	}
	for _, m := range mounts {
		members, err := groupMembers(filepath.Join(m.point, group))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("members of %s: %w", group, err)
		}
		for _, pid := range members {
			other, err := open(pid)
			if err == nil {
				err = other.readStat()
				other.close()
			}
			if err == nil && pid != p.pid && other.ppid == 1 && other.start < p.start {
				return true, nil
			}
		}
	}
	return false, nil
}
