package scan

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxMounts bounds the table of mounts; the kernel allows 100,000 by default (fs.mount-max).
const maxMounts = 100_000

// mount is a line of the table of mounts.
type mount struct {
	major, minor uint32
	// root is the folder of the filesystem that is mounted, at is where.
	root, at string
	// fstype and source are as mount(8) shows them.
	fstype, source string
}

func readMounts(path string) ([]mount, error) {
	f, err := os.Open(path) //nolint:gosec // from the settings
	if err != nil {
		return nil, fmt.Errorf("read the table of mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	return parseMounts(f)
}

// parseMounts reads proc_pid_mountinfo(5): "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue". A
// later mount at the same place hides the earlier one.
func parseMounts(r io.Reader) ([]mount, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var all []mount
	at := map[string]int{}
	for lines.Scan() {
		m, ok := parseMount(lines.Text())
		if !ok {
			return nil, fmt.Errorf("read the table of mounts: line %d makes no sense", len(all)+1)
		}
		if len(all) >= maxMounts {
			return nil, fmt.Errorf("read the table of mounts: more than %d", maxMounts)
		}
		if i, ok := at[m.at]; ok {
			all[i].fstype = ""
		}
		at[m.at] = len(all)
		all = append(all, m)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the table of mounts: %w", err)
	}
	seen := all[:0]
	for _, m := range all {
		if m.fstype != "" {
			seen = append(seen, m)
		}
	}
	return seen, nil
}

func parseMount(line string) (mount, bool) {
	left, right, ok := strings.Cut(line, " - ")
	a, b := strings.Split(left, " "), strings.Split(right, " ")
	if !ok || len(a) < 6 || len(b) < 2 || b[0] == "" {
		return mount{}, false
	}
	major, minor, ok := strings.Cut(a[2], ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	m := mount{major: uint32(ma), minor: uint32(mi), root: unescape(a[3]), at: unescape(a[4]), fstype: b[0], source: unescape(b[1])}
	return m, ok && err1 == nil && err2 == nil && strings.HasPrefix(m.at, "/")
}

// unescape takes back the octal escapes of blanks, newlines and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isSnapshot knows snapshots by where they come from or where they are.
func (m mount) isSnapshot() bool {
	for _, p := range []string{m.root, m.at} {
		for part := range strings.SplitSeq(strings.ToLower(p), "/") {
			if part == ".snapshots" || part == "snapshots" || part == "snapshot" || part == ".zfs" {
				return true
			}
		}
	}
	return false
}

// isNetwork knows the filesystems other machines serve.
func (m mount) isNetwork() bool {
	switch strings.TrimPrefix(m.fstype, "fuse.") {
	case "nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "virtiofs", "ceph", "afs", "coda", "lustre",
		"beegfs", "orangefs", "gpfs", "davfs", "sshfs", "glusterfs", "rclone", "s3fs", "davfs2", "curlftpfs", "ceph-fuse", "gcsfuse", "mfs", "smbnetfs":
		return true
	default:
		return false
	}
}

// isDisk knows filesystems that keep their content on a disk of this machine.
func (m mount) isDisk() bool {
	if m.isNetwork() {
		return false
	}
	switch m.fstype {
	case "zfs", "bcachefs", "btrfs":
		return true
	case "overlay":
		// The disk of a container as it is seen inside; outside, its layers lie on the disk itself.
		return m.at == "/"
	default:
		return m.major != 0 || strings.HasPrefix(m.source, "/dev/")
	}
}
