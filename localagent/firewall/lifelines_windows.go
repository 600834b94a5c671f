package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	// adapterRoom is the first guess of learn.microsoft.com for GetAdaptersAddresses; adapterTries bounds how often it grows.
	adapterRoom, adapterTries = 15 << 10, 4
	// adapterParts leaves out what nobody here asks for.
	adapterParts = windows.GAA_FLAG_SKIP_ANYCAST | windows.GAA_FLAG_SKIP_MULTICAST | windows.GAA_FLAG_INCLUDE_GATEWAYS
)

// adapterAddresses is what an interface of this machine has.
type adapterAddresses struct{ own, gateways, servers []netip.Addr }

// lifelines returns what this machine needs to stay on the network: its own addresses, its gateways and its name
// servers, as they are at this moment.
func lifelines() ([]taboo, error) {
	adapters, err := listAdapters()
	if err != nil {
		return nil, err
	}
	var found []taboo
	for _, a := range adapters {
		for _, list := range []struct {
			addrs []netip.Addr
			why   string
		}{
			{a.own, "is an address of this machine"},
			{a.gateways, "is a gateway of this machine"},
			{a.servers, "is a name server of this machine"},
		} {
			for _, addr := range list.addrs {
				found = append(found, taboo{netip.PrefixFrom(addr, addr.BitLen()), list.why})
			}
		}
	}
	return found, nil
}

// serversInUse returns the name servers this machine asks, each once, without those on loopback.
func serversInUse() ([]netip.Addr, error) {
	adapters, err := listAdapters()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range adapters {
		for _, s := range a.servers {
			if !s.IsLoopback() && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// listAdapters returns the interfaces that are up (learn.microsoft.com/windows/win32/api/iphlpapi/nf-iphlpapi-getadaptersaddresses).
func listAdapters() ([]adapterAddresses, error) {
	size := uint32(adapterRoom)
	for range adapterTries {
		buf := make([]uint64, (size+7)/8)                               // aligned like the structures
		first := (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0])) //nolint:gosec // the function fills the buffer
		err := windows.GetAdaptersAddresses(windows.AF_UNSPEC, adapterParts, 0, first, &size)
		switch {
		case err == nil:
			return adaptersOf(first), nil
		case errors.Is(err, windows.ERROR_NO_DATA):
			return nil, nil
		case !errors.Is(err, windows.ERROR_BUFFER_OVERFLOW):
			return nil, fmt.Errorf("list the network interfaces: %w", err)
		}
	}
	return nil, errors.New("list the network interfaces: they change faster than they can be read")
}

func adaptersOf(a *windows.IpAdapterAddresses) []adapterAddresses {
	var out []adapterAddresses
	for ; a != nil; a = a.Next {
		if a.OperStatus != windows.IfOperStatusUp {
			continue
		}
		var x adapterAddresses
		for u := a.FirstUnicastAddress; u != nil; u = u.Next {
			x.own = appendAddr(x.own, u.Address.IP())
		}
		for g := a.FirstGatewayAddress; g != nil; g = g.Next {
			x.gateways = appendAddr(x.gateways, g.Address.IP())
		}
		for d := a.FirstDnsServerAddress; d != nil; d = d.Next {
			x.servers = appendAddr(x.servers, d.Address.IP())
		}
		out = append(out, x)
	}
	return out
}

func appendAddr(list []netip.Addr, ip net.IP) []netip.Addr {
	if addr, ok := netip.AddrFromSlice(ip); ok {
		return append(list, addr.Unmap())
	}
	return list
}
