package ksc

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxCandidates = 10 // hosts named in the refusal of an ambiguous name
	maxMatches    = 50 // hosts read for one name
)

// HostMatch is a host that answers to a name.
type HostMatch struct {
	Host
	// By is the attribute that matched: id, fqdn, netbios, dns, display or address.
	By string
}

// Names lists every name and address of the host but its id, without repetition.
func (h Host) Names() []string {
	all := []string{h.FQDN, h.NetBIOSName, h.DNSName, "", h.DisplayName, ""}
	if h.DNSName != "" && h.DNSDomain != "" {
		all[3] = h.DNSName + "." + h.DNSDomain
	}
	if a := h.Address(); a.IsValid() {
		all[5] = a.String()
	}
	names := make([]string, 0, len(all))
	for _, n := range all {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// Address returns the IPv4 address, or the zero Addr when the server knows none.
func (h Host) Address() netip.Addr {
	if h.IP == 0 || int64(h.IP) < -1<<31 || int64(h.IP) >= 1<<32 {
		return netip.Addr{}
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(int64(h.IP)&0xffffffff))
	return netip.AddrFrom4(b)
}

// label is the host in words for people.
func (h Host) label() string {
	name := h.ID
	if names := h.Names(); len(names) > 0 {
		name = names[0]
	}
	return excerpt([]byte(name), maxName) + " (" + excerpt([]byte(h.ID), maxName) + ")"
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// refusal is why an order cannot be carried out as it is.
type refusal struct {
	reason bridge.Reason
	text   string
}

func (e *refusal) Error() string { return e.text }

// lookup returns the hosts that answer to host, which is an id, an IPv4 address or a name. An FQDN is exact and wins; a short
// name that is one host's NetBIOS name and another's display name yields both.
func (c *Client) lookup(ctx context.Context, host string) ([]HostMatch, error) {
	if host == "" {
		return nil, &refusal{bridge.ReasonNoHost, "no host is named"}
	}
	if guid.MatchString(host) {
		return c.lookupID(ctx, host)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return c.lookupAddress(ctx, ip)
	}
	name := Text(host)
	if name.err != nil {
		return nil, &refusal{bridge.ReasonInvalid, "host name: " + name.err.Error()}
	}
	hosts, err := c.findHosts(ctx, Or(
		Eq("KLHST_WKS_FQDN", name), Eq("KLHST_WKS_WINHOSTNAME", name), Eq("KLHST_WKS_DNSNAME", name), Eq("KLHST_WKS_DN", name)))
	if err != nil {
		return nil, err
	}
	var exact, matches []HostMatch
	for _, h := range hosts {
		m := HostMatch{Host: h, By: h.attribute(host)}
		switch m.By {
		case "fqdn":
			exact = append(exact, m)
		case "":
			continue // the server compares by rules of its own; a host we cannot recognise is not acted on
		}
		matches = append(matches, m)
	}
	if len(exact) > 0 {
		return exact, nil
	}
	return matches, nil
}

// attribute returns which attribute of the host is the name, in the order of their worth.
func (h Host) attribute(name string) string {
	for _, a := range []struct{ by, value string }{
		{"fqdn", h.FQDN}, {"netbios", h.NetBIOSName}, {"dns", h.DNSName}, {"display", h.DisplayName},
	} {
		if strings.EqualFold(a.value, name) {
			return a.by
		}
	}
	return ""
}

func (c *Client) lookupID(ctx context.Context, id string) ([]HostMatch, error) {
	h, err := c.GetHostInfo(ctx, id)
	if vendor, ok := errors.AsType[*Error](err); ok {
		return nil, &refusal{bridge.ReasonHostNotFound, fmt.Sprintf("host %s: %v", id, vendor)}
	}
	if err != nil {
		return nil, err
	}
	if h.ID == "" {
		h.ID = id
	}
	if !strings.EqualFold(h.ID, id) {
		return nil, &refusal{bridge.ReasonHostAmbiguous, fmt.Sprintf("host %s: the server answered with %s", id, h.label())}
	}
	return []HostMatch{{h, "id"}}, nil
}

// lookupAddress searches by KLHST_WKS_IP_LONG. Whether the server keeps addresses from 128.0.0.0 on as negative numbers
// is not documented, so both forms are asked for.
func (c *Client) lookupAddress(ctx context.Context, ip netip.Addr) ([]HostMatch, error) {
	ip = ip.Unmap()
	if !ip.Is4() {
		return nil, &refusal{bridge.ReasonHostNotFound, fmt.Sprintf("KSC cannot be searched by the IPv6 address %s: give the name or id of the host", ip)}
	}
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() {
		return nil, &refusal{bridge.ReasonInvalid, fmt.Sprintf("%s is no host's address", ip)}
	}
	b := ip.As4()
	n := int64(binary.LittleEndian.Uint32(b[:]))
	f := Eq("KLHST_WKS_IP_LONG", Number(n))
	if n >= 1<<31 {
		f = Or(f, Eq("KLHST_WKS_IP_LONG", Number(n-1<<32)))
	}
	hosts, err := c.findHosts(ctx, f)
	if err != nil {
		return nil, err
	}
	var matches []HostMatch
	for _, h := range hosts {
		if h.Address() == ip {
			matches = append(matches, HostMatch{h, "address"})
		}
	}
	return matches, nil
}

func (c *Client) findHosts(ctx context.Context, f Filter) ([]Host, error) {
	got, err := c.collect(ctx, maxMatches, func(ctx context.Context) (ResultSet, error) { return c.FindHosts(ctx, f) })
	if err != nil {
		return nil, err
	}
	hosts := make([]Host, 0, len(got.items))
	for _, raw := range got.items {
		var h Host
		if err := json.Unmarshal(raw, &h); err != nil || h.ID == "" {
			return nil, unreadableAnswer(methodGetItemsChunk, &answerError{"host has an unexpected form", raw}, nil)
		}
		if !slices.ContainsFunc(hosts, func(o Host) bool { return o.ID == h.ID }) {
			hosts = append(hosts, h)
		}
	}
	return hosts, nil
}

// single returns the one match, or refuses: never is the first of several acted on.
func single(host string, matches []HostMatch) (Host, error) {
	switch len(matches) {
	case 0:
		return Host{}, &refusal{bridge.ReasonHostNotFound, fmt.Sprintf("KSC knows no host %q: give its FQDN, NetBIOS name, display name, IPv4 address or id", host)}
	case 1:
		return matches[0].Host, nil
	default:
		labels := make([]string, 0, maxCandidates)
		for _, m := range matches[:min(len(matches), maxCandidates)] {
			labels = append(labels, m.label())
		}
		text := fmt.Sprintf("%d hosts answer to %q, name one by its id: %s", len(matches), host, strings.Join(labels, ", "))
		if len(matches) > maxCandidates {
			text += " …"
		}
		return Host{}, &refusal{bridge.ReasonHostAmbiguous, text}
	}
}
