package firewall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxNamespaces bounds the other network namespaces that are covered: a machine with more runs something else than containers.
	maxNamespaces = 512
	// namespacesAtOnce bounds those worked on at the same time: each takes a thread.
	namespacesAtOnce = 4
	// hiddenEvery is how often threads and mounts are looked through for namespaces no process shows.
	hiddenEvery = 5 * time.Second
	// pinnedRoot is how the files of process 1 are reached, whatever the agent's own mounts are.
	pinnedRoot = "/proc/1/root"
	// maxMountInfo bounds what is read of a list of mounts.
	maxMountInfo = 16 << 20
	// maxOurs bounds the namespaces that are remembered as armed.
	maxOurs = 4096
)

// netns names a network namespace: inode numbers of nsfs are unique while one of its kind lives (namespaces(7)).
type netns struct{ dev, ino uint64 }

// place is another network namespace of this machine, and where the kernel shows it: at a process or thread that lives in it, or
// where somebody pinned it (ip-netns(8)).
type place struct {
	id   netns
	path string
}

// String names the place for people.
func (p place) String() string {
	name := "a network namespace"
	if p.id.ino != 0 {
		name = fmt.Sprintf("net:[%d]", p.id.ino)
	}
	if at, ok := strings.CutPrefix(p.path, pinnedRoot); ok {
		return name + " at " + verdict.Shown(at)
	}
	owner, _ := strings.CutSuffix(strings.TrimPrefix(p.path, "/proc/"), "/ns/net")
	return name + " of process " + owner
}

func nsOf(process string) (netns, error) { return nsAt(filepath.Join("/proc", process, "ns/net")) }

func nsAt(path string) (netns, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return netns{}, fmt.Errorf("network namespace at %s: %w", path, err)
	}
	return netns{st.Dev, st.Ino}, nil
}

// elsewhere returns the other network namespaces in which processes or threads live, or which are pinned by a mount. It returns
// none to a process that does not live in the network namespace of process 1 itself: such an agent is no agent of the whole
// machine, and must not cut it off. A namespace only a descriptor holds is not found before somebody lives in it.
func (w *Firewall) elsewhere() ([]place, error) {
	if w.cfg.HostOnly {
		return nil, nil
	}
	own, err := nsOf("self")
	if err != nil {
		return nil, err
	}
	if first, err := nsOf("1"); err != nil || first != own {
		return nil, nil //nolint:nilerr // without the right to look there are no namespaces to enter either
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	seen := map[netns]bool{own: true}
	var out []place
	for _, e := range procs {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		path := filepath.Join("/proc", e.Name(), "ns/net")
		id, err := nsAt(path)
		if err != nil && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)) || seen[id] {
			continue
		}
		// What may not be looked at is a place without an id: nobody can enter it, and it is named.
		seen[id] = true
		out = append(out, place{id, path})
	}
	for _, p := range w.hidden(procs, own) {
		if id, err := nsAt(p.path); err == nil && id == p.id && !seen[id] {
			seen[id] = true
			out = append(out, p)
		}
	}
	return out, nil
}

// hidden returns the namespaces of threads and pins, as they were at most hiddenEvery ago: looking takes long.
func (w *Firewall) hidden(procs []os.DirEntry, own netns) []place {
	p := &w.platform
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hiddenAt.IsZero() && time.Since(p.hiddenAt) < hiddenEvery {
		return p.hiddenPlaces
	}
	found := make(map[netns]string)
	add := func(path string) {
		if id, err := nsAt(path); err == nil && id != own {
			found[id] = path
		}
	}
	self := strconv.Itoa(os.Getpid())
	for _, e := range procs {
		if _, err := strconv.Atoi(e.Name()); err != nil || e.Name() == self {
			// Own threads visit other namespaces and live in none.
			continue
		}
		tasks := filepath.Join("/proc", e.Name(), "task")
		var st unix.Stat_t
		// A folder has a link for each folder in it, and two more (proc(5)).
		if unix.Stat(tasks, &st) != nil || st.Nlink <= 3 {
			continue
		}
		threads, err := os.ReadDir(tasks)
		if err != nil {
			continue // the process has ended
		}
		for _, t := range threads {
			if t.Name() != e.Name() {
				add(filepath.Join(tasks, t.Name(), "ns/net"))
			}
		}
	}
	pins, err := pinned()
	if err != nil && !p.pinless {
		// Nothing waits for it: what can be found is isolated and released.
		w.log.Warn("pinned network namespaces are not covered", "err", err)
	}
	p.pinless = err != nil
	for _, path := range pins {
		add(path)
	}
	p.hiddenPlaces, p.hiddenAt = nil, time.Now()
	for id, path := range found {
		p.hiddenPlaces = append(p.hiddenPlaces, place{id, path})
	}
	return p.hiddenPlaces
}

// pinned returns where network namespaces are mounted in the world of process 1.
func pinned() ([]string, error) {
	f, err := os.Open("/proc/1/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	return parsePinned(io.LimitReader(f, maxMountInfo))
}

// parsePinned reads proc_pid_mountinfo(5): root and mount point are the fourth and fifth fields, the type follows a lone dash.
func parsePinned(r io.Reader) ([]string, error) {
	var out []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		dash := slices.Index(fields, "-")
		if dash < 5 || dash+1 >= len(fields) || fields[dash+1] != "nsfs" || !strings.HasPrefix(fields[3], "net:[") {
			continue
		}
		out = append(out, pinnedRoot+mountUnescaper().Replace(fields[4]))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return out, nil
}

// mountUnescaper undoes what the kernel does to names in lists of mounts.
func mountUnescaper() *strings.Replacer {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
}

// errVanished says that a namespace ended while it was looked for.
var errVanished = errors.New("the network namespace is gone")

// inside runs work on a thread that lives in the place meanwhile.
func (p place) inside(work func() error) error {
	// Where a pin was, anything may be meanwhile: a FIFO must not hold us.
	f, err := os.OpenFile(p.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return errVanished
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Dev != p.id.dev || st.Ino != p.id.ino {
		return errVanished
	}
	done := make(chan error, 1)
	go func() { done <- enter(f, work) }()
	return <-done
}

// enter runs work on a thread that is lent to a namespace. One that cannot be brought back ends with its goroutine: it must
// not serve anything else.
func enter(namespace *os.File, work func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = home.Close() }()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter: %w", err)
	}
	defer func() {
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return work()
}

// each runs work in every place, a few at a time, and returns the errors by place; places that vanished have none.
func each(ctx context.Context, places []place, work func(p place) error) map[place]error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		errs  = make(map[place]error)
		slots = make(chan struct{}, namespacesAtOnce)
	)
	for i, p := range places {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := context.Cause(ctx)
			switch {
			case err != nil:
			case i >= maxNamespaces:
				err = fmt.Errorf("more than %d network namespaces", maxNamespaces)
			default:
				err = p.inside(func() error { return work(p) })
			}
			if err != nil && !errors.Is(err, errVanished) {
				mu.Lock()
				defer mu.Unlock()
				errs[p] = err
			}
		})
	}
	wg.Wait()
	return errs
}

// claim remembers that these places are about to be armed: only what was put there by us is taken away again by itself.
func (p *platform) claim(places []place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range places {
		p.claimOne(at.id.ino)
	}
}

func (p *platform) claimOne(ino uint64) {
	if p.ours == nil || len(p.ours) >= maxOurs {
		p.ours = make(map[uint64]bool)
	}
	p.ours[ino] = true
}

// claimNamespaces claims all there are, before the record is written.
func (w *Firewall) claimNamespaces() {
	if places, err := w.elsewhere(); err == nil {
		w.platform.claim(places)
	}
}

func (p *platform) isOurs(id netns) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ours[id.ino]
}

// namespaces returns the namespaces an isolation was put into, for the record.
func (w *Firewall) namespaces() []uint64 {
	w.platform.mu.Lock()
	defer w.platform.mu.Unlock()
	return slices.Sorted(maps.Keys(w.platform.ours))
}

// recallNamespaces takes over what the first record this process reads knows of them, if it is of this boot.
func (w *Firewall) recallNamespaces(r *record) {
	boot := w.now().boot
	w.platform.mu.Lock()
	defer w.platform.mu.Unlock()
	if w.platform.recalled || len(r.Namespaces) == 0 || boot == "" || r.NamespacesBoot != boot {
		return
	}
	w.platform.recalled = true
	for _, ino := range r.Namespaces {
		w.platform.claimOne(ino)
	}
}
