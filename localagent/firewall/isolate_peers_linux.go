package firewall

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// service is a way to talk, with all the peers that are talked to so: one rule a family and hook, however many peers.
type service struct {
	protocol  Protocol
	direction Direction
	ports     []portRange
	prefixes  []netip.Prefix
	// sets are the names of the sets with the peers of a family, empty where it has none.
	sets map[byte]string
}

// servicesOf groups passes, in an order that depends on nothing but them.
func servicesOf(passes []pass) []service {
	var out []service
	for _, p := range passes {
		if p.prefix.Addr().IsLoopback() {
			continue
		}
		i := slices.IndexFunc(out, func(s service) bool {
			return s.protocol == p.protocol && s.direction == p.direction && slices.Equal(s.ports, p.ports)
		})
		if i < 0 {
			i = len(out)
			out = append(out, service{protocol: p.protocol, direction: p.direction, ports: p.ports, sets: make(map[byte]string)})
		}
		out[i].prefixes = append(out[i].prefixes, p.prefix)
	}
	slices.SortFunc(out, func(a, b service) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.direction, b.direction), cmp.Compare(portsText(a.ports), portsText(b.ports)))
	})
	return out
}

func (s service) addSets(r *isolationRules, i int) {
	for _, f := range []struct {
		family byte
		key    nftables.SetDatatype
		name   string
	}{{unix.NFPROTO_IPV4, nftables.TypeIPAddr, "peers4_%d"}, {unix.NFPROTO_IPV6, nftables.TypeIP6Addr, "peers6_%d"}} {
		els := intervals(s.prefixes, f.family == unix.NFPROTO_IPV4)
		if len(els) == 0 {
			continue
		}
		s.sets[f.family] = fmt.Sprintf(f.name, i)
		r.addSet(s.sets[f.family], f.key, els)
	}
}

// intervals returns the prefixes of a family as the kernel keeps them: the first address of a range and the first behind it,
// what overlaps or touches made one.
func intervals(prefixes []netip.Prefix, is4 bool) []nftables.SetElement {
	prefixes = slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return p.Addr().Is4() != is4 })
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	var els []nftables.SetElement
	var end netip.Addr
	for _, p := range prefixes {
		next := lastOf(p).Next()
		switch {
		case end.IsValid() && p.Addr().Compare(end) <= 0:
			if next.Compare(end) > 0 {
				end = next
				els[len(els)-1].Key = end.AsSlice()
			}
		default:
			end = next
			els = append(els, nftables.SetElement{Key: p.Addr().AsSlice()}, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return els
}

// inputRules let the peers in: answers to what this machine began, and what they may begin themselves.
func (s service) inputRules(r *isolationRules, chain string) {
	s.rules(r, chain, false, s.direction != DirectionIn, s.direction != DirectionOut)
}

// outputRules let out what this machine may begin, and answers to what the peers began.
func (s service) outputRules(r *isolationRules, chain string) {
	s.rules(r, chain, true, s.direction != DirectionIn, s.direction != DirectionOut)
}

func (s service) rules(r *isolationRules, chain string, output, outbound, inbound bool) {
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		if s.sets[family] == "" {
			continue
		}
		who := s.peerIn(family, output)
		for _, way := range s.ways() {
			// The service is at the peer when this machine begins, and here when the peer does.
			if outbound {
				theirs := way(output)
				if output {
					r.rule(chain, who, theirs, accept())
				} else {
					r.rule(chain, who, theirs, answers(), accept())
				}
			}
			if inbound {
				ours := way(!output)
				if output {
					r.rule(chain, who, ours, answers(), accept())
				} else {
					r.rule(chain, who, ours, accept())
				}
			}
		}
		if !output && s.protocol != ProtocolUDP {
			r.tooBig(chain, family, s.sets[family])
		}
	}
}

// tooBig lets routers say that packets of a connection with a peer are too big or cannot be delivered (RFC 1191, RFC 8201):
// without that a connection through a tunnel hangs.
func (r *isolationRules) tooBig(chain string, family byte, set string) {
	// The message carries the packet it is about behind its own 8 bytes: ours, so the peer is its destination.
	proto, first, last := byte(unix.IPPROTO_ICMP), byte(3), byte(3)
	offset, length := uint32(8+16), uint32(4)
	if family == unix.NFPROTO_IPV6 {
		proto, first, last = unix.IPPROTO_ICMPV6, 1, 2
		offset, length = 8+24, 16
	}
	r.rule(
		chain, metaIs(expr.MetaKeyNFPROTO, []byte{family}), metaIs(expr.MetaKeyL4PROTO, []byte{proto}),
		[]expr.Any{
			&expr.Payload{Base: expr.PayloadBaseTransportHeader, Len: 1, DestRegister: 1},
			&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{first}, ToData: []byte{last}},
		},
		ctState(expr.CtStateBitRELATED),
		[]expr.Any{
			&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length, DestRegister: 1},
			&expr.Lookup{SourceRegister: 1, SetName: set},
		},
		accept(),
	)
}

// peerIn matches packets to (output) or from the peers of a family.
func (s service) peerIn(family byte, output bool) []expr.Any {
	offset, length := uint32(12), uint32(4)
	if family == unix.NFPROTO_IPV6 {
		offset, length = 8, 16
	}
	if output {
		offset += length
	}
	return append(metaIs(expr.MetaKeyNFPROTO, []byte{family}),
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length, DestRegister: 1},
		&expr.Lookup{SourceRegister: 1, SetName: s.sets[family]})
}

// ways returns the matches for protocol and ports; the argument says whether the service's port is the destination.
func (s service) ways() []func(destination bool) []expr.Any {
	var protos []byte
	switch {
	case s.protocol == ProtocolTCP:
		protos = []byte{unix.IPPROTO_TCP}
	case s.protocol == ProtocolUDP:
		protos = []byte{unix.IPPROTO_UDP}
	case len(s.ports) > 0:
		protos = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	default:
		return []func(bool) []expr.Any{func(bool) []expr.Any { return nil }}
	}
	ranges := s.ports
	if len(ranges) == 0 {
		ranges = []portRange{{1, 65535}}
	}
	var out []func(bool) []expr.Any
	for _, proto := range protos {
		for _, r := range ranges {
			out = append(out, func(destination bool) []expr.Any {
				offset := uint32(sourcePort)
				if destination {
					offset = destinationPort
				}
				return append(
					metaIs(expr.MetaKeyL4PROTO, []byte{proto}),
					&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2, DestRegister: 1},
					&expr.Range{
						Op: expr.CmpOpEq, Register: 1,
						FromData: binary.BigEndian.AppendUint16(nil, r.first), ToData: binary.BigEndian.AppendUint16(nil, r.last),
					},
				)
			})
		}
	}
	return out
}
