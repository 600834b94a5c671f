package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// leakPort is discard (RFC 863): nobody listens there.
const leakPort = 9

// foreign are addresses that belong to nobody (RFC 5737, RFC 3849, RFC 6666), by family.
func foreign() map[int][]string {
	return map[int][]string{
		unix.AF_INET:  {"192.0.2.1", "198.51.100.77", "203.0.113.1"},
		unix.AF_INET6: {"2001:db8:ffff::1", "100::1"},
	}
}

// leaks tries to reach addresses of each family that are no peers, and returns one whose packets did not come by the rule that
// refuses them. That rule's counter is asked and not what connecting says: answers come from routers as well, and other rules may
// keep ours from coming back.
func leaks(ctx context.Context, passes []pass) (netip.Addr, error) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		var candidates []netip.Addr
		for _, s := range foreign()[family] {
			candidates = append(candidates, netip.MustParseAddr(s))
		}
		near, err := gateways(family)
		if err != nil {
			return netip.Addr{}, err
		}
		var leak netip.Addr
		for _, addr := range append(candidates, near...) {
			target := netip.AddrPortFrom(addr, leakPort)
			if slices.ContainsFunc(passes, func(p pass) bool { return p.permits(target, 0) }) {
				// The settings keep even this one.
				continue
			}
			if cause := context.Cause(ctx); cause != nil {
				return netip.Addr{}, cause
			}
			seen, sent, err := refusal(target)
			if err != nil {
				return netip.Addr{}, err
			}
			if seen {
				leak = netip.Addr{}
				break
			}
			if sent && !leak.IsValid() {
				// Other rules may drop what goes to addresses of nobody before ours are asked: a gateway is somebody.
				leak = addr
			}
		}
		if leak.IsValid() {
			return leak, nil
		}
	}
	return netip.Addr{}, nil
}

// refusal begins a connection and reports whether our rule refused it, and whether there was a way to send anything at all.
func refusal(target netip.AddrPort) (seen, sent bool, err error) {
	before, err := refusals()
	if err != nil {
		return false, false, err
	}
	if sent, err = begin(target); err != nil || !sent {
		return false, false, err
	}
	after, err := refusals()
	if err != nil {
		return false, false, err
	}
	return after > before, true, nil
}

// begin sends the first packet of a connection, which has come by the packet filter when this returns. It reports false where no
// way leads.
func begin(target netip.AddrPort) (sent bool, err error) {
	family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(target.Port()), Addr: [4]byte(target.Addr().AsSlice())})
	if target.Addr().Is6() {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(target.Port()), Addr: target.Addr().As16()}
	}
	// Connecting a datagram socket looks the way up and sends nothing.
	for _, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			return false, nil
		}
		if err != nil {
			return false, os.NewSyscallError("socket", err)
		}
		err = unix.Connect(fd, to)
		_ = unix.Close(fd)
		if err != nil && kind == unix.SOCK_DGRAM {
			return false, nil
		}
	}
	return true, nil
}

// refusals is how many packets the last rules of the output chain have refused.
func refusals() (uint64, error) {
	c, err := nftables.New()
	if err != nil {
		return 0, err
	}
	rules := newIsolationRules(nil, &Config{})
	got, err := c.GetRules(rules.table, &nftables.Chain{Name: "output" + bodySuffix})
	if err != nil {
		return 0, fmt.Errorf("read the counters: %w", err)
	}
	var sum uint64
	for _, r := range got {
		for _, e := range r.Exprs {
			if n, ok := e.(*expr.Counter); ok {
				sum += n.Packets
			}
		}
	}
	return sum, nil
}

// gateways returns the gateways of a family.
func gateways(family int) ([]netip.Addr, error) {
	routes, err := netlink.RouteList(nil, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("gateways: %w", err)
	}
	var out []netip.Addr
	for _, r := range routes {
		addr, ok := netip.AddrFromSlice(r.Gw)
		if addr = addr.Unmap(); ok && !addr.IsLinkLocalUnicast() && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out, nil
}
