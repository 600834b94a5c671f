package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const maxHostLength = 253 // characters, the longest domain name (RFC 1035 §2.3.4 without the root)

// hostError says why a text names no endpoint.
type hostError struct {
	reason bridge.Reason
	what   string
}

func (e *hostError) Error() string { return e.what }

// checkHost refuses what cannot be the name of one other machine: wildcards and everything a search filter
// could read, loopback names and addresses, and numbers that some resolvers take for an address
// (127.1, 0x7f000001; inet_aton(3)). What is left is a domain or NetBIOS name, a GUID or an address.
func checkHost(host string) error {
	invalid := func(format string, args ...any) error {
		return &hostError{bridge.ReasonInvalid, fmt.Sprintf(format, args...)}
	}
	switch {
	case host == "":
		return &hostError{bridge.ReasonNoHost, "the host is empty"}
	case utf8.RuneCountInString(host) > maxHostLength:
		return invalid("the host is longer than %d characters", maxHostLength)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		if addr.Zone() != "" || addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() {
			return invalid("%s is not the address of one machine", addr)
		}
		return nil
	}
	for _, c := range host {
		if !unicode.In(c, unicode.L, unicode.M) && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return invalid("the host %s holds %q: want a name, a GUID or an address", excerpt([]byte(host)), c)
		}
	}
	bare := strings.ToLower(strings.TrimSuffix(host, "."))
	last := bare[strings.LastIndexByte(bare, '.')+1:]
	switch {
	case host[0] == '-':
		return invalid("the host %s begins with a dash, as options do", excerpt([]byte(host)))
	case last == "" || strings.Contains(bare, ".."):
		return invalid("the host %s has an empty part", excerpt([]byte(host)))
	case last == "localhost", last == "localdomain", bare == "ip6-localhost", bare == "ip6-loopback":
		return invalid("the host %s is every machine's own name", excerpt([]byte(host)))
	case isNumber(last):
		return invalid("the host %s is neither a name nor an address", excerpt([]byte(host)))
	}
	return nil
}

// isNumber reports whether a last label makes resolvers read the whole name as an address.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// hostReason returns the closed word for an error of checkHost.
func hostReason(err error) bridge.Reason {
	if he, ok := errors.AsType[*hostError](err); ok {
		return he.reason
	}
	return bridge.ReasonInvalid
}
