package firewall

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tailscale/wf"
	"golang.org/x/sys/windows"
)

// Weights of filters inside a sublayer: what passes stands before what is blocked.
const (
	weightBlock, weightPass = 0, 1
)

// Ports and types of what always passes an isolation.
const (
	portDHCPServer, portDHCPClient       = 67, 68
	portDHCPv6Client, portDHCPv6Server   = 546, 547
	portNTP                              = 123
	icmpRouterSolicitation, icmpNeighbor = 133, 136
)

// tag is what every filter of ours carries: it says by itself what it belongs to and when it ends, so that there is no file
// that could be lost or disagree with it.
type tag struct {
	// Batch is the same in all filters that were made together, Filters their number.
	Batch   string `json:"batch"`
	Filters int    `json:"filters"`
	// Block is the address a block is about; none = the filter belongs to an isolation.
	Block netip.Prefix `json:"block,omitzero"`
	// Since and Until are seconds since 1970 UTC; Until is 0 for what ends by an order only.
	Since int64 `json:"since"`
	Until int64 `json:"until,omitempty"`
}

func (t *tag) since() time.Time { return time.Unix(t.Since, 0).UTC() }

// left returns how long the filter goes on, at most what it was made for however the clock was turned; forever says that it has no end.
func (t *tag) left(now time.Time) (left time.Duration, forever bool) {
	if t.Until == 0 {
		return 0, true
	}
	until := time.Unix(t.Until, 0)
	return min(until.Sub(now), until.Sub(t.since())), false
}

// filter is a filter that was read back, with its tag.
type filter struct {
	*wf.Rule
	tag tag
}

// readFilters returns our filters. One whose tag cannot be read is an error: it would stay for ever.
func readFilters(e engine) ([]filter, error) {
	rules, err := e.filters()
	if err != nil {
		return nil, err
	}
	out := make([]filter, 0, len(rules))
	for _, r := range rules {
		f := filter{Rule: r}
		if err := json.Unmarshal(r.ProviderData, &f.tag); err != nil {
			return nil, fmt.Errorf("filter %s holds no record of ours: %w", windows.GUID(r.ID), err)
		}
		out = append(out, f)
	}
	return out, nil
}

// family is IPv4 or IPv6 in the words of the filtering platform.
type family struct {
	v6                       bool
	connect, accept, forward wf.LayerID
}

func families() []family {
	return []family{
		{false, wf.LayerALEAuthConnectV4, wf.LayerALEAuthRecvAcceptV4, wf.LayerIPForwardV4},
		{true, wf.LayerALEAuthConnectV6, wf.LayerALEAuthRecvAcceptV6, wf.LayerIPForwardV6},
	}
}

func familyOf(a netip.Addr) family { return families()[bit(a.Is6())] }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// builder collects the filters of a batch.
type builder struct {
	sublayer wf.SublayerID
	name     string
	out      []*wf.Rule
}

func (b *builder) put(layer wf.LayerID, action wf.Action, conditions ...*wf.Match) {
	weight := uint64(weightPass)
	if action == wf.ActionBlock {
		weight = weightBlock
	}
	b.out = append(b.out, &wf.Rule{
		Name: b.name, Layer: layer, Sublayer: b.sublayer, Provider: ourProvider(), Persistent: true, Weight: weight, Conditions: conditions,
		Action: action,
		// A permit of ours stays soft: the Windows firewall may still refuse what an isolation lets through. A block is final.
		HardAction: action == wf.ActionBlock,
	})
}

// isolationFilters is what an isolation is made of: what passes, and then nothing else in either direction or through this machine.
func isolationFilters(passes []pass, dhcp, ntp bool) []*wf.Rule {
	b := &builder{sublayer: isolationSublayer(), name: "edr-bridge isolation"}
	for _, f := range families() {
		for _, layer := range []wf.LayerID{f.connect, f.accept} {
			b.put(layer, wf.ActionPermit, &wf.Match{Field: wf.FieldFlags, Op: wf.MatchTypeFlagsAllSet, Value: uint32(wf.ConditionFlagIsLoopback)})
			if dhcp {
				client, server := uint16(portDHCPClient), uint16(portDHCPServer)
				if f.v6 {
					client, server = portDHCPv6Client, portDHCPv6Server
				}
				b.put(layer, wf.ActionPermit, protocol(wf.IPProtoUDP), port(wf.FieldIPLocalPort, portRange{client, client}), port(wf.FieldIPRemotePort, portRange{server, server}))
			}
			if f.v6 {
				// The type of an ICMP message stands where the local port does (FWPM_CONDITION_ICMP_TYPE in fwpmu.h).
				b.put(layer, wf.ActionPermit, protocol(wf.IPProtoICMPV6), port(wf.FieldIPLocalPort, portRange{icmpRouterSolicitation, icmpNeighbor}))
			}
		}
		if ntp {
			b.put(f.connect, wf.ActionPermit, protocol(wf.IPProtoUDP), port(wf.FieldIPRemotePort, portRange{portNTP, portNTP}))
		}
	}
	for _, p := range passes {
		f := familyOf(p.prefix.Addr())
		if p.outbound() {
			b.put(f.connect, wf.ActionPermit, p.conditions(wf.FieldIPRemotePort)...)
		}
		if p.inbound() {
			b.put(f.accept, wf.ActionPermit, p.conditions(wf.FieldIPLocalPort)...)
		}
	}
	for _, f := range families() {
		b.put(f.connect, wf.ActionBlock)
		b.put(f.accept, wf.ActionBlock)
		b.put(f.forward, wf.ActionBlock)
	}
	return b.out
}

// blockFilters is what a blocked address is made of.
func blockFilters(p netip.Prefix) []*wf.Rule {
	b := &builder{sublayer: blockSublayer(), name: "edr-bridge block of " + targetText(p)}
	f := familyOf(p.Addr())
	b.put(f.connect, wf.ActionBlock, remote(p))
	b.put(f.accept, wf.ActionBlock, remote(p))
	return b.out
}

// conditions are those of a peer. Several conditions on one field mean any of them, those on different fields all
// (learn.microsoft.com/windows/win32/api/fwpmtypes/ns-fwpmtypes-fwpm_filter0).
func (p pass) conditions(ports wf.FieldID) []*wf.Match {
	out := []*wf.Match{remote(p.prefix)}
	switch {
	case p.protocol == ProtocolTCP:
		out = append(out, protocol(wf.IPProtoTCP))
	case p.protocol == ProtocolUDP:
		out = append(out, protocol(wf.IPProtoUDP))
	case len(p.ports) > 0:
		out = append(out, protocol(wf.IPProtoTCP), protocol(wf.IPProtoUDP))
	}
	for _, r := range p.ports {
		out = append(out, port(ports, r))
	}
	return out
}

func remote(p netip.Prefix) *wf.Match {
	if p.IsSingleIP() {
		return &wf.Match{Field: wf.FieldIPRemoteAddress, Op: wf.MatchTypeEqual, Value: p.Addr()}
	}
	return &wf.Match{Field: wf.FieldIPRemoteAddress, Op: wf.MatchTypeEqual, Value: p}
}

func protocol(p wf.IPProto) *wf.Match {
	return &wf.Match{Field: wf.FieldIPProtocol, Op: wf.MatchTypeEqual, Value: uint8(p)}
}

func port(field wf.FieldID, r portRange) *wf.Match {
	if r.first == r.last {
		return &wf.Match{Field: field, Op: wf.MatchTypeEqual, Value: r.first}
	}
	return &wf.Match{Field: field, Op: wf.MatchTypeRange, Value: wf.Range{From: r.first, To: r.last}}
}

// sign gives the filters of a batch their keys and the tag.
func sign(rules []*wf.Rule, t tag) error {
	batch, err := windows.GenerateGUID()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	t.Batch, t.Filters = batch.String(), len(rules)
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode the end of the filters: %w", err)
	}
	if len(data) > maxTag {
		return fmt.Errorf("the record of the filters has %d bytes, %d fit in", len(data), maxTag)
	}
	for _, r := range rules {
		id, err := windows.GenerateGUID()
		if err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
		r.ID, r.ProviderData = wf.RuleID(id), data
	}
	return nil
}

// differs says how what was read back is not what was asked for; nil = it is.
func differs(want []*wf.Rule, got []filter) error {
	byID := make(map[wf.RuleID]filter, len(got))
	for _, f := range got {
		byID[f.ID] = f
	}
	for _, w := range want {
		g, there := byID[w.ID]
		switch {
		case !there:
			return errors.New("a filter is missing")
		case g.Disabled:
			return errors.New("a filter is disabled")
		case g.Layer != w.Layer || g.Sublayer != w.Sublayer || g.Action != w.Action || g.HardAction != w.HardAction || g.Persistent != w.Persistent:
			return errors.New("a filter has another layer, action or life than it was given")
		case !sameConditions(w.Conditions, g.Conditions):
			return errors.New("a filter has other conditions than it was given")
		}
	}
	return nil
}

// sameConditions compares without order: it means nothing to the platform.
func sameConditions(a, b []*wf.Match) bool { return slices.Equal(conditionTexts(a), conditionTexts(b)) }

func conditionTexts(ms []*wf.Match) []string {
	out := make([]string, 0, len(ms))
	for _, m := range ms {
		v := m.Value
		if a, ok := v.(netip.Addr); ok {
			v = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, fmt.Sprintf("%s %d %T %v", windows.GUID(m.Field), m.Op, v, v))
	}
	slices.Sort(out)
	return out
}
