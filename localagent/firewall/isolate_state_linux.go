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
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// stands reads the isolation back. With passes it compares the peers as well.
func (w *Firewall) stands(ctx context.Context, passes []pass) (standing, error) {
	own, err := nsOf("self")
	if err != nil {
		return standing{}, netfilterVerdict("read the isolation", err)
	}
	st, err := glance()
	if err != nil {
		return standing{}, netfilterVerdict("read the isolation", err)
	}
	owned := w.platform.owner(own) != nil
	st.owned = st.owned && owned
	st.ownable = st.exists && !st.owned && w.wantsToOwn()
	if st.intact {
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
		there, err := glance()
		mu.Lock()
		defer mu.Unlock()
		alive[p.id] = true
		switch {
		case err != nil:
			return err
		case st.on && there.ends(timeOf(*st)):
			st.others++
		case st.on:
			st.uncovered = append(st.uncovered, p.String())
			if !there.on && w.platform.wasCovered(p.id) {
				st.freed = append(st.freed, p.String())
			}
		case there.exists:
			// It says nothing about this machine: anybody may make such a table in a namespace of his own.
			st.behind = append(st.behind, p.String())
			st.stale = st.stale || w.platform.isOurs(p.id)
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
	slices.Sort(st.behind)
	w.platform.letGo(func(id netns) bool { return alive[id] })
	return nil
}

// timeOf returns what is left of a standing isolation as arm takes it: 0 = permanent.
func timeOf(st standing) time.Duration {
	if st.permanent {
		return 0
	}
	return max(st.left, 1)
}

// glance looks at the timers in the network namespace of the calling thread, and not at the rules. It asks for what it knows by
// name and lists nothing: in a namespace of his own a stranger may have millions of elements.
func glance() (standing, error) {
	c, err := dialFilter()
	if err != nil {
		return standing{}, err
	}
	defer func() { _ = c.Close() }()
	table, err := tableOf(c, isolationTable)
	if err != nil || !table.exists {
		return standing{}, err
	}
	st := standing{exists: true, intact: !table.is(tableDormant), owned: table.is(tableOwner), permanent: true}
	st.on = st.intact
	set := newIsolationRules(nil, &Config{}).sets[0]
	for _, el := range armedElements(0) {
		msgs, err := encode(func(c *nftables.Conn) error { return c.SetAddElements(set, []nftables.SetElement{el}) })
		if err != nil {
			return standing{}, err
		}
		got, err := getElement(c, msgs[0])
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), err == nil && got.timeout > 0 && got.expires <= 0:
			// One family left alone is an open door. EINVAL: the set has other keys.
			st.on = false
			continue
		case err != nil:
			return standing{}, fmt.Errorf("look into set %s: %w", armedSet, err)
		}
		if st.permanent = st.permanent && got.timeout == 0; got.timeout > 0 && (st.left == 0 || got.expires < st.left) {
			st.left = got.expires
		}
	}
	if !st.on {
		st.permanent, st.left = false, 0
	}
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
