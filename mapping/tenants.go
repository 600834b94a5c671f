package mapping

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// routing says which KSC server the hosts of an alert are looked for on; nil = there is one.
type routing struct {
	profiles []string
	tenants  map[string]string
}

func newRouting(profiles []string, tenants map[string]string) (*routing, error) {
	if profiles == nil {
		if len(tenants) > 0 {
			return nil, errors.New("tenants: there are no profiles for them: ksc has one server")
		}
		return nil, nil
	}
	r := &routing{profiles: slices.Clone(profiles), tenants: maps.Clone(tenants)}
	var errs []error
	for _, p := range r.profiles {
		if !isRuleName(p) {
			errs = append(errs, fmt.Errorf("ksc: profile %q must be 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first", p))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.tenants)) {
		if err := r.known(r.tenants[id]); err != nil {
			errs = append(errs, fmt.Errorf("tenants.%s: %w", id, err))
		}
	}
	return r, errors.Join(errs...)
}

func (r *routing) known(profile string) error {
	if slices.Contains(r.profiles, profile) {
		return nil
	}
	return fmt.Errorf("unknown profile %q%s", profile, bridge.DidYouMean(profile, r.profiles))
}

// check judges the profile of a source, which may be empty.
func (r *routing) check(source, profile string) error {
	if profile == "" {
		return nil
	}
	if err := r.known(profile); err != nil {
		return fmt.Errorf("sources.%s.profile: %w", source, err)
	}
	return nil
}

// hostSeparator stands between host and profile in Order.Host; no checked host holds it.
const hostSeparator = "@"

// address returns the host of an order as executors know it, or why the source may not act on it.
func (s *source) address(host, tenant, name string) (string, bridge.Reason, error) {
	if s.Hosts != nil && !slices.ContainsFunc(s.hosts, func(p hostPattern) bool { return p.fits(host) }) {
		return host, bridge.ReasonSource, fmt.Errorf("sources.%s.hosts does not allow %s", name, host)
	}
	switch {
	case s.routing == nil:
		return host, bridge.ReasonNone, nil
	case tenant != "":
		profile, ok := s.routing.tenants[tenant]
		if !ok {
			return host, bridge.ReasonTenant, fmt.Errorf("tenant %s has no KSC profile: add it to tenants", excerpt([]byte(tenant)))
		}
		return host + hostSeparator + profile, bridge.ReasonNone, nil
	case s.Profile != "":
		return host + hostSeparator + s.Profile, bridge.ReasonNone, nil
	default:
		return host, bridge.ReasonTenant, fmt.Errorf("the alert names no tenant: set sources.%s.profile, or let the product send the tenant (tenants)", name)
	}
}

// hostPattern is one entry of the hosts a source may act on.
type hostPattern struct {
	prefix netip.Prefix
	glob   *glob
	// dotless patterns are also asked about the first label of a domain name.
	dotless bool
}

func newHostPattern(text string) (hostPattern, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		if prefix != prefix.Masked() {
			return hostPattern{}, fmt.Errorf("%q has address bits behind the mask: write %s", text, prefix.Masked())
		}
		return hostPattern{prefix: prefix}, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return hostPattern{prefix: netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	plain := strings.NewReplacer("*", "a", "?", "a").Replace(text)
	if err := checkHost(plain); err != nil {
		return hostPattern{}, fmt.Errorf("%q is neither a host name, nor an address, nor a prefix like 10.0.5.0/24 (wildcards are * and ?)", text)
	}
	name := strings.TrimSuffix(strings.ToLower(text), ".")
	return hostPattern{glob: newGlob(name), dotless: !strings.Contains(name, ".")}, nil
}

// fits reports whether the pattern takes a checked host.
func (p hostPattern) fits(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		return p.prefix.IsValid() && p.prefix.Contains(addr) || p.glob != nil && p.glob.fits(addr.String())
	}
	if p.glob == nil {
		return false
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	label, _, _ := strings.Cut(name, ".")
	return p.glob.fits(name) || p.dotless && p.glob.fits(label)
}
