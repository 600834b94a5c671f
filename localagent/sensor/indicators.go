package sensor

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/yamltree"
)

// maxIndicatorFile bounds a list of addresses.
const maxIndicatorFile = 64 << 20

// ParseIndicators reads a list of at most 64 MiB: one address or prefix a line, such as 203.0.113.7 or 2001:db8::/32; # begins a comment.
// name is how errors call it; they say line and column and end after the first dozens.
func ParseIndicators(name string, data []byte) ([]netip.Prefix, error) {
	if len(data) > maxIndicatorFile {
		return nil, fmt.Errorf("%s: the list is larger than %d bytes", name, maxIndicatorFile)
	}
	var list []netip.Prefix
	var errs []error
	line := 0
	for raw := range bytes.Lines(data) {
		line++
		text, _, _ := strings.Cut(strings.TrimRight(string(raw), "\r\n"), "#")
		word := strings.TrimSpace(text)
		if word == "" {
			continue
		}
		p, err := parseIndicator(word)
		if err == nil {
			err = checkIndicator(p)
		}
		if err == nil && len(list) >= maxIndicators {
			return nil, fmt.Errorf("%s:%d:1: more than %d addresses", name, line, maxIndicators)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d:%d: %w", name, line, strings.Index(text, word)+1, err))
			if len(errs) == yamltree.MaxProblems {
				break
			}
			continue
		}
		list = append(list, p)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return list, nil
}

func parseIndicator(word string) (netip.Prefix, error) {
	if !strings.Contains(word, "/") {
		a, err := netip.ParseAddr(word)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%.60q is no address or prefix", word)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%.60q is no address or prefix", word)
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%.60q: write it as an IPv4 prefix", word)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%.60q has bits behind its length: %s is meant, or one address", word, p.Masked())
	}
	return p, nil
}

// checkIndicator refuses what would match this machine talking to itself, or everything.
func checkIndicator(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("an entry is no address or prefix")
	case p.Bits() == 0:
		return fmt.Errorf("%s means every address", p)
	case p.Addr().IsLoopback(), p.Addr().IsUnspecified():
		return fmt.Errorf("%s is this machine itself", p)
	default:
		return nil
	}
}

// indicators finds the listed prefix an address is in.
type indicators struct {
	prefixes map[netip.Prefix]bool
	// bits4 and bits6 are the lengths there are, the longest first.
	bits4, bits6 []int
}

func newIndicators(list []netip.Prefix) *indicators {
	in := &indicators{prefixes: make(map[netip.Prefix]bool, len(list))}
	for _, p := range list {
		bits := &in.bits6
		if p.Addr().Unmap().Is4() {
			bits = &in.bits4
		}
		in.prefixes[p.Masked()] = true
		if !slices.Contains(*bits, p.Bits()) {
			*bits = append(*bits, p.Bits())
		}
	}
	for _, bits := range []*[]int{&in.bits4, &in.bits6} {
		slices.Sort(*bits)
		slices.Reverse(*bits)
	}
	return in
}

func (in *indicators) find(a netip.Addr) (netip.Prefix, bool) {
	a = a.Unmap().WithZone("")
	bits := in.bits6
	if a.Is4() {
		bits = in.bits4
	}
	for _, b := range bits {
		if p, err := a.Prefix(b); err == nil && in.prefixes[p] {
			return p, true
		}
	}
	return netip.Prefix{}, false
}
