package ksc

import (
	"context"
	"slices"
	"strings"
)

const (
	maxReads   = 1000 // reads one call spends on single hosts and tasks
	maxSwept   = 2000 // tasks of the server that are looked at in one call
	maxProbes  = 8    // hosts whose own tasks are looked at while it is not known whether they are the right place
	maxOneHost = 1000 // own tasks of one host
	statusCost = 3    // reads for the hosts of a task
)

// search is one call's way through the sources of tasks.
type search struct {
	*follower
	open    []wanted // not found so far
	found   []followed
	reads   int
	heard   map[string]bool // hosts, in lower case, of which some source told the tasks
	refused error           // the first refusal
}

// find looks for the response tasks of orders. With an error comes the order it befell; an error of one question only is
// returned when every source refused, and then what was found is to be used.
func (f *follower) find(ctx context.Context, wants []wanted) (found []followed, at string, err error) {
	s := &search{follower: f, open: wants, reads: maxReads, heard: map[string]bool{}}
	steps := map[taskSource]func(context.Context) error{byHost: s.hostByHost, byServer: s.sweep, byOne: s.ownTasks}
	order := []taskSource{byHost, byServer, byOne}
	if right, known := f.source.get(struct{}{}); known {
		order = []taskSource{right}
	}
	for _, source := range order {
		if len(s.open) == 0 {
			break
		}
		if err := steps[source](ctx); err != nil {
			return s.found, s.open[0].order, err
		}
	}
	for _, w := range s.open {
		if s.refused != nil && !s.heard[strings.ToLower(w.host)] {
			return s.found, w.order, s.refused
		}
	}
	return s.found, "", nil
}

// hosts returns what is open, host by host.
func (s *search) hosts() [][]wanted {
	var list [][]wanted
	place := map[string]int{}
	for _, w := range s.open {
		key := strings.ToLower(w.host)
		at, known := place[key]
		if !known {
			at = len(list)
			place[key] = at
			list = append(list, nil)
		}
		list[at] = append(list[at], w)
	}
	return list
}

// postpone leaves the orders of a host to the next call.
func (s *search) postpone(host string) {
	s.open = slices.DeleteFunc(s.open, func(w wanted) bool { return strings.EqualFold(w.host, host) })
}

// refuse notes that a source does not answer.
func (s *search) refuse(ctx context.Context, err error) {
	s.log.DebugContext(ctx, "response tasks cannot be listed", "err", err)
	if s.refused == nil {
		s.refused = err
	}
}

// hostByHost asks for the tasks of each host, the newest first, because that is where they are.
func (s *search) hostByHost(ctx context.Context) error {
	for _, wants := range s.hosts() {
		host := wants[0].host
		if s.reads <= 0 {
			s.postpone(host)
			continue
		}
		s.reads--
		ids, err := s.client.GetAllTasksOfHost(ctx, host)
		if refusesOne(err) {
			s.refuse(ctx, err)
			continue
		}
		if err != nil {
			return err
		}
		s.heard[strings.ToLower(host)] = true
		tasks, whole, err := s.read(ctx, ids, wants)
		if err != nil {
			return err
		}
		for i := range tasks {
			tasks[i].hosts = []string{host}
		}
		s.settle(byHost, wants, tasks, whole)
		if !whole {
			s.postpone(host)
		}
	}
	return nil
}

// read returns the response tasks among ids; whole is false when there are more than this call may ask about. It ends early
// when each order has the task that names it.
func (s *search) read(ctx context.Context, ids []string, wants []wanted) (tasks []sighted, whole bool, err error) {
	slices.SortFunc(ids, func(a, b string) int { return compareIDs(b, a) })
	missing := slices.Clone(wants)
	for _, id := range ids {
		t, known := s.tasks.get(id)
		if !known {
			if s.reads <= 0 {
				return tasks, false, nil
			}
			s.reads--
			t, err = s.client.GetTask(ctx, id)
			if refusesOne(err) {
				continue // it went since it was listed
			}
			if err != nil {
				return nil, false, err
			}
			s.tasks.put(id, t)
		}
		sight, ok := sight(t)
		if !ok {
			continue
		}
		tasks = append(tasks, sight)
		if missing = slices.DeleteFunc(missing, sight.names); len(missing) == 0 {
			break
		}
	}
	return tasks, true, nil
}

// sweep walks all tasks of the server once. The list does not say on which hosts they are, so the few that may be ours are
// asked about.
func (s *search) sweep(ctx context.Context) error {
	all, whole, err := s.listing(ctx)
	if refusesOne(err) {
		s.refuse(ctx, err)
		return nil
	}
	if err != nil {
		return err
	}
	for _, w := range s.open {
		s.heard[strings.ToLower(w.host)] = true
	}
	var named, others []sighted
	for _, sight := range s.free(s.open, all) {
		switch {
		case slices.ContainsFunc(s.open, sight.names):
			named = append(named, sight)
		case slices.ContainsFunc(s.open, sight.could):
			others = append(others, sight)
		}
	}
	var tasks []sighted
	for _, t := range slices.Concat(named, others) {
		if s.reads <= 0 {
			whole = false
			break
		}
		if t.hosts, err = s.hostsOf(ctx, t.ID); err != nil {
			return err
		}
		tasks = append(tasks, t)
	}
	s.settle(byServer, s.open, tasks, whole)
	return nil
}

// listing returns the response tasks of the server; whole is false when not all tasks were looked at. One walk serves the calls
// of the next seconds, too: orders are followed page by page.
func (s *search) listing(ctx context.Context) (tasks []sighted, whole bool, err error) {
	if l, known := s.swept.get(struct{}{}); known {
		return l.tasks, l.whole, nil
	}
	all, whole, err := s.client.allTasks(ctx, maxSwept)
	if err != nil {
		return nil, false, err
	}
	for _, t := range all {
		if sight, ok := sight(t); ok {
			tasks = append(tasks, sight)
		}
	}
	s.swept.put(struct{}{}, listing{tasks, whole})
	return tasks, whole, nil
}

// listing is what a walk over all tasks found; nobody changes it.
type listing struct {
	tasks []sighted
	whole bool
}

// hostsOf returns the hosts of a task, nil when the server does not tell.
func (s *search) hostsOf(ctx context.Context, id string) (hosts []string, err error) {
	if hosts, known := s.places.get(id); known {
		return hosts, nil
	}
	s.reads -= statusCost
	list, err := s.client.hostStatuses(ctx, id)
	if err != nil && !refusesOne(err) {
		return nil, err
	}
	for _, h := range list {
		hosts = append(hosts, h.Host)
	}
	if len(hosts) > 0 {
		s.places.put(id, hosts)
	}
	return hosts, nil
}

// ownTasks walks the tasks that belong to one host alone. As long as none was seen to be ours, a few hosts at a time are tried.
func (s *search) ownTasks(ctx context.Context) error {
	hosts := s.hosts()
	if _, right := s.source.get(struct{}{}); !right {
		begin := int((s.turn.Add(maxProbes) - maxProbes) % int64(len(hosts)))
		hosts = slices.Concat(hosts[begin:], hosts[:begin])[:min(len(hosts), maxProbes)]
	}
	for _, wants := range hosts {
		host := wants[0].host
		if s.reads <= 0 {
			s.postpone(host)
			continue
		}
		list, whole, err := s.tasksOf(ctx, host)
		s.reads -= len(list) + statusCost
		if refusesOne(err) {
			s.refuse(ctx, err)
			continue
		}
		if err != nil {
			return err
		}
		s.heard[strings.ToLower(host)] = true
		var tasks []sighted
		for _, t := range list {
			if sight, ok := sight(t); ok {
				sight.hosts = []string{host}
				tasks = append(tasks, sight)
			}
		}
		s.settle(byOne, wants, tasks, whole)
	}
	return nil
}

// tasksOf walks the tasks that belong to one host alone; whole is false when there are more.
func (s *search) tasksOf(ctx context.Context, host string) (list []Task, whole bool, err error) {
	err = s.withHost(ctx, host, func(handle string) error {
		list, whole, err = walkTasks(ctx, maxOneHost, func(ctx context.Context) (Task, bool, error) { return s.client.GetNextHostTask(ctx, handle) })
		return err
	})
	return list, whole, err
}

// settle pairs orders with the tasks a source told and remembers the pairs. Of a list that is not whole nothing is guessed.
func (s *search) settle(source taskSource, wants []wanted, tasks []sighted, whole bool) {
	wants = slices.Clone(wants)
	for i := range wants {
		wants[i].guess = wants[i].guess && whole
	}
	pairs := match(wants, s.free(wants, tasks))
	for _, w := range wants {
		p, ok := pairs[w.order]
		if !ok {
			continue
		}
		it := followed{order: w.order, host: w.host, task: p.task.ID, source: source, exact: p.exact}
		if s.orders.add(it) {
			s.found = append(s.found, it)
			s.source.put(struct{}{}, source)
		}
		s.open = slices.DeleteFunc(s.open, func(o wanted) bool { return o.order == w.order })
	}
}

// free returns the tasks that do not answer for an order with certainty, those that were guessed to marked.
func (s *search) free(wants []wanted, tasks []sighted) []sighted {
	var may []string // a task whose hosts are not known may be on each of these
	for _, w := range wants {
		may = append(may, w.host)
	}
	var list []sighted
	for _, t := range tasks {
		hosts := t.hosts
		if hosts == nil {
			hosts = may
		}
		taken, exact := s.orders.owner(hosts, t.ID)
		t.taken = taken
		if !exact {
			list = append(list, t)
		}
	}
	return list
}
