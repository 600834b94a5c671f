package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/safety"
)

// imagesMaxAge is how long the identities of never-touch images are believed without a new look.
const imagesMaxAge = time.Minute

// imageTable is the never-touch table together with the identities its images have on this machine.
// Its zero value is ready.
type imageTable struct {
	// mu makes one goroutine read; snap is replaced whole.
	mu   sync.Mutex
	snap atomic.Pointer[imageSnapshot]
}

// imageSnapshot is the table as it was found on disk once. Numbers are positions in entries and whens.
type imageSnapshot struct {
	at      time.Time
	entries []safety.Entry
	whens   []condition
	byPath  map[string]int
	trees   []namedEntry
	globs   []namedEntry
	byID    map[files.ID]namedEntry
}

type namedEntry struct {
	name  string
	entry int
}

// get returns the table and reads it when nobody has yet.
func (t *imageTable) get(now time.Time) *imageSnapshot {
	if s := t.snap.Load(); s != nil {
		return s
	}
	return t.refresh(now)
}

// refreshIfOld reads the table again when it is old and nobody else is at it. Callers have done their work by then.
func (t *imageTable) refreshIfOld(now time.Time) {
	s := t.snap.Load()
	if s != nil && now.Sub(s.at) < imagesMaxAge || !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	t.snap.Store(readImages(now))
}

func (t *imageTable) refresh(now time.Time) *imageSnapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := readImages(now)
	t.snap.Store(s)
	return s
}

func readImages(now time.Time) *imageSnapshot {
	s := &imageSnapshot{at: now, entries: safety.Of(safety.KindProcess), byPath: make(map[string]int), byID: make(map[files.ID]namedEntry)}
	whens := conditions()
	for _, e := range s.entries {
		s.whens = append(s.whens, whens[e.Name])
	}
	var shells []files.ID
	for _, name := range []string{"/bin/sh", "/bin/bash", "/bin/busybox", "/usr/bin/busybox", "/bin/toybox", "/usr/bin/coreutils"} {
		if id, err := files.IDOf(name); err == nil {
			shells = append(shells, id)
		}
	}
	for i, e := range s.entries {
		for _, image := range e.Paths {
			switch {
			case strings.HasSuffix(image, "/"):
				s.trees = append(s.trees, namedEntry{image, i})
				continue
			case strings.Contains(image, "*"):
				s.globs = append(s.globs, namedEntry{image, i})
			default:
				s.byPath[image] = i
			}
			found, err := filepath.Glob(image)
			if err != nil {
				continue
			}
			for _, name := range found {
				// Where init is one program with the shell, its identity says nothing.
				if id, err := files.IDOf(name); err == nil && !slices.Contains(shells, id) {
					s.byID[id] = namedEntry{name, i}
				}
			}
		}
	}
	return s
}

// covers reports whether entry i is about p: all it names must hold. An entry that names nothing this agent can judge is an error.
func (s *imageSnapshot) covers(ctx context.Context, a *Agent, own *ownFacts, p *pinned, i int, runs map[int]bool) (bool, error) {
	e, when := &s.entries[i], s.whens[i]
	if e.Paths == nil && when == nil {
		return false, errors.New("the agent does not know what the entry means")
	}
	if e.Paths != nil && !runs[i] {
		return false, nil
	}
	if e.Users != nil {
		if ok, err := p.runBy(e.Users); err != nil || !ok {
			return false, err
		}
	}
	if when == nil {
		return true, nil
	}
	return when(ctx, a, own, p)
}

// runs tells for each entry whether p runs one of its images: by identity, so that links and renamed files count,
// or by path, so that a process counts whose file was replaced by an update. Paths are only believed of images on a mount of
// this machine: elsewhere anybody can have a file of that name.
func (s *imageSnapshot) runs(p *pinned) (map[int]bool, error) {
	var hits map[int]bool
	add := func(i int) {
		if hits == nil {
			hits = make(map[int]bool)
		}
		hits[i] = true
	}
	// An identity is looked up again: the file may be gone and its number given to another one.
	if e, ok := s.byID[p.exe]; ok {
		if id, err := files.IDOf(e.name); err == nil && id == p.exe {
			add(e.entry)
		}
	}
	var named []int
	if i, ok := s.byPath[p.image]; ok {
		named = append(named, i)
	}
	for _, e := range s.trees {
		if strings.HasPrefix(p.image, e.name) {
			named = append(named, e.entry)
		}
	}
	for _, e := range s.globs {
		if ok, err := path.Match(e.name, p.image); err == nil && ok {
			named = append(named, e.entry)
		}
	}
	if len(named) == 0 {
		return hits, nil
	}
	ours, err := p.onOwnMount()
	if err != nil {
		return nil, err
	}
	if ours {
		for _, i := range named {
			add(i)
		}
	}
	return hits, nil
}

// onOwnMount reports whether the image lies on a mount of the agent's own mount namespace or, where that can be read, of process
// 1's: systemd may give the agent one of its own. The namespace of the process would not do: from any namespace one can run a file
// that lies in another (/proc/PID/root, a passed descriptor), and a file in memory (memfd) is on no mount at all but called as one likes.
func (p *pinned) onOwnMount() (bool, error) {
	id, err := p.exeMount()
	if err != nil {
		return false, p.lost("mount of the image", err)
	}
	is := func(m files.Mount) bool { return m.ID == id }
	own, err := files.Mounts()
	if slices.ContainsFunc(own, is) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("mount of the image: %w", err)
	}
	f, err := os.Open("/proc/1/mountinfo")
	if err != nil {
		return false, nil
	}
	defer func() { _ = f.Close() }()
	first, err := files.ParseMounts(f)
	if slices.ContainsFunc(first, is) {
		return true, nil
	}
	if errors.Is(err, files.ErrMountsPartial) {
		return false, fmt.Errorf("mount of the image: %w", err)
	}
	return false, nil
}

// exeMount returns the number of the mount the image lies on (mnt_id of proc_pid_fdinfo(5)).
func (p *pinned) exeMount() (int, error) {
	fd, err := unix.Openat(p.dir, p.exeLink, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	id, err := fdinfo(fd, "mnt_id:")
	return int(id), err //nolint:gosec // mounts have small numbers
}
