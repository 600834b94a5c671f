package firewall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// maxNamespaces bounds the other network namespaces that are covered: a machine with more runs something else than containers.
	maxNamespaces = 512
	// namespacesAtOnce bounds those worked on at the same time: each takes a thread.
	namespacesAtOnce = 4
)

// netns names a network namespace: inode numbers of nsfs are unique while one of its kind lives (namespaces(7)).
type netns struct{ dev, ino uint64 }

// place is another network namespace of this machine, with a process that lives in it.
type place struct {
	id  netns
	pid int
}

// String names the place for people.
func (p place) String() string { return fmt.Sprintf("net:[%d] of process %d", p.id.ino, p.pid) }

func nsOf(process string) (netns, error) {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join("/proc", process, "ns/net"), &st); err != nil {
		return netns{}, fmt.Errorf("network namespace of process %s: %w", process, err)
	}
	return netns{st.Dev, st.Ino}, nil
}

// elsewhere returns the other network namespaces in which processes live. It returns none to a process that does not live
// in the network namespace of process 1 itself: such an agent is no agent of the whole machine, and must not cut it off.
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
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		id, err := nsOf(e.Name())
		if err != nil || seen[id] {
			continue
		}
		seen[id] = true
		out = append(out, place{id, pid})
	}
	return out, nil
}

// errVanished says that a namespace ended while it was looked for.
var errVanished = errors.New("the network namespace is gone")

// inside runs work on a thread that lives in the place meanwhile.
func (p place) inside(work func() error) error {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(p.pid), "ns/net"))
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
