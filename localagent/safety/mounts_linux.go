package safety

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
)

// maxMountInfo bounds what is read of the list of mounts; hosts with many containers have some thousand lines.
const maxMountInfo = 16 << 20

// mount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	id int
	// device is major:minor, root the folder of that file system which is mounted at point.
	device, root, point string
}

func readMounts() ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	return parseMounts(io.LimitReader(f, maxMountInfo))
}

// parseMounts refuses a list it does not understand: a mount that is overlooked could hide a protected file.
func parseMounts(r io.Reader) ([]mount, error) {
	var all []mount
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 16<<10), 1<<20)
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 6 {
			return nil, fmt.Errorf("mounts: line %d has %d fields, 6 are needed", len(all)+1, len(fields))
		}
		id, err := strconv.Atoi(string(fields[0]))
		if err != nil {
			return nil, fmt.Errorf("mounts: line %d: %w", len(all)+1, err)
		}
		all = append(all, mount{id, string(fields[2]), unescape(string(fields[3])), unescape(string(fields[4]))})
	}
	return all, lines.Err()
}

// unescape undoes the octal escapes of blanks, line feeds and backslashes.
func unescape(s string) string {
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

// aliases returns the other names a file has because its file system, or a folder of it, is mounted several times.
func aliases(mounts []mount, id int, name string) []string {
	var own *mount
	for i := range mounts {
		if mounts[i].id == id {
			own = &mounts[i]
		}
	}
	if own == nil {
		return nil
	}
	rest, ok := inside(own.point, name)
	if !ok {
		return nil
	}
	place := path.Join(own.root, rest)
	var names []string
	for _, m := range mounts {
		if m.device != own.device || m.id == id {
			continue
		}
		if rest, ok := inside(m.root, place); ok {
			names = append(names, path.Join(m.point, rest))
		}
	}
	return names
}

// inside returns name as seen from folder; ok is false when it is elsewhere.
func inside(folder, name string) (rest string, ok bool) {
	if name == folder {
		return "", true
	}
	if folder != "/" {
		folder += "/"
	}
	return strings.CutPrefix(name, folder)
}
