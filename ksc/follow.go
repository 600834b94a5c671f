package ksc

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// followSkew is how far the clock of KSC may be behind ours: a task that is older than its order by more is not its task.
	followSkew = time.Minute
	// guessAfter is how long an order waits for the task that names its incident before another may answer for it.
	guessAfter = time.Minute
)

// wanted is an accepted order whose response task is looked for.
type wanted struct {
	order string
	host  string // id at KSC
	kind  string
	ref   string // incident id
	added time.Time
	guess bool // a task that does not name the incident will do
}

// sighted is a response task that was seen.
type sighted struct {
	Task
	kind, ref string
	hosts     []string // ids of its hosts; nil = not known
	taken     bool     // it was guessed to be another order's: only the incident id takes it away
}

// responseName is "[Response][KUMA] isolateHost - 2026-11-20 17:07:06 - 17"; what the last part is, is told nowhere.
// (support.kaspersky.com/help/KESWin/12.9/en-US/300214.htm; the area is written Kuma, KUMA and kuma.)
var responseName = regexp.MustCompile(`(?i)^\s*\[response\]\s*\[kuma\]\s*([a-z]+)\s+-\s+(.+)$`)

// sight recognises a response task by its name.
func sight(t Task) (sighted, bool) {
	parts := responseName.FindStringSubmatch(t.DisplayName)
	if parts == nil {
		return sighted{}, false
	}
	s := sighted{Task: t, kind: parts[1]}
	if cut := strings.LastIndex(parts[2], " - "); cut >= 0 {
		s.ref = strings.TrimSpace(parts[2][cut+len(" - "):])
	}
	return s, true
}

// names reports whether the task is of the order's kind and not too old, and its name ends in the order's incident.
func (s *sighted) names(w wanted) bool {
	return w.ref != "" && s.ref == w.ref && strings.EqualFold(s.kind, w.kind) && (s.Created.IsZero() || s.young(w))
}

// young reports whether the task may have been made of the order's incident.
func (s *sighted) young(w wanted) bool { return !s.Created.Before(w.added.Add(-followSkew)) }

// on reports whether the task is known to be on the host.
func (s *sighted) on(host string) bool {
	return slices.ContainsFunc(s.hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// could reports whether the task fits the order but for its incident; its hosts may not be known yet.
func (s *sighted) could(w wanted) bool {
	return w.guess && !s.taken && strings.EqualFold(s.kind, w.kind) && !s.Created.IsZero() && s.young(w)
}

// paired is the task that answers for an order; exact says that it names the order's incident.
type paired struct {
	task  sighted
	exact bool
}

// match pairs orders with tasks, no task with two orders. A task that names the incident wins; of the rest the oldest
// order takes the oldest task of its host and kind.
func match(wants []wanted, tasks []sighted) map[string]paired {
	wants, tasks = slices.Clone(wants), slices.Clone(tasks)
	slices.SortFunc(wants, func(a, b wanted) int {
		return cmp.Or(a.added.Compare(b.added), cmp.Compare(a.order, b.order))
	})
	slices.SortFunc(tasks, func(a, b sighted) int {
		return cmp.Or(a.Created.Compare(b.Created), compareIDs(a.ID, b.ID))
	})
	pairs := map[string]paired{}
	used := make([]bool, len(tasks))
	take := func(exact bool, fits func(*sighted, wanted) bool) {
		for _, w := range wants {
			if _, done := pairs[w.order]; done {
				continue
			}
			for i := range tasks {
				if !used[i] && fits(&tasks[i], w) {
					pairs[w.order], used[i] = paired{tasks[i], exact}, true
					break
				}
			}
		}
	}
	take(true, func(s *sighted, w wanted) bool { return s.names(w) && (s.hosts == nil || s.on(w.host)) })
	take(false, func(s *sighted, w wanted) bool {
		anothers := slices.ContainsFunc(wants, func(other wanted) bool { return s.names(other) })
		return s.could(w) && s.on(w.host) && !anothers
	})
	return pairs
}

// compareIDs compares decimal numbers of any length, and other texts somehow.
func compareIDs(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }
