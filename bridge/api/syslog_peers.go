package api

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/time/rate"
)

var (
	errSyslogConns     = errors.New("there are max_conns connections")
	errSyslogPeerConns = errors.New("the address has max_conns_peer connections")
	errSyslogPeer      = errors.New("the address is not among the peers")
)

// syslogPeers counts connections and bounds the rate of each address.
type syslogPeers struct {
	allowed   []netip.Prefix
	most      int
	mostEach  int
	perSecond float64

	mu    sync.Mutex // guards known and open
	known map[netip.Addr]*syslogPeerState
	open  int
}

type syslogPeerState struct {
	conns int
	rate  *rate.Limiter // nil = no limit
}

func newSyslogPeers(cfg SyslogConfig) *syslogPeers {
	return &syslogPeers{
		allowed: cfg.Peers, most: cfg.MaxConns, mostEach: cfg.MaxPeerConns, perSecond: cfg.Rate, known: map[netip.Addr]*syslogPeerState{},
	}
}

// syslogPeerOf is the address as the limits know it: whoever has an IPv6 address usually has its /64.
func syslogPeerOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// enter lets a connection in, or says why not. leave must follow.
func (p *syslogPeers) enter(addr netip.Addr) (limit *rate.Limiter, reason syslogReason, err error) {
	addr = addr.Unmap().WithZone("")
	if len(p.allowed) > 0 && !slices.ContainsFunc(p.allowed, func(n netip.Prefix) bool { return syslogPrefixHas(n, addr) }) {
		return nil, syslogPeer, errSyslogPeer
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= p.most {
		return nil, syslogFull, errSyslogConns
	}
	key := syslogPeerOf(addr)
	state := p.known[key]
	if state == nil {
		p.forget()
		state = &syslogPeerState{}
		if p.perSecond > 0 {
			state.rate = rate.NewLimiter(rate.Limit(p.perSecond), p.burst())
		}
		p.known[key] = state
	}
	if state.conns >= p.mostEach && !addr.IsLoopback() {
		return nil, syslogFull, errSyslogPeerConns
	}
	state.conns++
	p.open++
	return state.rate, "", nil
}

// syslogPrefixHas also understands a prefix that is written as an IPv4 one inside IPv6, ::ffff:10.0.0.0/104.
func syslogPrefixHas(n netip.Prefix, addr netip.Addr) bool {
	if n.Addr().Is4In6() && n.Bits() >= 96 {
		n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
	}
	return n.Contains(addr)
}

func (p *syslogPeers) burst() int { return max(1, int(math.Ceil(p.perSecond))) }

func (p *syslogPeers) leave(addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	key := syslogPeerOf(addr)
	state := p.known[key]
	state.conns--
	if state.conns == 0 && p.rested(state) {
		delete(p.known, key)
	}
}

// rested reports whether forgetting the peer would give it nothing.
func (p *syslogPeers) rested(s *syslogPeerState) bool {
	return s.rate == nil || s.rate.Tokens() >= float64(p.burst())
}

// forget makes room where too many peers have gone: those that have rested, or else any one.
func (p *syslogPeers) forget() {
	most := 2*p.most + 1
	for _, whom := range []func(*syslogPeerState) bool{p.rested, func(*syslogPeerState) bool { return true }} {
		for key, s := range p.known {
			if len(p.known) < most {
				return
			}
			if s.conns == 0 && whom(s) {
				delete(p.known, key)
			}
		}
	}
}

func (p *syslogPeers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}
