package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerOf returns user and group of a file.
func ownerOf(info fs.FileInfo) (uid, gid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

// mountedNoExec reports whether programs of the file system of the path cannot be started.
func mountedNoExec(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Flags&unix.ST_NOEXEC != 0
}

// kumaProcesses are the processes that work with a correlator or its scripts folder: the id stands in their command line, or they
// stand in the folder, run from it or have a file of it open. Other users' processes tell that to root only.
func kumaProcesses(correlator, dir string) []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil // no /proc: nobody can tell
	}
	var found []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || pid == os.Getppid() {
			continue // the shell or sudo this verb came from has the id in its line too
		}
		proc := filepath.Join("/proc", e.Name())
		cmdline, err := os.ReadFile(filepath.Join(proc, "cmdline")) //nolint:gosec // the name is a number
		if err != nil || len(cmdline) == 0 {
			continue
		}
		words := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		if correlator != "" && slices.Contains(words, correlator) && !slices.Contains(words, "uninstall") || holdsFolder(proc, dir) {
			found = append(found, e.Name()+" "+printable(filepath.Base(words[0])))
		}
	}
	return found
}

func holdsFolder(proc, dir string) bool {
	links := []string{filepath.Join(proc, "cwd"), filepath.Join(proc, "exe")}
	if fds, err := os.ReadDir(filepath.Join(proc, "fd")); err == nil {
		for _, fd := range fds {
			links = append(links, filepath.Join(proc, "fd", fd.Name()))
		}
	}
	return slices.ContainsFunc(links, func(link string) bool {
		at, err := os.Readlink(link)
		return err == nil && (at == dir || strings.HasPrefix(at, dir+"/"))
	})
}
