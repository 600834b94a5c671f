package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxPortRanges bounds the ports of one peer.
	maxPortRanges = 32
	maxHostName   = 253
)

// Protocol is what a peer is spoken to with.
type Protocol string

// The protocols. With ports ProtocolAny means TCP and UDP, without them every protocol there is.
const (
	ProtocolTCP Protocol = "tcp"
	ProtocolUDP Protocol = "udp"
	ProtocolAny Protocol = "any"
)

// Direction says who begins.
type Direction string

// The directions. Answers always pass.
const (
	DirectionOut  Direction = "out" // this machine begins; the ports are the peer's
	DirectionIn   Direction = "in"  // the peer begins; the ports are this machine's
	DirectionBoth Direction = "both"
)

// Peer is somebody an isolated machine still talks to.
type Peer struct {
	// Host is a name, an address or a prefix ("ksc01.corp.local", "192.0.2.7", "2001:db8::/64").
	Host string
	// Ports are numbers and ranges from 1 to 65535, "13000,14000-14010"; empty = all.
	Ports string
	// Protocol is ProtocolTCP when empty.
	Protocol Protocol
	// Direction is DirectionOut when empty.
	Direction Direction
	// Why says in words what the peer is; it stands in receipts and errors ("KSC").
	Why string
}

// portRange is a range of ports, both ends included.
type portRange struct{ first, last uint16 }

// peer is a Peer that was understood.
type peer struct {
	host string
	// prefix is valid when host is no name.
	prefix    netip.Prefix
	ports     []portRange
	protocol  Protocol
	direction Direction
	why       string
	need      bool
}

// pass is what the filter lets through: peers by address.
type pass struct {
	prefix    netip.Prefix
	ports     []portRange
	protocol  Protocol
	direction Direction
}

// outbound and inbound report which side may begin.
func (p pass) outbound() bool { return p.direction != DirectionIn }
func (p pass) inbound() bool  { return p.direction != DirectionOut }

// permits reports whether a TCP connection between these ports is one the pass is for. Who began it is not known.
func (p pass) permits(remote netip.AddrPort, local uint16) bool {
	if p.protocol == ProtocolUDP || !p.prefix.Contains(remote.Addr()) {
		return false
	}
	return p.outbound() && hasPort(p.ports, remote.Port()) || p.inbound() && hasPort(p.ports, local)
}

func hasPort(ranges []portRange, port uint16) bool {
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(r portRange) bool { return r.first <= port && port <= r.last })
}

func (p Peer) parse() (peer, error) {
	out := peer{host: p.Host, protocol: cmp.Or(p.Protocol, ProtocolTCP), direction: cmp.Or(p.Direction, DirectionOut), why: p.Why}
	var errs []error
	if err := out.parseHost(p.Host); err != nil {
		errs = append(errs, fmt.Errorf("host: %w", err))
	}
	var err error
	if out.ports, err = parsePorts(p.Ports); err != nil {
		errs = append(errs, fmt.Errorf("ports: %w", err))
	}
	switch out.protocol {
	case ProtocolTCP, ProtocolUDP, ProtocolAny:
	default:
		errs = append(errs, fmt.Errorf("protocol: %s is none of tcp, udp, any", verdict.Shown(string(p.Protocol))))
	}
	switch out.direction {
	case DirectionIn, DirectionOut, DirectionBoth:
	default:
		errs = append(errs, fmt.Errorf("direction: %s is none of in, out, both", verdict.Shown(string(p.Direction))))
	}
	if out.prefix.IsValid() && out.prefix.Bits() == 0 {
		errs = append(errs, errors.New("host: the whole internet is no peer: nothing would be cut off"))
	}
	return out, errors.Join(errs...)
}

func (p *peer) parseHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.WithZone("").Unmap()
		if !isHost(addr) {
			return fmt.Errorf("%s is no peer", addr)
		}
		p.prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	if strings.Contains(host, "/") {
		prefix, err := netip.ParsePrefix(host)
		if err != nil {
			return fmt.Errorf("%s is no prefix", verdict.Shown(host))
		}
		prefix = unmapped(prefix)
		switch {
		case prefix != prefix.Masked():
			return fmt.Errorf("%s has bits behind its prefix: write %s, or the address alone", prefix, prefix.Masked())
		case prefix.Bits() > 0 && !lastOf(prefix).Next().IsValid(), prefix.Bits() > 0 && prefix.Addr().IsMulticast():
			return fmt.Errorf("%s holds no peers", prefix)
		}
		p.prefix = prefix
		return nil
	}
	if !isHostName(host) {
		return fmt.Errorf("%s is no host name, address or prefix", verdict.Shown(host))
	}
	return nil
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// isHostName takes what can be asked from a name server, and refuses what only looks like an address.
func isHostName(s string) bool {
	if s == "" || len(s) > maxHostName || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}

// parsePorts returns the ranges in order, those that touch made one.
func parsePorts(s string) ([]portRange, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var ranges []portRange
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || first == 0 || first > last {
			return nil, fmt.Errorf("%s is neither a port from 1 to 65535 nor a range of them", verdict.Shown(part))
		}
		if ranges = append(ranges, portRange{uint16(first), uint16(last)}); len(ranges) > maxPortRanges {
			return nil, fmt.Errorf("more than %d ranges", maxPortRanges)
		}
	}
	slices.SortFunc(ranges, func(a, b portRange) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last)) })
	merged := ranges[:1]
	for _, r := range ranges[1:] {
		if last := &merged[len(merged)-1]; uint32(r.first) <= uint32(last.last)+1 {
			last.last = max(last.last, r.last)
			continue
		}
		merged = append(merged, r)
	}
	return merged, nil
}

// text names the peer for people.
func (p peer) text() string {
	if p.why == "" {
		return p.host
	}
	return verdict.Shown(p.why) + " (" + p.host + ")"
}

// describe writes a pass for people: "192.0.2.7 tcp 13000,14000-14010 out".
func (p pass) describe() string {
	words := []string{targetText(p.prefix), string(p.protocol)}
	if len(p.ports) > 0 {
		words = append(words, portsText(p.ports))
	}
	return strings.Join(append(words, string(p.direction)), " ")
}

func portsText(ranges []portRange) string {
	var parts []string
	for _, r := range ranges {
		if r.first == r.last {
			parts = append(parts, strconv.Itoa(int(r.first)))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d-%d", r.first, r.last))
	}
	return strings.Join(parts, ",")
}
