package files

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	// maxMountInfo bounds what is read of a list of mounts: the kernel allows 100,000 mounts by default (fs.mount-max), and lines
	// are a few hundred bytes.
	maxMountInfo = 64 << 20
	// maxMountLine bounds a line: two paths, and the options of the file system, which have a page at most.
	maxMountLine = 1 << 20
)

// ErrMountsPartial is returned by ParseMounts and Mounts together with the mounts that could be read, when others could not be.
var ErrMountsPartial = errors.New("part of the list of mounts cannot be read")

// Mount is a line of a list of mounts (proc_pid_mountinfo(5)). Two of one list are equal only when they are the same mount.
type Mount struct {
	// ID is the number of the mount, Parent that of the mount it lies on.
	ID, Parent int
	// Device is major:minor of the file system, two decimal numbers as in /sys/dev/block.
	Device string
	// Root is the folder of the file system which is mounted, Point the absolute path of where it is mounted.
	Root, Point string
	// Options are those of the mount, separated by commas, SuperOptions those of the file system.
	Options, SuperOptions string
	// Type is the kind of the file system, such as "ext4" or "fuse.sshfs", Source what it was made of; Source may be empty.
	Type, Source string
}

// ParseMounts reads a list of mounts as the kernel writes it (proc_pid_mountinfo(5)), in its order: what was mounted last comes
// last. Lines that make no sense, and what lies behind 64 MiB, are left out; the error then wraps ErrMountsPartial, and only who
// may overlook a mount goes on with the others. With any other error there are no mounts.
func ParseMounts(r io.Reader) ([]Mount, error) {
	limited := &io.LimitedReader{R: r, N: maxMountInfo + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 16<<10), maxMountLine)
	var all []Mount
	var partial error
	for n := 1; lines.Scan(); n++ {
		m, ok := parseMount(lines.Text())
		switch {
		case ok:
			all = append(all, m)
		case partial == nil:
			partial = fmt.Errorf("%w: line %d makes no sense", ErrMountsPartial, n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the list of mounts: %w", err)
	}
	if limited.N <= 0 {
		partial = fmt.Errorf("%w: it has more than %d bytes", ErrMountsPartial, maxMountInfo)
	}
	return all, partial
}

// parseMount reads "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue". Between the options and the
// hyphen there are any number of fields. Only single blanks part fields: other white space may be in a name.
func parseMount(line string) (Mount, bool) {
	mount, system, ok := strings.Cut(line, " - ")
	a, b := strings.SplitN(mount, " ", 7), strings.SplitN(system, " ", 3)
	if !ok || len(a) < 6 || len(b) < 2 || b[0] == "" {
		return Mount{}, false
	}
	id, err1 := strconv.Atoi(a[0])
	parent, err2 := strconv.Atoi(a[1])
	m := Mount{
		ID: id, Parent: parent, Device: a[2], Root: unescapeMount(a[3]), Point: unescapeMount(a[4]), Options: a[5],
		Type: b[0], Source: unescapeMount(b[1]),
	}
	if len(b) == 3 {
		m.SuperOptions = b[2]
	}
	return m, err1 == nil && err2 == nil && isDevice(m.Device) && strings.HasPrefix(m.Point, "/")
}

// isDevice knows major:minor: the name of a file is made of it.
func isDevice(s string) bool {
	major, minor, ok := strings.Cut(s, ":")
	_, err1 := strconv.ParseUint(major, 10, 32)
	_, err2 := strconv.ParseUint(minor, 10, 32)
	return ok && err1 == nil && err2 == nil
}

// unescapeMount takes back what the kernel writes as three octal digits: blanks, line feeds, backslashes and number signs.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// TopMounts returns the mounts without those a later one at the same place hides, in the same order.
func TopMounts(all []Mount) []Mount {
	last := make(map[string]int, len(all))
	for i, m := range all {
		last[m.Point] = i
	}
	top := make([]Mount, 0, len(last))
	for i, m := range all {
		if last[m.Point] == i {
			top = append(top, m)
		}
	}
	return top
}
