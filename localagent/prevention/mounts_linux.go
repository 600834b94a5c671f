package prevention

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxListed bounds the lists of a status, maxListedText each text in them as it is shown: strangers choose names and kinds.
	maxListed     = 64
	maxListedText = 256
)

// mountMarks are the file systems that are watched. Its zero value is ready.
type mountMarks struct {
	// mu guards both; they are replaced whole.
	mu               sync.Mutex
	watched, skipped []string
}

// scan watches every file system of this mount namespace that can be watched, and reports how many are. Marks that are there
// already are set again: a device number may belong to another file system by now.
func (m *mountMarks) scan(g *group, choose func(Mount) bool) (int, error) {
	all, err := files.Mounts()
	// A mount whose line makes no sense is not watched.
	if err != nil && !errors.Is(err, files.ErrMountsPartial) {
		return 0, err
	}
	done, failed := make(map[string]bool), make(map[string]string)
	var watched, skipped []string
	at := newPlaces(all)
	for _, mnt := range all {
		why := at.ids[uint64(mnt.ID)] //nolint:gosec // not negative
		if why == invisible || choose != nil && !choose(mnt) {
			continue
		}
		if why == "" {
			if err := markMount(g, at, mnt); err == nil {
				if !done[mnt.Device] {
					watched = append(watched, shownShort(mnt.Point))
				}
				done[mnt.Device] = true
				continue
			} else if !errors.Is(err, errHidden) {
				why = err.Error()
			}
		}
		if why != "" && failed[mnt.Device] == "" {
			failed[mnt.Device] = fmt.Sprintf("%s (%s): %s", shownShort(mnt.Point), shownShort(mnt.Type), cut(why, maxListedText))
		}
	}
	for _, mnt := range all {
		if text := failed[mnt.Device]; text != "" && !done[mnt.Device] {
			skipped = append(skipped, text)
			failed[mnt.Device] = ""
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched, m.skipped = watched, skipped
	return len(done), nil
}

func (m *mountMarks) lists() (watched, skipped []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.watched[:min(len(m.watched), maxListed)], m.skipped[:min(len(m.skipped), maxListed)]
}

// follow calls scan at once and whenever mounts change (proc_pid_mounts(5): POLLPRI).
func (m *mountMarks) follow(stop <-chan struct{}, scan func()) error {
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch mounts: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	polls := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}} //nolint:gosec // descriptors are small
	for changed := true; ; {                                      // since the scan before the list was opened
		if changed {
			began := time.Now()
			scan()
			// On a host where containers come and go all the time the scans take a fifth of one processor at most.
			if pause(stop, min(4*time.Since(began), time.Second)) {
				return nil
			}
		}
		if pause(stop, 0) {
			return nil
		}
		n, err := unix.Poll(polls, int(idle/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("watch mounts: %w", err)
		}
		changed = n > 0
	}
}

// pause waits and reports whether it is time to stop.
func pause(stop <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-stop:
		return true
	case <-t.C:
		return false
	}
}

// errHidden says that another mount lies over this one.
var errHidden = errors.New("another mount lies over it")

// markMount marks the file system through its pinned mount point: the name may lead elsewhere a moment later.
func markMount(g *group, at *places, mnt Mount) error {
	fd, err := at.open(mnt.Point)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != uint64(mnt.ID) { //nolint:gosec // ids are positive
		return errHidden
	}
	return g.markFilesystem("/proc/self/fd/" + strconv.Itoa(fd))
}

// invisible marks file systems nobody executes from.
const invisible = "-"

// unwatched says why a type of file system is not watched; empty = it is.
func unwatched(kind string) string {
	switch kind {
	case "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs", "devpts", "efivarfs", "fusectl", "hugetlbfs",
		"mqueue", "nsfs", "proc", "pstore", "resctrl", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs":
		return invisible
	case "9p", "afs", "ceph", "cifs", "coda", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "smb3", "smbfs", "virtiofs":
		return "a server that does not answer would keep the guard from answering"
	}
	if strings.HasPrefix(kind, "fuse") {
		return "any user may serve such a file system, and keep the guard from answering"
	}
	return ""
}

// shownShort is verdict.Shown for a list.
func shownShort(s string) string { return cut(verdict.Shown(s), maxListedText) }

// cut shortens a text that is shown as it is.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
