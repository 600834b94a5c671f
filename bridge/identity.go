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
	// Addresses are those of its own interfaces.
	Addresses []netip.Addr
}

// Is reports whether host names this machine: one of its names (any case, an FQDN also by its first label)
// or one of its addresses, whatever KSC profile it is addressed with. Loopback names are nobody's identity, because every machine has them.
func (id Identity) Is(host string) bool {
	if host == "" {
		return false
	}
	host, _ = SplitHost(host)
	if a, err := netip.ParseAddr(host); err == nil {
		return !a.IsLoopback() && slices.Contains(id.Addresses, a.Unmap())
	}
	for _, name := range id.Names {
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
