package localagent

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxMounts bounds what is read of the list of mounts.
	maxMounts = 16 << 20
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
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("mounts of control groups: %w", err)
	}
	defer func() { _ = f.Close() }()
	found, err := parseCgroupMounts(io.LimitReader(f, maxMounts))
	if err != nil {
		return nil, fmt.Errorf("mounts of control groups: %w", err)
	}
	return found, nil
}

// parseCgroupMounts reads proc_pid_mountinfo(5): fields 4 and 5 are root and mount point, and behind a lone hyphen stand type,
// source and options of the file system. Points with escaped characters are passed over.
func parseCgroupMounts(r io.Reader) ([]cgroupMount, error) {
	var found []cgroupMount
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 16<<10), 1<<20)
	for lines.Scan() {
		mount, system, ok := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(mount), strings.Fields(system)
		if !ok || len(fields) < 5 || len(kind) < 3 || fields[3] != "/" || strings.Contains(fields[4], `\`) {
			continue
		}
		switch {
		case kind[0] == "cgroup2":
			found = append(found, cgroupMount{fields[4], true})
		case kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "name=systemd"):
			found = append(found, cgroupMount{fields[4], false})
		}
	}
	slices.Reverse(found)
	return found, lines.Err()
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
