package files

import (
	"bufio"
	"context"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Holders returns the processes that run the file, have it open or map it, at most 256, this one left out. It reads /proc, which
// takes some 10 ms on a busy machine. A process that opens the file meanwhile is missed, and so are mappings on filesystems
// whose device numbers differ between stat(2) and /proc (btrfs, overlayfs).
func Holders(ctx context.Context, id ID) ([]Holder, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = proc.Close() }()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var holders []Holder
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if cause := context.Cause(ctx); cause != nil {
			return holders, cause
		}
		if how := holds("/proc/"+name, id); how != "" {
			comm, _ := os.ReadFile("/proc/" + name + "/comm") //nolint:gosec // a path of /proc
			holders = append(holders, Holder{pid, strings.TrimSuffix(string(comm), "\n"), how})
		}
		if len(holders) == maxHolders {
			break
		}
	}
	return holders, nil
}

// holds says how the process keeps the file, or "".
func holds(dir string, id ID) string {
	if is(dir+"/exe", id) {
		return "runs"
	}
	if how := opens(dir, id); how != "" {
		return how
	}
	if maps(dir+"/maps", id) {
		return "maps"
	}
	return ""
}

// is follows a link of /proc to the open file itself. It does not ask a server that may be gone (AT_STATX_DONT_SYNC).
func is(link string, id ID) bool {
	var x unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_INO, &x)
	return err == nil && ID{unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino} == id
}

func opens(dir string, id ID) string {
	fds, err := os.Open(dir + "/fd") //nolint:gosec // a path of /proc
	if err != nil {
		return ""
	}
	defer func() { _ = fds.Close() }()
	names, _ := fds.Readdirnames(-1)
	for _, fd := range names {
		if !is(path.Join(dir, "fd", fd), id) {
			continue
		}
		// The permissions of the link are the mode the file was opened with (proc_pid_fd(5)).
		if fi, err := os.Lstat(path.Join(dir, "fd", fd)); err == nil && fi.Mode().Perm()&0o200 != 0 {
			return "writes"
		}
		return "reads"
	}
	return ""
}

// maps looks for device and inode among the mappings (proc_pid_maps(5): address perms offset dev inode pathname).
func maps(name string, id ID) bool {
	f, err := os.Open(name) //nolint:gosec // a path of /proc
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	ino := " " + strconv.FormatUint(id.Ino, 10) + " "
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := lines.Text(); strings.Contains(line+" ", ino) {
			fields := strings.Fields(line)
			if len(fields) >= 5 && fields[4] == strings.TrimSpace(ino) && deviceIs(fields[3], id.Dev) {
				return true
			}
		}
	}
	return false
}

// deviceIs compares a device written as major:minor in hex.
func deviceIs(text string, dev uint64) bool {
	major, minor, ok := strings.Cut(text, ":")
	a, errA := strconv.ParseUint(major, 16, 32)
	b, errB := strconv.ParseUint(minor, 16, 32)
	return ok && errA == nil && errB == nil && unix.Mkdev(uint32(a), uint32(b)) == dev
}
