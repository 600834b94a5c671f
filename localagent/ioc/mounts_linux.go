package ioc

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// mount is a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	device, root, point, options, kind, source string
}

// mounts lists what is mounted where this program runs.
func (h host) mounts() ([]mount, error) {
	b, err := h.read("/proc/self/mountinfo", maxMounts)
	if err != nil {
		return nil, err
	}
	return parseMounts(b)
}

// parseMounts reads mountinfo; a mount hides what was mounted at the same place before.
func parseMounts(text []byte) ([]mount, error) {
	var list []mount
	at := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 2 {
			return nil, errors.New("mountinfo is not as proc_pid_mountinfo(5) says")
		}
		m := mount{device: f[2], root: unescape(f[3]), point: unescape(f[4]), options: f[5], kind: g[0], source: unescape(g[1])}
		if i, hidden := at[m.point]; hidden {
			list[i] = m
			continue
		}
		at[m.point] = len(list)
		list = append(list, m)
	}
	return list, lines.Err()
}

// unescape turns the octal escapes of mountinfo into the characters they stand for.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// readSmall reads a file of the system, up to limit bytes; more is an error.
func readSmall(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New("the file is too large")
	}
	return b, err
}

// storage sorts filesystems by where their files are.
type storage uint8

const (
	made   storage = iota // by the kernel, no files
	local                 // disks and memory
	remote                // other machines and programs
	merged                // other folders of this machine, shown together
)

func storageOf(kind string) storage {
	base, _, _ := strings.Cut(kind, ".")
	switch base {
	case "proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "debugfs", "tracefs", "securityfs", "selinuxfs", "smackfs", "bpf",
		"pstore", "configfs", "mqueue", "hugetlbfs", "autofs", "rpc_pipefs", "nsfs", "binfmt_misc", "fusectl", "efivarfs", "resctrl", "nfsd":
		return made
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "gpfs", "9p", "virtiofs", "fuse", "coda",
		"ocfs2", "gfs2", "beegfs", "davfs":
		return remote
	case "fuseblk":
		// A local disk, but a program answers for it.
		return remote
	case "overlay", "aufs":
		return merged
	default:
		return local
	}
}
