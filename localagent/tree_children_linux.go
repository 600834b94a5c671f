package localagent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// maxChildren bounds one children file: 11 bytes a process, 32768 processes and more.
const maxChildren = 1 << 20

// childrenOf lists the children of all threads of p (proc_tid_children(5)).
func (g *growth) childrenOf(p *pinned) ([]int, error) {
	threads, err := p.threads()
	if err != nil {
		_, err := gone(p, "threads", err)
		return nil, err
	}
	var pids []int
	for _, tid := range threads {
		b, err := p.readAll("task/"+tid+"/children", maxChildren)
		if errors.Is(err, unix.ENOENT) && p.hasThread(tid) {
			return g.childrenSlowly(p)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			_, err := gone(p, "children", err)
			return nil, err
		}
		for f := range bytes.FieldsSeq(b) {
			if pid, err := strconv.Atoi(string(f)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

func (g *growth) childrenSlowly(p *pinned) ([]int, error) {
	all, err := g.parents()
	if err != nil {
		return nil, verdict.Hopeless("look at the tree: %w", err)
	}
	return all[p.pid], nil
}

// childrenByParent reads the parents of all processes, for kernels that do not list children.
func childrenByParent() (map[int][]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + name + "/stat") //nolint:gosec // a number
		if err != nil {
			continue // it has ended
		}
		if st, err := parseStat(b); err == nil {
			children[st.ppid] = append(children[st.ppid], pid)
		}
	}
	return children, nil
}

func (p *pinned) hasThread(tid string) bool {
	var st unix.Stat_t
	return unix.Fstatat(p.dir, "task/"+tid, &st, 0) == nil
}

// readAll reads a whole file in the directory of the process; one that is longer than limit is an error.
func (p *pinned) readAll(name string, limit int) ([]byte, error) {
	for size := 1 << 10; ; size *= 8 {
		b, err := p.read(name, make([]byte, size))
		if err != nil || len(b) < size {
			return b, err
		}
		if size >= limit {
			return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
		}
	}
}
