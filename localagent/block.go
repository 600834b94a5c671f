package localagent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	defaultBlockFor = 10 * time.Minute
	// maxBlockFor bounds the kernel's timer; whoever wants an address away for good has a firewall.
	maxBlockFor = 30 * 24 * time.Hour
	// minBits4 and minBits6 are the widest prefixes one order may block.
	minBits4, minBits6 = 24, 64
)

// ErrNotBlocked is returned by Unblock for an address that is not blocked by itself.
var ErrNotBlocked = errors.New("the address is not blocked")

// Block is one blocked address or prefix.
type Block struct {
	Prefix netip.Prefix
	// Timeout is what the block was made for, Left what remains of it.
	Timeout, Left time.Duration
}

// taboo is a network no block may touch, and why.
type taboo struct {
	prefix netip.Prefix
	why    string
}

// specialNetworks can never be a peer on the network that is worth a block.
// Source: IANA special-purpose address registries (RFC 6890).
func specialNetworks() []taboo {
	return []taboo{
		{netip.MustParsePrefix("127.0.0.0/8"), "it is loopback"},
		{netip.MustParsePrefix("::1/128"), "it is loopback"},
		{netip.MustParsePrefix("0.0.0.0/8"), "it means no address"},
		{netip.MustParsePrefix("::/128"), "it means no address"},
		{netip.MustParsePrefix("224.0.0.0/4"), "it is multicast"},
		{netip.MustParsePrefix("ff00::/8"), "it is multicast"},
		{netip.MustParsePrefix("255.255.255.255/32"), "it is broadcast"},
		{netip.MustParsePrefix("fe80::/10"), "link-local addresses belong to a link, and routers answer there"},
		{netip.MustParsePrefix("::ffff:0:0/96"), "name the IPv4 address itself"},
	}
}

// block carries out blockAddress.
func (a *Agent) block(ctx context.Context, o bridge.Order, t bridge.BlockAddress) (bridge.Receipt, error) {
	if err := t.Validate(); err != nil {
		return bridge.Receipt{}, refuse(bridge.ReasonInvalid, "%w", err)
	}
	prefix, err := parseTarget(t.Address)
	if err != nil {
		return bridge.Receipt{}, refuse(bridge.ReasonInvalid, "%w", err)
	}
	d := o.For
	if d == 0 {
		d = defaultBlockFor
	}
	if d < time.Second || d > maxBlockFor {
		return bridge.Receipt{}, refuse(bridge.ReasonInvalid, "a block lasts between 1 second and %s, not %s", maxBlockFor, d)
	}
	if err := a.mayBlock(prefix); err != nil {
		return bridge.Receipt{}, err
	}
	if a.cfg.DryRun {
		return dryRun(fmt.Sprintf("would have blocked %s for %s", targetText(prefix), d), nil), nil
	}
	if err := stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	return a.applyBlock(ctx, prefix, d)
}

// mayBlock refuses networks this machine lives by. When they cannot be found out, nothing is blocked.
func (a *Agent) mayBlock(prefix netip.Prefix) error {
	for _, n := range specialNetworks() {
		if n.prefix.Overlaps(prefix) {
			return refuse(bridge.ReasonProtectedAddress, "%s is never blocked: %s", targetText(prefix), n.why)
		}
	}
	for _, n := range a.cfg.NeverBlock {
		if unmapped(n).Overlaps(prefix) {
			return refuse(bridge.ReasonProtectedAddress, "%s is never blocked: the settings protect %s", targetText(prefix), n)
		}
	}
	for _, addr := range a.cfg.Self.Addresses {
		if prefix.Contains(addr.Unmap().WithZone("")) {
			return refuse(bridge.ReasonProtectedAddress, "%s is never blocked: %s is this machine", targetText(prefix), addr)
		}
	}
	live, err := lifelines()
	if v, ok := errors.AsType[*verdict](err); ok {
		return v
	}
	if err != nil {
		return hopeless("find out which addresses must never be blocked: %w", err)
	}
	for _, n := range live {
		if n.prefix.Overlaps(prefix) {
			return refuse(bridge.ReasonProtectedAddress, "%s is never blocked: %s %s", targetText(prefix), n.prefix.Addr(), n.why)
		}
	}
	return nil
}

// parseTarget reads an address or a prefix strictly: no zone, no host bits, no short forms, not too wide.
func parseTarget(s string) (netip.Prefix, error) {
	var p netip.Prefix
	if strings.Contains(s, "/") {
		var err error
		if p, err = netip.ParsePrefix(s); err != nil {
			return p, fmt.Errorf("address %s: not a prefix such as 203.0.113.0/24", shown(s))
		}
		if p != p.Masked() {
			return p, fmt.Errorf("address %s: has bits behind the prefix, write %s", shown(s), p.Masked())
		}
	} else {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return p, fmt.Errorf("address %s: neither an IPv4 nor an IPv6 address", shown(s))
		}
		if addr.Zone() != "" {
			return p, fmt.Errorf("address %s: a zone has no meaning here", shown(s))
		}
		addr = addr.Unmap()
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	least := minBits6
	if p.Addr().Is4() {
		least = minBits4
	}
	if p.Bits() < least {
		return p, fmt.Errorf("address %s: too wide, /%d is the widest prefix one order may block", shown(s), least)
	}
	return p, nil
}

// unmapped turns a prefix of IPv4-mapped addresses into the IPv4 prefix it means.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

func targetText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
