package firewall

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	isolationTable = "edr_bridge_isolation"
	armedSet       = "armed"
	bodySuffix     = "_body"
	// isolationPriority comes before the filters of other programs: a drop is final, an accept is not (nft(8)).
	isolationPriority = -10
)

// isolationRules is the table as it has to be. Each hook asks the set `armed` whether its family is cut off, and then goes
// through the chain that says who is not. The elements of `armed` time out in the kernel: that is the dead man's switch.
//
//	table inet edr_bridge_isolation {
//	  set armed { type nf_proto; flags timeout; elements = { ipv4 timeout 4h, ipv6 timeout 4h } }
//	  chain input { type filter hook input priority -10; policy accept; meta nfproto @armed jump input_body }
//	  chain input_body { iiftype loopback accept; …; counter drop }
//	  …
//	}
type isolationRules struct {
	table  *nftables.Table
	sets   []*nftables.Set
	chains []*nftables.Chain
	rules  []*nftables.Rule
	// elements are those of sets, in the same order; those of armed depend on the time and are not among them.
	elements [][]nftables.SetElement
}

// newIsolationRules describes the table; it talks to nobody.
func newIsolationRules(passes []pass, cfg *Config) *isolationRules {
	r := &isolationRules{table: &nftables.Table{Family: nftables.TableFamilyINet, Name: isolationTable}}
	r.addSet(armedSet, nftables.TypeNFProto, nil).HasTimeout = true
	services := servicesOf(passes)
	for i, s := range services {
		s.addSets(r, i)
	}
	accept := nftables.ChainPolicyAccept
	for _, hook := range []struct {
		name string
		num  *nftables.ChainHook
	}{{"input", nftables.ChainHookInput}, {"output", nftables.ChainHookOutput}, {"forward", nftables.ChainHookForward}} {
		base := &nftables.Chain{
			Table: r.table, Name: hook.name, Type: nftables.ChainTypeFilter, Hooknum: hook.num,
			Priority: nftables.ChainPriorityRef(isolationPriority), Policy: &accept,
		}
		r.chains = append(r.chains, base, &nftables.Chain{Table: r.table, Name: hook.name + bodySuffix})
	}
	r.input(services, cfg)
	r.output(services, cfg)
	r.rule("forward"+bodySuffix, drop())
	for _, hook := range []string{"input", "output", "forward"} {
		r.rule(hook, meta(expr.MetaKeyNFPROTO), &expr.Lookup{SourceRegister: 1, SetName: armedSet},
			&expr.Verdict{Kind: expr.VerdictJump, Chain: hook + bodySuffix})
	}
	return r
}

func (r *isolationRules) input(services []service, cfg *Config) {
	const body = "input" + bodySuffix
	r.rule(body, metaIs(expr.MetaKeyIIFTYPE, loopback()), accept())
	r.neighbours(body)
	for _, s := range services {
		s.inputRules(r, body)
	}
	if !cfg.NoDHCP {
		r.rule(body, family4(), udp(), ports(67, 68), accept())
		r.rule(body, family6(), udp(), ports(547, 546), accept())
	}
	if cfg.NTP {
		r.rule(body, udp(), port(sourcePort, 123), answers(), accept())
	}
	r.rule(body, drop())
}

func (r *isolationRules) output(services []service, cfg *Config) {
	const body = "output" + bodySuffix
	r.rule(body, metaIs(expr.MetaKeyOIFTYPE, loopback()), accept())
	r.neighbours(body)
	for _, s := range services {
		s.outputRules(r, body)
	}
	if !cfg.NoDHCP {
		r.rule(body, family4(), udp(), ports(68, 67), accept())
		r.rule(body, family6(), udp(), ports(546, 547), accept())
	}
	if cfg.NTP {
		r.rule(body, udp(), port(destinationPort, 123), accept())
	}
	r.rule(body, metaIs(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP}), &expr.Counter{}, &expr.Reject{Type: rejectTCPReset})
	r.rule(body, &expr.Counter{}, &expr.Reject{Type: rejectICMPX, Code: icmpxAdminProhibited})
}

// neighbours lets IPv6 find its neighbours, which ARP does for IPv4 out of the filter's sight: router and neighbour
// solicitation and advertisement (RFC 4861, never routed: hop limit 255), and the reports by which switches deliver them (RFC 3810).
func (r *isolationRules) neighbours(chain string) {
	for _, m := range []struct{ hops, first, last byte }{{255, 133, 136}, {1, 130, 132}, {1, 143, 143}} {
		r.rule(
			chain, family6(), metaIs(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_ICMPV6}),
			fieldIs(expr.PayloadBaseNetworkHeader, 7, []byte{m.hops}),
			[]expr.Any{
				&expr.Payload{Base: expr.PayloadBaseTransportHeader, Len: 1, DestRegister: 1},
				&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{m.first}, ToData: []byte{m.last}},
			},
			accept(),
		)
	}
}

// rule appends a rule of expressions and lists of them. Its comment says which rule of which version it is.
func (r *isolationRules) rule(chain string, parts ...any) {
	var exprs []expr.Any
	for _, p := range parts {
		switch p := p.(type) {
		case []expr.Any:
			exprs = append(exprs, p...)
		case expr.Any:
			exprs = append(exprs, p)
		}
	}
	i := slices.IndexFunc(r.chains, func(c *nftables.Chain) bool { return c.Name == chain })
	tag := fmt.Sprintf("%s %s %d", rulesVersion, chain, len(r.rules))
	r.rules = append(r.rules, &nftables.Rule{
		Table: r.table, Chain: r.chains[i], Exprs: exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, tag),
	})
}

func (r *isolationRules) addSet(name string, key nftables.SetDatatype, els []nftables.SetElement) *nftables.Set {
	s := &nftables.Set{Table: r.table, Name: name, KeyType: key, Interval: els != nil}
	r.sets, r.elements = append(r.sets, s), append(r.elements, els)
	return s
}

// messages returns the transaction that makes the table, for as long as left; 0 = permanent. Replace deletes the one that
// stands, in the same transaction: no moment exists in which nothing holds.
func (r *isolationRules) messages(left time.Duration, replace bool, flags uint32) ([]netlink.Message, error) {
	msgs, err := encode(func(c *nftables.Conn) error {
		for i, s := range r.sets {
			if err := c.AddSet(s, nil); err != nil {
				return fmt.Errorf("set %s: %w", s.Name, err)
			}
			if err := addElements(c, s, r.elements[i]); err != nil {
				return err
			}
		}
		for _, ch := range r.chains {
			c.AddChain(ch)
		}
		for _, rule := range r.rules {
			c.AddRule(rule)
		}
		return c.SetAddElements(r.sets[0], armedElements(left))
	})
	if err != nil {
		return nil, err
	}
	made, err := newTable(r.table, flags)
	if err != nil {
		return nil, err
	}
	msgs = slices.Insert(msgs, 0, made)
	if replace {
		gone, err := encode(func(c *nftables.Conn) error { c.DelTable(r.table); return nil })
		if err != nil {
			return nil, err
		}
		msgs = append(gone, msgs...)
	}
	return msgs, nil
}

// armedElements are the two families, for as long as left; 0 = permanent.
func armedElements(left time.Duration) []nftables.SetElement {
	if left > 0 {
		// The kernel takes a timeout of zero for none at all.
		left = max(left, time.Millisecond)
	}
	return []nftables.SetElement{
		{Key: []byte{unix.NFPROTO_IPV4}, Timeout: left},
		{Key: []byte{unix.NFPROTO_IPV6}, Timeout: left},
	}
}

// final returns the rules that cut: those of the hooks, and the last one of each body.
func (r *isolationRules) final(chain string) []*nftables.Rule {
	of := slices.DeleteFunc(slices.Clone(r.rules), func(x *nftables.Rule) bool { return x.Chain.Name != chain })
	if strings.HasSuffix(chain, bodySuffix) {
		return of[len(of)-1:]
	}
	return of
}

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }

func drop() []expr.Any { return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }

func loopback() []byte { return binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_LOOPBACK) }

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: 1} }

func metaIs(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{meta(key), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}

func family4() []expr.Any { return metaIs(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV4}) }
func family6() []expr.Any { return metaIs(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV6}) }
func udp() []expr.Any     { return metaIs(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_UDP}) }

func fieldIs(base expr.PayloadBase, offset uint32, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{Base: base, Offset: offset, Len: uint32(len(value)), DestRegister: 1}, //nolint:gosec // a few bytes
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value},
	}
}

// The places of the ports in the headers of TCP and UDP.
const (
	sourcePort      = 0
	destinationPort = 2
)

func port(offset uint32, number uint16) []expr.Any {
	return fieldIs(expr.PayloadBaseTransportHeader, offset, binary.BigEndian.AppendUint16(nil, number))
}

func ports(source, destination uint16) []expr.Any {
	return append(port(sourcePort, source), port(destinationPort, destination)...)
}

// answers matches packets of connections somebody was allowed to begin.
func answers() []expr.Any { return ctState(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED) }

func ctState(bits uint32) []expr.Any {
	zero := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: zero},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: zero},
	}
}
