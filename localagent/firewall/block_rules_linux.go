package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

const (
	blockTable = "edr_bridge_block"
	// rulesVersion is part of every rule's comment: rules of another version are replaced.
	rulesVersion = "edr-bridge 1"
	// A reject answers the sender: a reset for TCP, "administratively prohibited" for the rest, in both families.
	rejectTCPReset        = unix.NFT_REJECT_TCP_RST
	rejectICMPX           = unix.NFT_REJECT_ICMPX_UNREACH
	icmpxAdminProhibited  = 3 // NFT_REJECT_ICMPX_ADMIN_PROHIBITED of linux/netfilter/nf_tables.h
	outputPriority        = -10
	setElementMinimumLeft = time.Second
)

// blockRules is the table as it has to be: four sets whose elements the kernel takes out when their time is over,
// and two chains that look addresses up in them.
//
//	prerouting  drops what comes from or goes through to a blocked address, containers included
//	output      rejects what this machine sends to one, so that programs fail at once
type blockRules struct {
	table  *nftables.Table
	sets   []*nftables.Set
	chains []*nftables.Chain
	rules  []*nftables.Rule
}

// newBlockRules describes the table; it talks to nobody.
func newBlockRules() *blockRules {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: blockTable}
	r := &blockRules{table: table}
	for _, s := range []struct {
		name     string
		key      nftables.SetDatatype
		interval bool
	}{
		{"blocked4", nftables.TypeIPAddr, false},
		{"blocked6", nftables.TypeIP6Addr, false},
		{"blocked4_prefixes", nftables.TypeIPAddr, true},
		{"blocked6_prefixes", nftables.TypeIP6Addr, true},
	} {
		r.sets = append(r.sets, &nftables.Set{Table: table, Name: s.name, KeyType: s.key, HasTimeout: true, Interval: s.interval})
	}
	accept := nftables.ChainPolicyAccept
	pre := &nftables.Chain{
		Table: table, Name: "prerouting", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw, Policy: &accept,
	}
	out := &nftables.Chain{
		Table: table, Name: "output", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(outputPriority), Policy: &accept,
	}
	r.chains = []*nftables.Chain{pre, out}
	for _, set := range r.sets {
		drop := &expr.Verdict{Kind: expr.VerdictDrop}
		r.add(pre, set, false, drop, notLoopback()...)
		r.add(pre, set, true, drop, notLoopback()...)
		r.add(out, set, true, &expr.Reject{Type: rejectTCPReset}, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}})
		r.add(out, set, true, &expr.Reject{Type: rejectICMPX, Code: icmpxAdminProhibited})
	}
	return r
}

// add appends the rule "family, extra conditions, address in set: count and end".
func (r *blockRules) add(c *nftables.Chain, set *nftables.Set, destination bool, end expr.Any, extra ...expr.Any) {
	family, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if set.KeyType.Name == nftables.TypeIP6Addr.Name {
		family, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	if destination {
		offset += length
	}
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
	}
	exprs = append(exprs, extra...)
	exprs = append(exprs,
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length, DestRegister: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name},
		&expr.Counter{},
		end,
	)
	tag := fmt.Sprintf("%s %s %d", rulesVersion, c.Name, len(r.rules))
	r.rules = append(r.rules, &nftables.Rule{
		Table: r.table, Chain: c, Exprs: exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, tag),
	})
}

// notLoopback lets the answers of our own reject pass: they come back over loopback in the name of the blocked peer.
func notLoopback() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_LOOPBACK)},
	}
}

// create queues the whole table: whatever stood there before is replaced in the same transaction, so that no
// moment exists in which carried-over blocks do not hold.
func (r *blockRules) create(c *nftables.Conn, carried []Block) error {
	c.AddTable(r.table)
	c.DelTable(r.table)
	c.AddTable(r.table)
	for _, s := range r.sets {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	for _, ch := range r.chains {
		c.AddChain(ch)
	}
	for _, rule := range r.rules {
		c.AddRule(rule)
	}
	return r.addBlocks(c, carried)
}

// addBlocks queues any number of blocks; those that are all but over are left out.
func (r *blockRules) addBlocks(c *nftables.Conn, blocks []Block) error {
	lists := make(map[*nftables.Set][]nftables.SetElement)
	for _, b := range blocks {
		if b.Left >= setElementMinimumLeft {
			set := r.set(b.Prefix)
			lists[set] = append(lists[set], elements(b.Prefix, b.Left)...)
		}
	}
	for set, els := range lists {
		if err := addElements(c, set, els); err != nil {
			return err
		}
	}
	return nil
}

// set returns the set p belongs to.
func (r *blockRules) set(p netip.Prefix) *nftables.Set {
	i := 0
	if p.Addr().Is6() {
		i++
	}
	if !p.IsSingleIP() {
		i += 2
	}
	return r.sets[i]
}

// elements returns p as the kernel keeps it: an address, or first address and the first one behind the prefix.
func elements(p netip.Prefix, timeout time.Duration) []nftables.SetElement {
	first := nftables.SetElement{Key: p.Addr().AsSlice(), Timeout: timeout}
	if p.IsSingleIP() {
		return []nftables.SetElement{first}
	}
	return []nftables.SetElement{first, {Key: lastOf(p).Next().AsSlice(), IntervalEnd: true}}
}

// sameRules reports whether the kernel has exactly the rules of want in a chain, by comment and length.
func sameRules(want []*nftables.Rule, chain string, got []*nftables.Rule) bool {
	want = slices.DeleteFunc(slices.Clone(want), func(r *nftables.Rule) bool { return r.Chain.Name != chain })
	return slices.EqualFunc(want, got, func(w, g *nftables.Rule) bool {
		return string(w.UserData) == string(g.UserData) && len(w.Exprs) == len(g.Exprs)
	})
}
