package ioc

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// mounts lists what is mounted where this program runs; a list that cannot be read whole is an error.
func (h host) mounts() ([]files.Mount, error) {
	b, err := h.read("/proc/self/mountinfo", maxMounts)
	if err != nil {
		return nil, err
	}
	all, err := files.ParseMounts(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return files.TopMounts(all), nil
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
