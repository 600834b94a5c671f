package firewall

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// applyMany puts all prefixes into the table in one transaction and reads it back. When something is missing then,
// everything is taken back.
func (w *Firewall) applyMany(ctx context.Context, prefixes []netip.Prefix, d time.Duration, out *Bulk) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return netfilterVerdict("open netlink", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	rules := newBlockRules()
	before, err := rules.readBlocks(conn)
	if err != nil {
		return netfilterVerdict("read the block table", err)
	}
	wide, single := split(before.blocks)
	anew := !before.intact
	var fresh []Block
	var want []netip.Prefix
	for _, p := range prefixes {
		if !p.IsSingleIP() {
			blocks, changed, err := withBlock(wide, p, d)
			if err != nil {
				out.Refused = append(out.Refused, Refusal{p, err})
				continue
			}
			wide, anew = blocks, anew || changed
			want = append(want, p)
			continue
		}
		want = append(want, p)
		if b, ok := single[p]; ok && b.Left >= d {
			out.Already++
			continue
		}
		fresh = append(fresh, Block{p, d, d})
		if _, ok := single[p]; ok {
			// The kernel keeps the end of an element that is added again.
			anew = true
		}
		single[p] = fresh[len(fresh)-1]
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return err
	}
	flushErr := change(func(c *nftables.Conn) error {
		if !anew {
			return rules.addBlocks(c, fresh)
		}
		all := wide
		for _, b := range single {
			all = append(all, b)
		}
		return rules.create(c, all)
	})
	if w.testOnlyApplied != nil {
		w.testOnlyApplied()
	}
	after, err := rules.readBlocks(conn)
	if err != nil {
		return verdict.Undecided("read the block table back: %w", errors.Join(err, flushErr))
	}
	if missing := lacking(after, want, d); after.intact && missing == 0 {
		out.Blocked = len(want)
		w.cutMany(ctx, want, out)
		return nil
	}
	if flushErr != nil {
		return netfilterVerdict("change the block table", flushErr)
	}
	if err := rules.rollBack(conn, before); err != nil {
		return verdict.Undecided("the blocks did not read back, and taking them back met: %w", err)
	}
	return verdict.Untouched("the blocks did not read back and were taken back: does something else change table inet %s?", blockTable)
}

func (w *Firewall) cutMany(ctx context.Context, want []netip.Prefix, out *Bulk) {
	single := make(map[netip.Addr]bool, len(want))
	var wide []netip.Prefix
	for _, p := range want {
		if p.IsSingleIP() {
			single[p.Addr()] = true
		} else {
			wide = append(wide, p)
		}
	}
	var err error
	out.Cut, err = cutWhere(ctx, []uint8{unix.AF_INET, unix.AF_INET6}, func(_, peer netip.AddrPort) bool {
		return single[peer.Addr()] || slices.ContainsFunc(wide, func(p netip.Prefix) bool { return p.Contains(peer.Addr()) })
	})
	if err != nil {
		w.log.Warn("connections of blocked addresses were not cut", "err", err)
	}
}

// split separates the prefixes, which are few and exclude one another, from the addresses, which are many.
func split(blocks []Block) (wide []Block, single map[netip.Prefix]Block) {
	single = make(map[netip.Prefix]Block, len(blocks))
	for _, b := range blocks {
		if b.Prefix.IsSingleIP() {
			single[b.Prefix] = b
			continue
		}
		wide = append(wide, b)
	}
	return wide, single
}

// lacking counts the prefixes that are not blocked for about d.
func lacking(st *blockState, want []netip.Prefix, d time.Duration) int {
	wide, single := split(st.blocks)
	missing := 0
	for _, p := range want {
		b, ok := single[p]
		for _, x := range wide {
			if !ok && x.Prefix.Bits() <= p.Bits() && x.Prefix.Contains(p.Addr()) {
				b, ok = x, true
			}
		}
		if !ok || b.Left <= 0 || b.Left < d-timeoutSlack {
			missing++
		}
	}
	return missing
}
