package ksc

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxFollowed = 10_000
	// exactFor is how long one task that named its incident keeps others from being guessed: this server names incidents.
	exactFor = time.Hour
)

// taskSource is where response tasks are listed; the vendor does not say which it is.
type taskSource int

const (
	anySource taskSource = iota
	byHost               // Tasks.GetAllTasksOfHost and Tasks.GetTask
	byServer             // the iterator of class Tasks
	byOne                // class HostTasks
)

// followed is an order whose response task is known.
type followed struct {
	order  string
	host   string // id at KSC
	task   string
	source taskSource
	exact  bool
	end    *bridge.Progress // what it ended in; nil = not ended
}

// pairings remember which task answers for which order. When it is full the oldest entry goes; its order is looked for again.
type pairings struct {
	now func() time.Time

	mu        sync.Mutex // guards the fields below
	byOrder   map[string]followed
	byTask    map[string][]string // task → orders; several only where hosts have tasks with ids of their own
	ages      []string            // orders, oldest entry first
	exactTill time.Time
}

func newPairings(now func() time.Time) *pairings {
	return &pairings{now: now, byOrder: map[string]followed{}, byTask: map[string][]string{}}
}

func (l *pairings) get(order string) (followed, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.byOrder[order]
	return f, ok
}

// guessing reports whether a task that does not name its incident may answer for an order added then.
func (l *pairings) guessing(added time.Time) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.After(l.exactTill) && now.After(added.Add(guessAfter))
}

// owner tells whether the task answers for an order on one of the hosts, and whether that is certain.
func (l *pairings) owner(hosts []string, task string) (taken, exact bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, taken := l.holder(hosts, task)
	return taken, f.exact
}

// holder returns the order a task answers for on one of the hosts, whichever source told of it. The caller holds mu.
func (l *pairings) holder(hosts []string, task string) (followed, bool) {
	for _, order := range l.byTask[task] {
		f := l.byOrder[order]
		if slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, f.host) }) {
			return f, true
		}
	}
	return followed{}, false
}

// add enters a pair and reports whether it could: another call may have been faster. A guess gives way to certainty unless its
// order has ended.
func (l *pairings) add(f followed) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.byOrder[f.order]; known {
		return false
	}
	if old, taken := l.holder([]string{f.host}, f.task); taken {
		if old.exact || !f.exact || old.end != nil {
			return false
		}
		l.drop(old.order)
	}
	for len(l.byOrder) >= maxFollowed {
		l.drop(l.ages[0])
	}
	l.byOrder[f.order] = f
	l.byTask[f.task] = append(l.byTask[f.task], f.order)
	l.ages = append(l.ages, f.order)
	if f.exact {
		l.exactTill = l.now().Add(exactFor)
	}
	return true
}

// drop forgets an order. The caller holds mu.
func (l *pairings) drop(order string) {
	task := l.byOrder[order].task
	same := func(other string) bool { return other == order }
	if l.byTask[task] = slices.DeleteFunc(l.byTask[task], same); len(l.byTask[task]) == 0 {
		delete(l.byTask, task)
	}
	delete(l.byOrder, order)
	at := slices.Index(l.ages, order)
	l.ages = slices.Delete(l.ages, at, at+1)
}

// ended keeps what an order ended in. Its task stays taken.
func (l *pairings) ended(p bridge.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := l.byOrder[p.OrderID]; ok {
		f.end = &p
		l.byOrder[p.OrderID] = f
	}
}
