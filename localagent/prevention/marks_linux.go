package prevention

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxMarks bounds the files that are watched one by one: each pins its inode in the kernel.
	maxMarks = 16384
	// maxNames bounds how many names of a folder are compared without regard to case.
	maxNames = 100_000
	// recheck is how often the paths of rules are looked at even when nobody reports a change: a folder above may have been renamed.
	recheck = 2 * time.Second

	inotifyHead   = unix.SizeofInotifyEvent
	inotifyBuffer = 64 << 10
)

// marks are the single files whose every open is asked about: those at the paths of rules, and those once seen with a digest of a
// rule. A mark follows its file when that is renamed, and is never taken back: without a rule it only costs a question.
type marks struct {
	g       *group
	inotify int
	places  mountTable

	// mu guards known and stale. It is never held during a system call that may wait.
	mu    sync.Mutex
	known map[made][]string // ids of the rules whose path the file had
	stale bool              // marks were dropped for want of room

	// work makes one goroutine at a time look at paths; it guards the rest.
	work    sync.Mutex
	rules   *ruleset
	byDir   map[string][]int
	watches map[string]int      // folder → watch descriptor
	folders map[int]string      // and back
	last    map[string]lastSeen // by path
}

type lastSeen struct {
	id    files.ID
	ctime unix.StatxTimestamp
}

func newMarks(g *group) (*marks, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &marks{
		g: g, inotify: fd, known: make(map[made][]string), rules: newRuleset(nil),
		watches: make(map[string]int), folders: make(map[int]string), last: make(map[string]lastSeen),
	}, nil
}

// of appends the rules whose path the file had when it was marked.
func (m *marks) of(into []int, id made, rules *ruleset) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, rule := range m.known[id] {
		if i, ok := rules.id[rule]; ok && !slices.Contains(into, i) {
			into = append(into, i)
		}
	}
	return into
}

func (m *marks) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.known)
}

// see marks an open file, whatever its path.
func (m *marks) see(fd int, id made) error {
	m.add(id, "") // first: for want of room it drops all marks
	return m.g.markFile(fd)
}

// add remembers a marked file. Beyond maxMarks the others are dropped, and are found again by their paths or when they are seen.
func (m *marks) add(id made, rule string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[id]; !ok && len(m.known) >= maxMarks {
		_ = m.g.heedAll()
		clear(m.known)
		m.stale = true
	}
	rules := m.known[id]
	if rule != "" && !slices.Contains(rules, rule) {
		rules = append(rules, rule)
	}
	m.known[id] = rules
}

// sync watches the folders of the rules and marks the files at their paths. It may wait for a disk. It returns what could not be
// marked, by path.
func (m *marks) sync(rules *ruleset) map[string]error {
	m.work.Lock()
	defer m.work.Unlock()
	m.rules = rules
	clear(m.last)
	m.byDir = rules.folders()
	for folder, wd := range m.watches {
		if _, ok := m.byDir[folder]; !ok {
			_, _ = unix.InotifyRmWatch(m.inotify, uint32(wd)) //nolint:gosec // descriptors are positive
			delete(m.watches, folder)
			delete(m.folders, wd)
		}
	}
	return m.lookAll(true)
}

// lookAll marks what is at the paths of rules, and returns what it could not mark. Folders that were watched all the time are searched
// for names in another case only when the rules are new. The caller holds work.
func (m *marks) lookAll(fresh bool) map[string]error {
	m.mu.Lock()
	stale := m.stale
	m.stale = false
	m.mu.Unlock()
	if stale {
		clear(m.last)
	}
	failed := make(map[string]error)
	for folder, rules := range m.byDir {
		fd, err := m.places.open(folder)
		if err != nil {
			for _, i := range rules {
				delete(m.last, m.rules.rules[i].Path)
				if errors.Is(err, errServed) { // else it is not there, or not yet; recheck comes by again
					failed[m.rules.rules[i].Path] = err
				}
			}
			continue
		}
		came, anyCase := m.watch(folder, fd), false
		for _, i := range rules {
			r := &m.rules.rules[i]
			anyCase = anyCase || !r.CaseSensitive
			if err := m.look(fd, r.Path); err != nil {
				failed[r.Path] = err
			}
		}
		if (fresh || came) && anyCase {
			if err := m.lookFolder(folder, fd); err != nil {
				failed[folder] = err
			}
		}
		_ = unix.Close(fd)
	}
	return failed
}

// watch reports whether the pinned folder is watched from now on and was not before.
func (m *marks) watch(folder string, fd int) bool {
	wd, err := unix.InotifyAddWatch(m.inotify, "/proc/self/fd/"+strconv.Itoa(fd), unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	if err != nil {
		return false // gone meanwhile
	}
	known, ok := m.watches[folder]
	m.watches[folder], m.folders[wd] = wd, folder
	return !ok || known != wd
}

// lookFolder looks at the names of a pinned folder that differ from a rule's in case only.
func (m *marks) lookFolder(folder string, fd int) error {
	names, err := namesIn(fd)
	for _, name := range names {
		if len(m.rules.fold[folded(path.Join(folder, name))]) > 0 {
			err = errors.Join(err, m.look(fd, path.Join(folder, name)))
		}
	}
	if err != nil && len(names) > 0 {
		return fmt.Errorf("names of %s: %w", verdict.Shown(folder), err)
	}
	return nil
}

// look marks the file at name, which is in the pinned folder, for the rules with that path. What is no regular file, or behind a link, is
// left alone.
func (m *marks) look(folder int, name string) error {
	base := path.Base(name)
	var st unix.Statx_t
	const how = unix.AT_SYMLINK_NOFOLLOW | unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(folder, base, how, unix.STATX_BASIC_STATS, &st); err != nil {
		delete(m.last, name)
		return nil // nothing is there
	}
	at := lastSeen{files.ID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}, st.Ctime}
	if m.last[name] == at || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	fd, err := pin(folder, base, unix.RESOLVE_NO_XDEV)
	if errors.Is(err, errMoved) { // a mount of its own lies there
		fd, err = m.places.open(name)
	}
	if err != nil {
		if errors.Is(err, errServed) {
			return err
		}
		return nil // gone
	}
	defer func() { _ = unix.Close(fd) }()
	file, err := look(fd)
	if err != nil || !file.regular {
		return err
	}
	for _, i := range m.rules.named(nil, name) { // before the mark: for want of room that drops all marks
		m.add(file.made(), m.rules.rules[i].ID)
	}
	// Through the descriptor: the name may lead elsewhere by now.
	if err := unix.FanotifyMark(m.g.fd, unix.FAN_MARK_ADD, m.g.open, unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd)); err != nil {
		return fmt.Errorf("mark %s: %w", verdict.Shown(name), err)
	}
	if file.ID == at.id {
		m.last[name] = at
	}
	return nil
}

// lookIn is look for a name whose folder is not pinned.
func (m *marks) lookIn(folder, name string) error {
	fd, err := m.places.open(folder)
	if errors.Is(err, errServed) {
		return err
	}
	if err != nil {
		return nil // gone meanwhile
	}
	defer func() { _ = unix.Close(fd) }()
	return m.look(fd, name)
}

// follow marks files as they come to the paths of rules.
func (m *marks) follow(stop <-chan struct{}, fault func(string, error)) {
	polls := []unix.PollFd{{Fd: int32(m.inotify), Events: unix.POLLIN}} //nolint:gosec // descriptors are small
	buf := make([]byte, inotifyBuffer)
	next := time.Now().Add(recheck)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, err := unix.Poll(polls, int(idle/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			fault("watch folders", err)
			return
		}
		m.work.Lock()
		if n > 0 {
			if read, err := unix.Read(m.inotify, buf); err == nil {
				err = m.arrived(buf[:read])
				if err != nil {
					fault("mark", err)
				}
			}
		}
		if now := time.Now(); now.After(next) {
			next = now.Add(recheck)
			for _, err := range m.lookAll(false) {
				fault("mark", err)
			}
		}
		m.work.Unlock()
	}
}

// arrived looks at the names an inotify read told of. After an overflow lookAll finds them.
func (m *marks) arrived(b []byte) error {
	var errs []error
	for len(b) >= inotifyHead {
		wd := int(int32(binary.NativeEndian.Uint32(b))) //nolint:gosec // it is signed
		mask := binary.NativeEndian.Uint32(b[4:])
		length := int(binary.NativeEndian.Uint32(b[12:]))
		if length > len(b)-inotifyHead {
			break
		}
		name, _, _ := bytes.Cut(b[inotifyHead:inotifyHead+length], []byte{0})
		b = b[inotifyHead+length:]
		folder, ok := m.folders[wd]
		switch {
		case mask&unix.IN_IGNORED != 0:
			delete(m.folders, wd)
			if m.watches[folder] == wd {
				delete(m.watches, folder)
			}
		case ok && len(m.rules.named(nil, path.Join(folder, string(name)))) > 0:
			errs = append(errs, m.lookIn(folder, path.Join(folder, string(name))))
		}
	}
	return errors.Join(errs...)
}
