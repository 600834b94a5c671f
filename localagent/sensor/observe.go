package sensor

import "errors"

// maxAdoptions is how many unknown ancestors are read from the system for one process.
const maxAdoptions = 64

// observer keeps the table of processes and finds what starts. It belongs to the goroutine that reads events or lists processes.
type observer struct {
	s     *Sensor
	world world
	table *table
	// program is the image of this process; "" = its descendants are like all others.
	program string
	// aside are starts that wait for a second look, in the order of their times.
	aside []aside
}

func (s *Sensor) observer() *observer {
	o := &observer{s: s, world: s.world, table: newTable(s.cfg.Self)}
	if s.cfg.Self != 0 {
		o.program = s.world.program()
	}
	return o
}

// seed reads the processes there are; they make no alert.
func (o *observer) seed() error {
	pids, err := o.world.pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if o.table.known[pid] == nil {
			o.adopt(pid, 0)
		}
	}
	o.s.count.processes.Store(int64(len(o.table.known)))
	return nil
}

// forked notes a new process.
func (o *observer) forked(parent, pid int) {
	if parent == 0 { // the idle task of the kernel
		o.table.fork(nil, pid)
		return
	}
	o.table.fork(o.process(parent), pid)
}

// process returns what is known of a process, which is at least its number.
func (o *observer) process(pid int) *process {
	if p := o.table.known[pid]; p != nil {
		return p
	}
	return o.adopt(pid, 0)
}

// adopt reads a process from the system whose birth was not seen, and its ancestors.
func (o *observer) adopt(pid, depth int) *process {
	p := &process{pid: pid}
	if st, err := o.world.stat(pid); err == nil {
		p.start, p.uid, p.user = st.start, st.uid, st.user
		if st.ppid > 0 && st.ppid != pid && depth < maxAdoptions {
			if p.parent = o.table.known[st.ppid]; p.parent == nil {
				p.parent = o.adopt(st.ppid, depth+1)
			}
			p.born = p.parent.image
		}
		p.image = o.look(pid)
	}
	o.ours(p)
	o.table.add(p)
	return p
}

// ours notes that what descends from the process is own: a bridge or an agent beside this one starts programs as well. Only root has
// them, anybody else may run the same file.
func (o *observer) ours(p *process) {
	if o.program != "" && p.image != nil && p.image.path == o.program && o.world.isOurs(p.pid) {
		p.own = true
	}
}

// look reads what a process runs.
func (o *observer) look(pid int) *image {
	path, deleted, err := o.world.image(pid)
	if err == nil {
		return imageOf(path, deleted, func() []string {
			line, err := o.world.commandLine(pid, maxCommandLine)
			if err != nil {
				return nil
			}
			return arguments(line)
		})
	}
	im := &image{unseen: errors.Is(err, errGone), unreadable: !errors.Is(err, errGone)}
	if st, err := o.world.stat(pid); err == nil {
		im.comm = st.name
	}
	return im
}

// executed notes that a process runs another program since when, an event's time or 0, and looks whether that is suspicious.
func (o *observer) executed(pid int, when uint64) {
	o.s.count.execs.Add(1)
	p := o.table.known[pid]
	if p != nil {
		if p.image != p.born && o.s.rules.Load().means(p.image) {
			p.was = p.image
		}
		p.image = o.look(pid)
		o.ours(p)
	} else {
		p = o.adopt(pid, 0)
	}
	if p.image == nil {
		p.image = &image{unseen: true}
	}
	if p.image.unseen {
		o.s.count.unseen.Add(1)
	}
	if !p.own {
		o.judge(p, when)
	}
}

func (o *observer) changedUser(pid int, uid uint32) {
	if p := o.table.known[pid]; p != nil {
		p.uid, p.user = uid, true
	}
}

// rescan compares the table with the processes there are: after events were lost, or instead of events. What is new, or runs another
// program, is looked at as if its start had just been seen.
func (o *observer) rescan() error {
	pids, err := o.world.pids()
	if err != nil {
		return err
	}
	o.table.prune(pids)
	for _, pid := range pids {
		o.compare(pid)
	}
	o.s.count.processes.Store(int64(len(o.table.known)))
	return nil
}

func (o *observer) compare(pid int) {
	st, err := o.world.stat(pid)
	if err != nil {
		return
	}
	p := o.table.known[pid]
	if p == nil || p.start != 0 && p.start != st.start {
		delete(o.table.known, pid)
		p = o.adopt(pid, 0)
		// A process that only forked runs what its parent runs.
		if p.image != nil && !p.image.unseen && !p.own && !same(p.image, p.born) {
			o.s.count.execs.Add(1)
			o.judge(p, 0)
		}
		return
	}
	p.start, p.uid, p.user = st.start, st.uid, st.user
	path, _, err := o.world.image(pid)
	if !errors.Is(err, errGone) && (p.image == nil || p.image.path != path || p.image.unreadable != (err != nil)) {
		o.executed(pid, 0)
	}
}

func same(a, b *image) bool { return a != nil && b != nil && a.path == b.path && a.script == b.script }
