package firewall

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// stands reads the isolation back. With passes it compares the peers as well.
func (w *Firewall) stands(ctx context.Context, passes []pass) (standing, error) {
	own, err := nsOf("self")
	if err != nil {
		return standing{}, netfilterVerdict("read the isolation", err)
	}
	st, err := w.glance()
	if err != nil {
		return standing{}, netfilterVerdict("read the isolation", err)
	}
	owned := w.platform.owner(own) != nil
	st.owned = st.owned && owned
	st.ownable = st.exists && !st.owned && w.wantsToOwn()
	if st.exists {
		if st.intact, err = newIsolationRules(passes, &w.cfg).intact(passes != nil); err != nil {
			return standing{}, netfilterVerdict("read the isolation", err)
		}
	}
	return st, w.elsewhereStands(ctx, own, &st)
}

// elsewhereStands adds what stands in other network namespaces, and forgets those that are gone.
func (w *Firewall) elsewhereStands(ctx context.Context, own netns, st *standing) error {
	places, err := w.elsewhere()
	if err != nil {
		return netfilterVerdict("read the isolation", err)
	}
	alive := map[netns]bool{own: true}
	var mu sync.Mutex
	errs := each(ctx, places, func(p place) error {
		there, err := w.glance()
		mu.Lock()
		defer mu.Unlock()
		alive[p.id] = true
		switch {
		case err != nil:
			return err
		case there.on && there.permanent == st.permanent && (there.left-st.left).Abs() <= timerSlack:
			st.others++
		case st.on:
			st.uncovered = append(st.uncovered, p.String())
			if !there.on && w.platform.wasCovered(p.id) {
				st.freed = append(st.freed, p.String())
			}
		case there.exists:
			// Something was left behind there: a release has to come by.
			st.exists = true
			st.on = st.on || there.on
			st.permanent, st.left = st.permanent || there.permanent, max(st.left, there.left)
		}
		return nil
	})
	for p := range errs {
		alive[p.id] = true
		if st.on {
			st.uncovered = append(st.uncovered, p.String())
		}
	}
	slices.Sort(st.uncovered)
	w.platform.letGo(func(id netns) bool { return alive[id] })
	return nil
}

// glance looks at the timer in the network namespace of the calling thread, and not at the rules.
func (w *Firewall) glance() (standing, error) {
	table, err := findTable()
	if err != nil || table == nil {
		return standing{}, err
	}
	st := standing{exists: true, intact: true, owned: flagsOf(table)&tableOwner != 0}
	c, err := nftables.New()
	if err != nil {
		return standing{}, err
	}
	els, err := c.GetSetElements(newIsolationRules(nil, &w.cfg).sets[0])
	if errors.Is(err, unix.ENOENT) {
		return st, nil
	}
	if err != nil {
		return standing{}, fmt.Errorf("list set %s: %w", armedSet, err)
	}
	families := 0
	for _, e := range els {
		if e.Timeout != 0 && e.Expires <= 0 {
			continue
		}
		if families++; families == 1 {
			st.permanent, st.left = e.Timeout == 0, e.Expires
		}
		// One family left alone is an open door.
		st.permanent = st.permanent && e.Timeout == 0
		st.left = min(st.left, e.Expires)
	}
	st.on = families == 2
	return st, nil
}

// intact compares the table of the calling thread's network namespace with what it has to be; without peers it looks at
// what cuts, whoever may pass.
func (r *isolationRules) intact(peers bool) (bool, error) {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return false, err
	}
	defer func() { _ = c.CloseLasting() }()
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list chains: %w", err)
	}
	for _, want := range r.chains {
		i := slices.IndexFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == isolationTable && c.Name == want.Name })
		if i < 0 || (want.Hooknum != nil || chains[i].Hooknum != nil) && (want.Hooknum == nil || !sameChain(want, chains[i])) {
			return false, nil
		}
		got, err := c.GetRules(r.table, want)
		if err != nil {
			return false, fmt.Errorf("list chain %s: %w", want.Name, err)
		}
		if peers && !sameRules(r.rules, want.Name, got) || !peers && !sameEnd(r.final(want.Name), got) {
			return false, nil
		}
	}
	if !peers {
		return true, nil
	}
	sets, err := c.GetSets(r.table)
	if err != nil {
		return false, fmt.Errorf("list sets: %w", err)
	}
	for i, want := range r.sets {
		j := slices.IndexFunc(sets, func(s *nftables.Set) bool { return s.Name == want.Name })
		if j < 0 || sets[j].HasTimeout != want.HasTimeout || sets[j].Interval != want.Interval || sets[j].KeyType.Name != want.KeyType.Name {
			return false, nil
		}
		if want.Name == armedSet {
			continue
		}
		got, err := c.GetSetElements(sets[j])
		if err != nil {
			return false, fmt.Errorf("list set %s: %w", want.Name, err)
		}
		if !sameElements(r.elements[i], got) {
			return false, nil
		}
	}
	return true, nil
}

// sameEnd reports whether the last rules cut as they have to, by length: their numbers depend on the peers.
func sameEnd(want, got []*nftables.Rule) bool {
	if len(got) < len(want) {
		return false
	}
	return slices.EqualFunc(want, got[len(got)-len(want):], func(a, b *nftables.Rule) bool { return len(a.Exprs) == len(b.Exprs) })
}

func sameElements(want, got []nftables.SetElement) bool {
	order := func(a, b nftables.SetElement) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), compareEnds(a.IntervalEnd, b.IntervalEnd))
	}
	want, got = slices.Clone(want), slices.Clone(got)
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	return slices.EqualFunc(want, got, func(a, b nftables.SetElement) bool { return order(a, b) == 0 })
}

// cutForbidden ends the connections an isolation with these passes does not let through, in all network namespaces, and
// counts them.
func (w *Firewall) cutForbidden(ctx context.Context, passes []pass) (int, error) {
	cut := 0
	err := w.cutHere(ctx, passes, &cut)
	places, perr := w.elsewhere()
	errs := []error{err, perr}
	var mu sync.Mutex
	for p, err := range each(ctx, places, func(place) error {
		n := 0
		err := w.cutHere(ctx, passes, &n)
		mu.Lock()
		defer mu.Unlock()
		cut += n
		return err
	}) {
		errs = append(errs, fmt.Errorf("%s: %w", p, err))
	}
	return cut, errors.Join(errs...)
}

// cutHere is cutForbidden for the network namespace of the calling thread.
func (w *Firewall) cutHere(ctx context.Context, passes []pass, cut *int) error {
	own, err := ownAddresses()
	if err != nil {
		return err
	}
	*cut, err = cutWhere(ctx, []uint8{unix.AF_INET, unix.AF_INET6}, func(local, peer netip.AddrPort) bool {
		if peer.Addr().IsLoopback() || peer.Addr().IsUnspecified() || own[peer.Addr()] {
			return false
		}
		return !slices.ContainsFunc(passes, func(p pass) bool { return p.permits(peer, local.Port()) })
	})
	return err
}
