package bridge

import (
	"slices"
	"strings"
	"time"
)

// leaseBook holds the leases that are live, or ended by a release that is on its way.
type leaseBook struct {
	byOrder map[string]*Lease
	// byName finds leases by the name of their host and by its id at KSC.
	byName map[string][]*Lease
}

func newLeaseBook() leaseBook {
	return leaseBook{byOrder: map[string]*Lease{}, byName: map[string][]*Lease{}}
}

// names are what a machine is called, as keys of leaseBook.byName.
func machineNames(host, target string) []string {
	if key := hostKey(target); key != "" && key != hostKey(host) {
		return []string{hostKey(host), key}
	}
	return []string{hostKey(host)}
}

func (b *leaseBook) put(l *Lease) {
	b.remove(l.Order)
	b.byOrder[l.Order] = l
	for _, name := range machineNames(l.Host, l.Target) {
		b.byName[name] = append(b.byName[name], l)
	}
}

func (b *leaseBook) remove(order string) {
	l := b.byOrder[order]
	if l == nil {
		return
	}
	delete(b.byOrder, order)
	for _, name := range machineNames(l.Host, l.Target) {
		if rest := slices.DeleteFunc(b.byName[name], func(x *Lease) bool { return x == l }); len(rest) > 0 {
			b.byName[name] = rest
		} else {
			delete(b.byName, name)
		}
	}
}

// machine returns the leases of a machine by whatever name it goes in them, oldest first.
func (b *leaseBook) machine(host, target string) []*Lease {
	var found []*Lease
	names := machineNames(host, target)
	seen := map[*Lease]struct{}{}
	for i := 0; i < len(names); i++ {
		for _, l := range b.byName[names[i]] {
			if _, known := seen[l]; known {
				continue
			}
			seen[l] = struct{}{}
			found = append(found, l)
			for _, name := range machineNames(l.Host, l.Target) {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	slices.SortFunc(found, byAge)
	return found
}

// all returns the leases oldest first, so that the same state always leads to the same orders.
func (b *leaseBook) all() []*Lease {
	found := make([]*Lease, 0, len(b.byOrder))
	for _, l := range b.byOrder {
		found = append(found, l)
	}
	slices.SortFunc(found, byAge)
	return found
}

func byAge(a, b *Lease) int {
	if c := a.Since.Compare(b.Since); c != 0 {
		return c
	}
	return strings.Compare(a.Order, b.Order)
}

// endedBy returns the leases that come back when nothing comes of the release.
func (b *leaseBook) endedBy(release string) []*Lease {
	return slices.DeleteFunc(b.all(), func(l *Lease) bool { return l.EndedBy != release })
}

// renewing returns the lease the order isolates anew for; nil when there is none.
func (b *leaseBook) renewing(order string) *Lease {
	for _, l := range b.all() {
		if l.Renewing == order {
			return l
		}
	}
	return nil
}

// holds reports whether a reason keeps the machine of an order isolated.
func (b *leaseBook) holds(o Order, now time.Time) bool {
	return holds(b.machine(o.Host, o.Intent.Target), now)
}

func holds(machine []*Lease, now time.Time) bool {
	return slices.ContainsFunc(machine, func(l *Lease) bool { return l.Live() && !l.Lapsed(now) })
}

func isLive(l *Lease) bool { return l.Live() }

// latest returns the live lease whose order isolated the machine last, as far as is known; nil when there is none.
func latest(machine []*Lease) *Lease {
	var found *Lease
	for _, l := range machine {
		if l.Live() && l.isolates() && !l.undecided() && (found == nil || l.Isolated.After(found.Isolated)) {
			found = l
		}
	}
	return found
}

// lastSent returns the lease whose order KSC may have isolated the machine by last; nil when there is none.
func lastSent(machine []*Lease) *Lease {
	var found *Lease
	for _, l := range machine {
		if (l.isolates() || l.Effect == "") && l.Executor == ExecutorKSC && (found == nil || l.sent().After(found.sent())) {
			found = l
		}
	}
	return found
}
