package ioc

import (
	"context"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// collectNeighbours lists the neighbours of this network namespace that the kernel knows a hardware address of: ARP for
// IPv4, neighbour discovery for IPv6 (rtnetlink(7), RTM_GETNEIGH).
func collectNeighbours(ctx context.Context, _ host, o *object, emit func(*object)) error {
	list, err := netlink.NeighList(0, unix.AF_UNSPEC)
	if err != nil {
		return errCollector("list the neighbours", err)
	}
	interfaces := map[int]string{}
	for _, n := range list {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		// Multicast addresses have made-up neighbours of state NOARP.
		if !ok || len(n.HardwareAddr) == 0 || n.State&(unix.NUD_NOARP|unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0 {
			continue
		}
		name, known := interfaces[n.LinkIndex]
		if !known {
			if i, err := net.InterfaceByIndex(n.LinkIndex); err == nil {
				name = i.Name
			}
			interfaces[n.LinkIndex] = name
		}
		if addr = addr.Unmap(); addr.Is4() {
			o.address(arpIPv4, addr)
		} else {
			o.address(arpIPv6, addr)
		}
		hardwareAddress(o, arpHardware, n.HardwareAddr)
		o.text(arpInterface, name)
		cache := "dynamic"
		if n.State&unix.NUD_PERMANENT != 0 {
			cache = "static"
		}
		o.text(arpCacheType, cache)
		o.truth(arpRouter, n.Flags&unix.NTF_ROUTER != 0)
		emit(o)
	}
	return nil
}
