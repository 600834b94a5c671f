package prevention

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// maxLinks bounds the links on the way to a folder, as the kernel does (path_resolution(7)).
const maxLinks = 40

var (
	// errServed says that a path leads to a file system somebody serves, and may stop serving at any moment.
	errServed = errors.New("it is never looked at")
	// errMoved says that something was mounted on the way after the list of mounts was read.
	errMoved = errors.New("the mounts on the way have just changed")
)

// places knows which paths can be looked at without asking anybody outside of the kernel. The server of a FUSE or network file system may
// never answer, and the thread that waits for it cannot even be killed: the fanotify groups of its process stay open, and everything
// they ask about waits with it. It does not change.
type places struct {
	// points says by mount point, ids by the number of the mount, why what is there is not looked at; empty = it is.
	points map[string]string
	ids    map[uint64]string
}

// newPlaces judges the mounts of a list by their kinds, and overlays by their layers as well.
func newPlaces(all []Mount) *places {
	p := &places{points: make(map[string]string, len(all)), ids: make(map[uint64]string, len(all))}
	put := func(m Mount, why string) {
		p.ids[uint64(m.ID)] = why //nolint:gosec // not negative
		// What lies under another mount counts, too: the automounter of a path is asked again when its mount has gone.
		if known := p.points[m.Point]; known == "" || m.Point == "/" {
			p.points[m.Point] = why
		}
	}
	for _, m := range all {
		if m.Type != "overlay" {
			put(m, unwatched(m.Type))
		}
	}
	for _, m := range all {
		if m.Type == "overlay" {
			put(m, p.layered(m.SuperOptions))
		}
	}
	return p
}

// layered says why an overlay with these options is not watched: a file of it is opened in its layers.
func (p *places) layered(options string) string {
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "lowerdir", "lowerdir+", "datadir+", "upperdir":
		default:
			continue
		}
		for layer := range strings.SplitSeq(value, ":") {
			if why := p.layer(layer); why != "" && why != invisible {
				return "a layer of it is served: " + why
			}
		}
	}
	return ""
}

// layer judges a folder an overlay is made of. A relative one was seen from a folder nobody remembers: whatever ends like it may be it.
func (p *places) layer(name string) string {
	if path.IsAbs(name) {
		return p.why(path.Clean(name))
	}
	for point, why := range p.points {
		if why != "" && name != "" && strings.HasSuffix(point, "/"+path.Clean(name)) {
			return why
		}
	}
	return ""
}

// why says why the path is not looked at. The file system of / is on the way to everything: it counts only for what is on it.
func (p *places) why(name string) string {
	deepest := true
	for at := name; ; at = path.Dir(at) {
		why, mounted := p.points[at]
		if why != "" && (deepest || at != "/") {
			return why
		}
		deepest = deepest && !mounted
		if at == "/" {
			return ""
		}
	}
}

// served is the error for a path that is not looked at.
func served(name, why string) error {
	if why == invisible {
		why = "no programs are executed from such a file system, or an automounter would mount whatever is named"
	}
	return fmt.Errorf("%s: %w, because %s", verdict.Shown(name), errServed, why)
}

// open pins (O_PATH) what is at the clean absolute path, which may be a link, while nothing before it is one. It goes from mount to mount
// and crosses none it does not know, so that it meets no file system that was put in its way a moment ago.
func (p *places) open(name string) (int, error) {
	if why := p.why(name); why != "" {
		return -1, served(name, why)
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	at := "/"
	for i := 1; i <= len(name); i++ {
		point := name[:i]
		if i < len(name) && name[i] != '/' || point == "/" {
			continue
		}
		if _, mounted := p.points[point]; !mounted {
			continue
		}
		if fd, err = step(fd, below(at, path.Dir(point)), unix.RESOLVE_NO_XDEV); err != nil {
			return -1, err
		}
		// The last name alone may lead to another mount: its root is known to the kernel.
		if fd, err = step(fd, path.Base(point), 0); err != nil {
			return -1, err
		}
		if err := p.known(fd, point); err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
		at = point
	}
	return step(fd, below(at, name), unix.RESOLVE_NO_XDEV)
}

// known refuses a mount that is not looked at, or came after the list was read.
func (p *places) known(fd int, point string) error {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return err // before Linux 5.8 the list alone has to do
	}
	switch why, ok := p.ids[st.Mnt_id]; {
	case !ok:
		return errMoved
	case why != "":
		return served(point, why)
	}
	return nil
}

// below returns name as seen from the folder at, which it is in; empty = it is the folder.
func below(at, name string) string { return strings.TrimPrefix(strings.TrimPrefix(name, at), "/") }

// step goes on from fd, which it closes, to a name that is relative; empty = fd itself.
func step(fd int, name string, resolve uint64) (int, error) {
	if name == "" {
		return fd, nil
	}
	next, err := pin(fd, name, resolve)
	_ = unix.Close(fd)
	return next, err
}

// pin opens a relative name with O_PATH, without following links.
func pin(fd int, name string, resolve uint64) (int, error) {
	next, err := unix.Openat2(fd, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.EXDEV) {
		return -1, errMoved
	}
	return next, err
}

// stat looks at what is at the path; a link is looked at itself.
func (p *places) stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := p.open(name)
	if err == nil {
		err = unix.Fstat(fd, &st)
		_ = unix.Close(fd)
	}
	return st, err
}

// names returns the names in a folder.
func (p *places) names(folder string) ([]string, error) {
	fd, err := p.open(folder)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	return namesIn(fd)
}

// namesIn returns the names in a pinned folder.
func namesIn(fd int) ([]string, error) {
	open, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(open), "folder")
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(maxNames)
	if errors.Is(err, io.EOF) { // an empty folder
		err = nil
	}
	return names, err
}

// resolve replaces the links among the folders of the path by what they lead to. With anyCase a folder that is not there is the one
// whose name differs in case only, when there is one. From the first folder that is missing on the path stays as it is.
func (p *places) resolve(name string, anyCase bool) (string, error) {
	at, rest, links := "/", parts(path.Dir(name)), 0
	for len(rest) > 0 {
		next := path.Join(at, rest[0])
		fd, err := p.open(next)
		if errors.Is(err, unix.ENOENT) && anyCase {
			if other := p.spelled(at, rest[0]); other != "" {
				next = path.Join(at, other)
				fd, err = p.open(next)
			}
		}
		switch {
		case errors.Is(err, errServed), errors.Is(err, errMoved):
			return "", err
		case err != nil:
			return path.Join(append([]string{at}, append(rest, path.Base(name))...)...), nil //nolint:nilerr // not there, or not for us: whoever looks at it says so
		}
		to, err := readLink(fd)
		_ = unix.Close(fd)
		if rest = rest[1:]; err != nil { // no link
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: %w", verdict.Shown(name), unix.ELOOP)
		}
		if path.IsAbs(to) {
			at = "/"
		}
		rest = slices.Concat(parts(to), rest)
	}
	return path.Join(at, path.Base(name)), nil
}

func parts(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(s string) bool { return s == "" || s == "." })
}

// readLink returns what a pinned link leads to.
func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// spelled returns the only name in the folder that differs from name in case only, or "".
func (p *places) spelled(folder, name string) string {
	names, err := p.names(folder)
	if err != nil {
		return ""
	}
	found := slices.DeleteFunc(names, func(n string) bool { return folded(n) != folded(name) })
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// mountTable keeps places up to date. Its zero value is ready.
type mountTable struct {
	// mu guards the rest.
	mu sync.Mutex
	// list tells of changes (proc_pid_mountinfo(5): POLLPRI), once: so no runtime may poll it as well. It is open while opened.
	list   int
	opened bool
	last   *places
}

// get returns the places of this moment.
func (t *mountTable) get() (*places, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.opened {
		fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("watch mounts: %w", err)
		}
		t.list, t.opened = fd, true
	}
	polls := []unix.PollFd{{Fd: int32(t.list), Events: unix.POLLPRI}} //nolint:gosec // descriptors are small
	if n, err := unix.Poll(polls, 0); n == 0 && err == nil && t.last != nil {
		return t.last, nil
	}
	all, err := files.Mounts()
	if err != nil && !errors.Is(err, files.ErrMountsPartial) {
		t.last = nil
		return nil, err
	}
	t.last = newPlaces(all)
	return t.last, nil
}

// open is that of places, at this moment.
func (t *mountTable) open(name string) (fd int, err error) {
	for range 3 {
		var p *places
		if p, err = t.get(); err != nil {
			return -1, err
		}
		if fd, err = p.open(name); !errors.Is(err, errMoved) {
			break
		}
	}
	return fd, err
}

// holds reports whether the name, as this process sees it and without following links, is this very file.
func (t *mountTable) holds(name string, id files.ID) bool {
	fd, err := t.open(path.Clean(name))
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	file, err := look(fd)
	return err == nil && file.ID == id
}
