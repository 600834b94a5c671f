package prevention

import (
	"os"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// pending is a question that could not be answered from memory. It is answered once, by whoever is first; its descriptors
// stay open until its worker is done with them, because the kernel may give their numbers away.
type pending struct {
	l     *listener
	g     *group
	fd    int
	pidfd int
	pid   int
	open  bool
	file  seen
	path  string
	// rules and named are the rules of that moment and those among them that have the file's path.
	rules *ruleset
	named []int
	due   time.Time

	// verdict is what the process was answered.
	verdict atomic.Int32
	// cleared says that a rule is about the file and that it may be denied: then the deadline denies.
	cleared atomic.Bool
}

// The verdicts of a pending.
const (
	waits int32 = iota
	goesOn
	fails
)

// answer lets the process go on or fail, unless it was answered before. It returns what the process was answered, and whether this
// was the answer.
func (p *pending) answer(allow bool) (allowed, first bool) {
	v := fails
	if allow {
		v = goesOn
	}
	if !p.verdict.CompareAndSwap(waits, v) {
		return p.verdict.Load() == goesOn, false
	}
	p.l.respond(p.g, p.fd, allow)
	return allow, true
}

// answered reports whether it was.
func (p *pending) answered() bool { return p.verdict.Load() != waits }

// close gives the descriptors back. Only the worker of p calls it, once, after the answer.
func (p *pending) close() {
	_ = unix.Close(p.fd)
	if p.pidfd >= 0 {
		_ = unix.Close(p.pidfd)
	}
}

// denial begins the report about p.
func (p *pending) denial(o Outcome, d files.Digests) Denial {
	return Denial{
		Time: p.l.cfg.Now(), Outcome: o, Open: p.open, Path: p.path, MD5: d.MD5, SHA256: d.SHA256, File: p.file.ID,
		Caller: Caller{PID: p.pid},
	}
}

// respond writes an answer as long as the groups are open; their numbers may mean something else after that.
func (l *listener) respond(g *group, fd int, allow bool) {
	if !g.asks {
		return
	}
	l.open.RLock()
	defer l.open.RUnlock()
	if l.closed {
		return
	}
	if err := g.answer(fd, allow); err != nil {
		l.fault("answer", err)
	}
}

// nameOf returns what the kernel calls the open file, without the mark of a file that has lost its name.
func nameOf(fd int) string {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return ""
	}
	const gone = " (deleted)"
	if len(name) > len(gone) && name[len(name)-len(gone):] == gone {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Nlink == 0 {
			name = name[:len(name)-len(gone)]
		}
	}
	if !path.IsAbs(name) {
		return ""
	}
	return name
}
