package localagent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// dirStopped holds a record of each order that keeps a tree from going on at this moment.
const dirStopped = "stopped"

// stopNote is the record of what one order keeps from going on, for the agent that comes after this one was killed. It is not flushed to the
// disk: what is stopped does not outlive the machine. Its lock says that the order is still at it. A nil note writes nothing.
type stopNote struct{ file *os.File }

// noteStops begins a record. Without one the tree is ended all the same.
func (a *Agent) noteStops() *stopNote {
	dir := filepath.Join(a.cfg.State, dirStopped)
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		a.log.Warn("what this order stops stays stopped if the agent is killed meanwhile", "err", err)
		return nil
	}
	f, err := os.CreateTemp(dir, "order-")
	if err == nil {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err == nil {
			_, err = fmt.Fprintln(f, bootID())
		}
		if err != nil {
			_, _ = f.Close(), os.Remove(f.Name())
		}
	}
	if err != nil {
		a.log.Warn("what this order stops stays stopped if the agent is killed meanwhile", "err", err)
		return nil
	}
	return &stopNote{f}
}

// process and group are called before the effect. What cannot be written is as without a record.
func (n *stopNote) process(p *pinned) {
	if n != nil {
		_, _ = fmt.Fprintf(n.file, "process %d %d\n", p.pid, p.start)
	}
}

func (n *stopNote) group(dir string) {
	if n != nil {
		_, _ = fmt.Fprintf(n.file, "group %q\n", dir)
	}
}

// close forgets the record: nothing is kept any more.
func (n *stopNote) close() {
	if n != nil {
		_, _ = os.Remove(n.file.Name()), n.file.Close()
	}
}

// wakeForgotten lets everything go on that an agent had stopped when it was killed.
func (a *Agent) wakeForgotten() {
	dir := filepath.Join(a.cfg.State, dirStopped)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("whether an earlier agent left something stopped cannot be told", "err", err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if n, err := wakeNoted(name); err != nil {
			a.log.Warn("what an earlier agent left stopped stays so for the moment", "record", name, "err", err)
		} else if n > 0 {
			a.log.Warn("an earlier agent was killed while it held a tree: what it had stopped goes on", "processes and groups", n)
		}
	}
}

// wakeNoted lets go of what one record names and returns how much that was. The record of an order that is still at it is left alone.
func wakeNoted(name string) (int, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0) //nolint:gosec // in the folder of the agent
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink == 0 || st.Size == 0 {
		return 0, err // forgotten by now, or about to be begun
	}
	b, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil {
		return 0, err
	}
	woken := 0
	lines := strings.Split(string(b), "\n")
	for _, line := range lines[1:] {
		if lines[0] == bootID() && wakeLine(line) {
			woken++
		}
	}
	return woken, os.Remove(name)
}

func wakeLine(line string) bool {
	var dir string
	if n, err := fmt.Sscanf(line, "group %q", &dir); err == nil && n == 1 {
		return (&group{dir: dir}).write("cgroup.freeze", "0") == nil
	}
	var pid int
	var start uint64
	if n, err := fmt.Sscanf(line, "process %d %d", &pid, &start); err != nil || n != 2 || pid <= 1 {
		return false
	}
	p, err := open(pid)
	if err != nil {
		return false
	}
	defer p.close()
	return p.readStat() == nil && p.start == start && p.alive() == nil && p.send(unix.SIGCONT) == nil
}
