package firewall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// resolveWait bounds how long an isolation waits for the addresses of its peers.
	resolveWait = 3 * time.Second
	// resolveAtOnce bounds the names that are asked for at the same time.
	resolveAtOnce = 16
	// maxAddresses bounds the addresses one name may stand for.
	maxAddresses = 64
	// keepAddress is how long an address goes on being kept after its name stopped standing for it: answers rotate.
	keepAddress = 15 * time.Minute
	// freshNames is how long an answer does for a block; an isolation always asks anew.
	freshNames = 5 * time.Minute
)

// names remembers which addresses the peers' names stood for.
type names struct {
	mu sync.Mutex
	// seen is when a name was last seen to stand for an address.
	seen map[string]map[netip.Addr]time.Time
	// asked is when all names were last asked for.
	asked time.Time
}

// learn adds what a name stands for and forgets what it has not stood for in a while.
func (n *names) learn(host string, addrs []netip.Addr, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = make(map[string]map[netip.Addr]time.Time)
	}
	known := n.seen[host]
	if known == nil {
		known = make(map[netip.Addr]time.Time)
		n.seen[host] = known
	}
	for _, a := range addrs {
		a = a.WithZone("").Unmap()
		if isHost(a) {
			known[a] = now
		}
	}
	if len(addrs) > 0 {
		maps.DeleteFunc(known, func(_ netip.Addr, last time.Time) bool { return now.Sub(last) > keepAddress })
	}
	if len(known) > maxAddresses {
		// What was answered last counts; of one long answer the same ones each time.
		latest := slices.SortedFunc(maps.Keys(known), func(a, b netip.Addr) int { return cmp.Or(known[b].Compare(known[a]), a.Compare(b)) })
		for _, a := range latest[maxAddresses:] {
			delete(known, a)
		}
	}
}

// isHost reports whether an address can be that of one machine.
func isHost(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// of returns the addresses of a name in order.
func (n *names) of(host string) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Keys(n.seen[host]), netip.Addr.Compare)
}

// all returns every name with its addresses, for the record.
func (n *names) all() map[string][]netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string][]netip.Addr, len(n.seen))
	for host, addrs := range n.seen {
		out[host] = slices.SortedFunc(maps.Keys(addrs), netip.Addr.Compare)
	}
	return out
}

// resolve asks for the names of all peers at once. What cannot be resolved keeps the addresses it had; a name
// without any is returned with the reason.
func (w *Firewall) resolve(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		missing = make(map[string]error)
		slots   = make(chan struct{}, resolveAtOnce)
		asked   = make(map[string]bool)
	)
	for _, p := range w.peers {
		if p.prefix.IsValid() || asked[p.host] {
			continue
		}
		asked[p.host] = true
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			addrs, err := w.cfg.Resolve(ctx, p.host)
			if err == nil && len(addrs) == 0 {
				err = errors.New("the name has no address")
			}
			w.names.learn(p.host, addrs, w.cfg.Now())
			if err != nil && len(w.names.of(p.host)) == 0 {
				mu.Lock()
				defer mu.Unlock()
				missing[p.host] = err
			}
		})
	}
	wg.Wait()
	if len(missing) == 0 {
		w.names.mu.Lock()
		w.names.asked = w.cfg.Now()
		w.names.mu.Unlock()
	}
	return missing
}

// addresses returns where a peer is to be found, as far as is known.
func (w *Firewall) addresses(p peer) []netip.Prefix {
	if p.prefix.IsValid() {
		return []netip.Prefix{p.prefix}
	}
	var out []netip.Prefix
	for _, a := range w.names.of(p.host) {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// passes returns what an isolation lets through: the peers as far as their addresses are known, and these name servers.
func (w *Firewall) passes(servers []netip.Addr) []pass {
	var out []pass
	for _, p := range w.peers {
		for _, prefix := range w.addresses(p) {
			out = append(out, pass{prefix, p.ports, p.protocol, p.direction})
		}
	}
	for _, s := range servers {
		prefix := netip.PrefixFrom(s, s.BitLen())
		out = append(
			out,
			pass{prefix, []portRange{{53, 53}}, ProtocolAny, DirectionOut},
			// DNS over TLS (RFC 7858).
			pass{prefix, []portRange{{853, 853}}, ProtocolTCP, DirectionOut},
		)
	}
	return out
}

// nameServers returns the servers an isolation keeps: those in use when it begins. Whoever changes the list later does not
// open a way out.
func (w *Firewall) nameServers() ([]netip.Addr, error) {
	if w.cfg.NoDNS {
		return nil, nil
	}
	servers, err := serversInUse()
	if err != nil {
		return nil, fmt.Errorf("name servers: %w", err)
	}
	return servers, nil
}

// kept returns the peers as networks no block may touch. A needed peer whose name has no address is an error.
func (w *Firewall) kept(ctx context.Context) ([]taboo, error) {
	w.names.mu.Lock()
	stale := w.cfg.Now().Sub(w.names.asked) > freshNames
	w.names.mu.Unlock()
	var missing map[string]error
	if stale {
		missing = w.resolve(ctx)
	}
	var out []taboo
	for _, p := range w.peers {
		if err := missing[p.host]; err != nil && p.need {
			return nil, fmt.Errorf("find the address of %s: %w", p.text(), err)
		}
		why := "is a peer the settings keep"
		if p.why != "" {
			why = "is " + p.text()
		}
		for _, prefix := range w.addresses(p) {
			out = append(out, taboo{prefix, why})
		}
	}
	return out, nil
}
