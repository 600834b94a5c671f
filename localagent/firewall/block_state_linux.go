package firewall

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// blockState is the table as the kernel has it.
type blockState struct {
	exists bool
	// intact says that sets, chains and rules are exactly those of blockRules.
	intact bool
	blocks []Block
}

// find returns the block of exactly p.
func (s *blockState) find(p netip.Prefix) (Block, bool) {
	i := slices.IndexFunc(s.blocks, func(b Block) bool { return b.Prefix == p })
	if i < 0 {
		return Block{}, false
	}
	return s.blocks[i], true
}

// readBlocks reads table, sets, chains, rules and elements back from the kernel.
func (r *blockRules) readBlocks(c *nftables.Conn) (*blockState, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	st := &blockState{}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == blockTable })
	if i < 0 {
		return st, nil
	}
	st.exists, st.intact = true, flagsOf(tables[i])&tableDormant == 0
	sets, err := c.GetSets(r.table)
	if err != nil {
		return nil, fmt.Errorf("list sets: %w", err)
	}
	for _, want := range r.sets {
		i := slices.IndexFunc(sets, func(s *nftables.Set) bool { return s.Name == want.Name })
		if i < 0 || !sameSet(want, sets[i]) {
			st.intact = false
			continue
		}
		got, err := c.GetSetElements(sets[i])
		if err != nil {
			return nil, fmt.Errorf("list set %s: %w", want.Name, err)
		}
		st.blocks = append(st.blocks, blocksOf(got, want.Interval)...)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, want := range r.chains {
		i := slices.IndexFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == blockTable && c.Name == want.Name })
		if i < 0 || !sameChain(want, chains[i]) {
			st.intact = false
			continue
		}
		rules, err := c.GetRules(r.table, want)
		if err != nil {
			return nil, fmt.Errorf("list chain %s: %w", want.Name, err)
		}
		st.intact = st.intact && sameRules(r.rules, want.Name, rules)
	}
	return st, nil
}

func sameSet(want, got *nftables.Set) bool {
	return got.HasTimeout && got.Interval == want.Interval && got.KeyType.Name == want.KeyType.Name
}

func sameChain(want, got *nftables.Chain) bool {
	return got.Hooknum != nil && got.Priority != nil && *got.Hooknum == *want.Hooknum && *got.Priority == *want.Priority &&
		got.Type == want.Type
}

// blocksOf turns set elements into blocks. Those of an interval set come as first addresses and ends, in any order.
func blocksOf(els []nftables.SetElement, interval bool) []Block {
	var blocks []Block
	if !interval {
		for _, e := range els {
			if addr, ok := netip.AddrFromSlice(e.Key); ok {
				blocks = append(blocks, Block{netip.PrefixFrom(addr, addr.BitLen()), e.Timeout, e.Expires})
			}
		}
		return blocks
	}
	els = slices.Clone(els)
	slices.SortFunc(els, func(a, b nftables.SetElement) int {
		// Where one prefix ends and the next begins, the end comes first.
		return cmp.Or(bytes.Compare(a.Key, b.Key), compareEnds(a.IntervalEnd, b.IntervalEnd))
	})
	for i, e := range els {
		if e.IntervalEnd || i+1 == len(els) {
			continue
		}
		if p, ok := prefixOf(e.Key, els[i+1].Key); ok {
			blocks = append(blocks, Block{p, e.Timeout, e.Expires})
		}
	}
	return blocks
}

func compareEnds(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// prefixOf returns the prefix that starts at first and ends right before end.
func prefixOf(first, end []byte) (netip.Prefix, bool) {
	from, ok1 := netip.AddrFromSlice(first)
	to, ok2 := netip.AddrFromSlice(end)
	if !ok1 || !ok2 {
		return netip.Prefix{}, false
	}
	for bits := range from.BitLen() + 1 {
		p := netip.PrefixFrom(from, bits)
		if p == p.Masked() && lastOf(p).Next() == to {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// netfilterVerdict says what is missing when the kernel will not let the agent change its packet filter.
func netfilterVerdict(doing string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return verdict.Hopeless("%s: %w: the agent needs root or CAP_NET_ADMIN", doing, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return verdict.Hopeless("%s: %w: the kernel needs nf_tables with the inet family, sets and reject (CONFIG_NF_TABLES_INET, CONFIG_NFT_REJECT_INET)", doing, err)
	default:
		return verdict.Untouched("%s: %w", doing, err)
	}
}
