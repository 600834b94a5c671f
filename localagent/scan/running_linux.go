package scan

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// runningImages returns the processes by the file they run (proc_pid_exe(5)); it leaves out what it cannot read.
func runningImages(ctx context.Context, proc string) map[files.ID][]bridge.Process {
	running := map[files.ID][]bridge.Process{}
	all, _ := pids(proc)
	for _, pid := range all {
		if ctx.Err() != nil {
			break
		}
		dir := filepath.Join(proc, strconv.Itoa(pid))
		exe := filepath.Join(dir, "exe")
		id, err := files.IDOf(exe)
		if err != nil {
			continue
		}
		start, err := startTicks(dir)
		if err != nil {
			continue
		}
		// Read between the two, so that a pid that was given away meanwhile does not mix two processes.
		path, err := os.Readlink(exe)
		if again, errAgain := startTicks(dir); err != nil || errAgain != nil || again != start {
			continue
		}
		running[id] = append(running[id], bridge.Process{PID: pid, Start: start, Name: filepath.Base(path), Path: path})
	}
	return running
}

// pids lists the processes in ascending order.
func pids(proc string) ([]int, error) {
	names, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range names {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	slices.SortFunc(out, cmp.Compare[int])
	return out, nil
}

// startTicks reads field 22 of /proc/<pid>/stat, counted behind the name, which may hold anything (proc_pid_stat(5)).
func startTicks(dir string) (uint64, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "stat")) //nolint:gosec // below the mount point of procfs
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	const start = 22 - 3
	if len(fields) <= start {
		return 0, fmt.Errorf("stat has %d fields behind the name", len(fields))
	}
	return strconv.ParseUint(string(fields[start]), 10, 64)
}
