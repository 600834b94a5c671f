package localagent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// maxMembers bounds the processes of one control group and its subgroups.
	maxMembers = 1 << 16
)

// cgroupMount is a place where control groups can be seen from their root.
type cgroupMount struct {
	point string
	// unified is version 2 of control groups, with cgroup.kill and cgroup.freeze.
	unified bool
}

// cgroupMounts finds the hierarchy of version 2 and the one systemd uses under version 1 (cgroups(7)); later mounts come first.
func cgroupMounts() ([]cgroupMount, error) {
	all, err := files.Mounts()
	// A line that makes no sense is a place that is not used.
	if err != nil && !errors.Is(err, files.ErrMountsPartial) {
		return nil, fmt.Errorf("mounts of control groups: %w", err)
	}
	return chooseCgroups(all), nil
}

// chooseCgroups passes over points with characters the kernel escapes.
func chooseCgroups(all []files.Mount) []cgroupMount {
	var found []cgroupMount
	for _, m := range slices.Backward(all) {
		switch {
		case m.Root != "/" || strings.ContainsAny(m.Point, " \t\n\\"):
		case m.Type == "cgroup2":
			found = append(found, cgroupMount{m.Point, true})
		case m.Type == "cgroup" && slices.Contains(strings.Split(m.SuperOptions, ","), "name=systemd"):
			found = append(found, cgroupMount{m.Point, false})
		}
	}
	return found
}

// groupMembers lists the processes of a control group and of all groups below it.
func groupMembers(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if name != dir && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if !d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(name, "cgroup.procs")) //nolint:gosec // a control group
		if err != nil {
			if name != dir && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		for f := range bytes.FieldsSeq(b) {
			pid, err := strconv.Atoi(string(f))
			if err != nil {
				return err
			}
			pids = append(pids, pid)
		}
		if len(pids) > maxMembers {
			return fmt.Errorf("more than %d processes", maxMembers)
		}
		return nil
	})
	return pids, err
}
