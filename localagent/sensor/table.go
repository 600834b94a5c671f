package sensor

const (
	// maxProcesses bounds the table; a process beyond it is read from the system when it is needed.
	maxProcesses = 1 << 17
	// maxEnded is how many ended processes are remembered: the first thread of a process may end before the others, which the
	// kernel's events do not tell apart.
	maxEnded = 4096
	// maxAncestors is how long a chain of parents is kept. Who forks and ends for ever would make it endless.
	maxAncestors = 32
)

// process is one process, alive or an ancestor of one that is.
type process struct {
	pid int
	// start is the start time, 0 while nobody needed it.
	start uint64
	// parent is the one that forked it, also when that has ended and the system names another; born is what the parent ran then.
	parent *process
	born   *image
	// image is what it runs; nil = not known. was is what it ran last before that and a rule means as a parent.
	image, was *image
	uid        uint32
	// user says that uid is known.
	user bool
	// ended says that its first thread has ended.
	ended bool
	// own says that it descends from this program.
	own bool
	// depth is how many ancestors are kept, at most maxAncestors.
	depth int
}

// table holds the processes by their numbers. Ancestors live on in their descendants. It belongs to one goroutine.
type table struct {
	known map[int]*process
	// ended is a ring of processes that have ended and still are in known, at the next place to be used.
	ended []*process
	at    int
	// self is the process whose descendants are own; 0 = none are.
	self int
}

func newTable(self int) *table { return &table{known: make(map[int]*process, 1024), self: self} }

// add puts a process into the table, in the place of one that had its number.
func (t *table) add(p *process) {
	p.own = p.own || p.parent != nil && p.parent.own || t.self != 0 && p.pid == t.self
	p.link(p.parent)
	if _, known := t.known[p.pid]; known || len(t.known) < maxProcesses {
		t.known[p.pid] = p
	}
}

// link sets the parent and cuts the chain where it is too long.
func (p *process) link(parent *process) {
	p.parent, p.depth = parent, 0
	if parent == nil {
		return
	}
	p.depth = parent.depth + 1
	if p.depth <= maxAncestors {
		return
	}
	last := p
	for range maxAncestors {
		if last.parent == nil {
			break
		}
		last = last.parent
	}
	last.parent = nil
	// Depths below are too large from here on, which only makes the next cut find a shorter chain.
	p.depth = maxAncestors
}

// fork notes a child; nothing but its number is known yet, it runs what its parent runs.
func (t *table) fork(parent *process, pid int) {
	p := &process{pid: pid, parent: parent}
	if parent != nil {
		p.born, p.image, p.uid, p.user = parent.image, parent.image, parent.uid, parent.user
	}
	t.add(p)
}

func (t *table) end(pid int) {
	p := t.known[pid]
	if p == nil || p.ended {
		return
	}
	p.ended = true
	if len(t.ended) < maxEnded {
		t.ended = append(t.ended, p)
		return
	}
	if old := t.ended[t.at]; t.known[old.pid] == old {
		delete(t.known, old.pid)
	}
	t.ended[t.at] = p
	t.at = (t.at + 1) % maxEnded
}

// prune takes out what is not in the list.
func (t *table) prune(pids []int) {
	there := make(map[int]bool, len(pids))
	for _, pid := range pids {
		there[pid] = true
	}
	for pid := range t.known {
		if !there[pid] {
			delete(t.known, pid)
		}
	}
}

// ancestors returns the parent, its parent and so on, at most limit of them.
func (p *process) ancestors(limit int) []*process {
	var list []*process
	for a := p.parent; a != nil && len(list) < limit; a = a.parent {
		list = append(list, a)
	}
	return list
}
