package scan

import (
	"fmt"
	"os"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// readMounts reads the table of mounts; one that cannot be read whole is an error.
func readMounts(path string) ([]files.Mount, error) {
	f, err := os.Open(path) //nolint:gosec // from the settings
	if err != nil {
		return nil, fmt.Errorf("read the table of mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	all, err := files.ParseMounts(f)
	if err != nil {
		return nil, err
	}
	return files.TopMounts(all), nil
}

// isSnapshot knows snapshots by where they come from or where they are.
func isSnapshot(m files.Mount) bool {
	for _, p := range []string{m.Root, m.Point} {
		for part := range strings.SplitSeq(strings.ToLower(p), "/") {
			if part == ".snapshots" || part == "snapshots" || part == "snapshot" || part == ".zfs" {
				return true
			}
		}
	}
	return false
}

// isNetwork knows the filesystems other machines serve.
func isNetwork(m files.Mount) bool {
	switch strings.TrimPrefix(m.Type, "fuse.") {
	case "nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "virtiofs", "ceph", "afs", "coda", "lustre",
		"beegfs", "orangefs", "gpfs", "davfs", "sshfs", "glusterfs", "rclone", "s3fs", "davfs2", "curlftpfs", "ceph-fuse", "gcsfuse", "mfs", "smbnetfs":
		return true
	default:
		return false
	}
}

// onDisk knows filesystems that keep their content on a disk of this machine.
func onDisk(m files.Mount) bool {
	if isNetwork(m) {
		return false
	}
	switch m.Type {
	case "zfs", "bcachefs", "btrfs":
		return true
	case "overlay":
		// The disk of a container as it is seen inside; outside, its layers lie on the disk itself.
		return m.Point == "/"
	default:
		return !strings.HasPrefix(m.Device, "0:") || strings.HasPrefix(m.Source, "/dev/")
	}
}
