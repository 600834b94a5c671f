package firewall

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxResolvConf bounds what is read of a list of name servers.
const maxResolvConf = 64 << 10

// resolvConfs name the servers programs ask and, where a stub on this machine is asked, those the stub asks
// (resolv.conf(5), systemd-resolved.service(8), rc-manager in NetworkManager.conf(5), resolvconf(8) of Debian).
func resolvConfs() []string {
	return []string{
		"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf", "/run/dnsmasq/resolv.conf",
	}
}

// lifelines returns what this machine needs to stay on the network: its own addresses, its gateways and its name
// servers, as they are at this moment.
func lifelines() ([]taboo, error) {
	var found []taboo
	add := func(ip net.IP, why string) {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addr = addr.Unmap()
			found = append(found, taboo{netip.PrefixFrom(addr, addr.BitLen()), why})
		}
	}
	own, err := ownAddresses()
	if err != nil {
		return nil, err
	}
	for addr := range own {
		found = append(found, taboo{netip.PrefixFrom(addr, addr.BitLen()), "is an address of this machine"})
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("gateways: %w", err)
		}
		for _, r := range routes {
			add(r.Gw, "is a gateway of this machine")
			if via, ok := r.Via.(*netlink.Via); ok {
				add(via.Addr, "is a gateway of this machine")
			}
			for _, hop := range r.MultiPath {
				add(hop.Gw, "is a gateway of this machine")
			}
		}
	}
	for _, name := range resolvConfs() {
		servers, err := nameServers(name)
		if err != nil {
			return nil, fmt.Errorf("name servers: %w", err)
		}
		for _, s := range servers {
			found = append(found, taboo{netip.PrefixFrom(s, s.BitLen()), "is a name server of this machine"})
		}
	}
	return found, nil
}

// ownAddresses returns the addresses of the interfaces in the network namespace of the calling thread.
func ownAddresses() (map[netip.Addr]bool, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("own addresses: %w", err)
	}
	own := make(map[netip.Addr]bool)
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				own[addr.Unmap()] = true
			}
		}
	}
	return own, nil
}

// serversInUse returns the name servers this machine asks, without those on loopback: what a stub there asks is among them.
func serversInUse() ([]netip.Addr, error) {
	var out []netip.Addr
	for _, name := range resolvConfs() {
		servers, err := nameServers(name)
		if err != nil {
			return nil, err
		}
		for _, s := range servers {
			if isHost(s) && !s.IsLoopback() && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

func nameServers(name string) ([]netip.Addr, error) {
	f, err := os.Open(name) //nolint:gosec // the names are fixed
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return parseResolvConf(io.LimitReader(f, maxResolvConf))
}

func parseResolvConf(r io.Reader) ([]netip.Addr, error) {
	var servers []netip.Addr
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, addr.WithZone("").Unmap())
		}
	}
	return servers, lines.Err()
}
