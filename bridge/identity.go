package bridge

import (
	"net/netip"
	"slices"
	"strings"
)

// Identity is what this machine is called.
type Identity struct {
	// Names are host name, FQDN and, when set, the GUID KSC knows the machine by.
	Names []string
	// Addresses are those it always has.
	Addresses []netip.Addr
	// Now, when given, tells what else the machine is called at this moment: addresses come and go, and a program may start before the
	// first. It is asked again and again, must not block and must be safe for concurrent use.
	Now func() (names []string, addresses []netip.Addr)
}

// All returns every name and address this machine has at the moment.
func (id Identity) All() (names []string, addresses []netip.Addr) {
	names, addresses = id.Names, id.Addresses
	if id.Now != nil {
		n, a := id.Now()
		names, addresses = slices.Concat(names, n), slices.Concat(addresses, a)
	}
	return names, addresses
}

// Is reports whether host names this machine: one of its names (any case, an FQDN also by its first label)
// or one of its addresses, whatever KSC profile it is addressed with. Loopback names are nobody's identity, because every machine has them.
func (id Identity) Is(host string) bool {
	if host == "" {
		return false
	}
	host, _ = SplitHost(host)
	names, addresses := id.All()
	if a, err := netip.ParseAddr(host); err == nil {
		return !a.IsLoopback() && slices.Contains(addresses, a.Unmap())
	}
	for _, name := range names {
		if strings.EqualFold(name, host) {
			return true
		}
		short, _, dotted := strings.Cut(name, ".")
		if dotted && strings.EqualFold(short, host) {
			return true
		}
	}
	return false
}
