package firewall

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// beforeWait bounds the search for peers that can be reached, which an intruder uses as well; a peer in the next town answers in
	// a tenth of it.
	beforeWait = time.Second
	// afterWait bounds the search for the same peers after the cut: a first packet that got lost comes again after 1 s (RFC 6298).
	afterWait = 2500 * time.Millisecond
	// reachAtOnce bounds the connections tried at the same time.
	reachAtOnce = 64
	// reachAddresses and reachPorts bound what is tried of one peer.
	reachAddresses, reachPorts = 4, 6
)

// candidates returns where a needed peer may be listening. Peers that begin themselves, networks and UDP cannot be asked.
func (w *Firewall) candidates(p peer) []netip.AddrPort {
	if !p.need || p.direction == DirectionIn || p.protocol == ProtocolUDP || len(p.ports) == 0 {
		return nil
	}
	var ports []uint16
	for _, r := range p.ports {
		for _, port := range []uint16{r.first, r.last} {
			if !slices.Contains(ports, port) && len(ports) < reachPorts {
				ports = append(ports, port)
			}
		}
	}
	var out []netip.AddrPort
	for i, prefix := range w.addresses(p) {
		if !prefix.IsSingleIP() || i == reachAddresses {
			break
		}
		for _, port := range ports {
			out = append(out, netip.AddrPortFrom(prefix.Addr(), port))
		}
	}
	return out
}

// reached is which of a needed peer's doors were open, by its place among the peers.
type reached map[int][]netip.AddrPort

// baseline finds out which needed peers can be reached, and returns as well the names of those that cannot.
func (w *Firewall) baseline(ctx context.Context) (reached, []string) {
	var all []netip.AddrPort
	for _, p := range w.peers {
		all = append(all, w.candidates(p)...)
	}
	open := connects(ctx, beforeWait, all)
	out := make(reached)
	var dark []string
	for i, p := range w.peers {
		doors := w.candidates(p)
		if len(doors) == 0 {
			continue
		}
		if out[i] = slices.DeleteFunc(doors, func(a netip.AddrPort) bool { return !open[a] }); len(out[i]) == 0 {
			delete(out, i)
			dark = append(dark, p.text())
		}
	}
	return out, dark
}

// lost returns the needed peers none of whose doors is open any more.
func (w *Firewall) lost(ctx context.Context, before reached) []string {
	var all []netip.AddrPort
	for _, doors := range before {
		all = append(all, doors...)
	}
	open := connects(ctx, afterWait, all)
	var out []string
	for i, doors := range before {
		if !slices.ContainsFunc(doors, func(a netip.AddrPort) bool { return open[a] }) {
			out = append(out, w.peers[i].text())
		}
	}
	slices.Sort(out)
	return out
}

// connects tries all addresses at once and returns those that took a TCP connection.
func connects(ctx context.Context, wait time.Duration, addrs []netip.AddrPort) map[netip.AddrPort]bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		open  = make(map[netip.AddrPort]bool)
		asked = make(map[netip.AddrPort]bool)
		slots = make(chan struct{}, reachAtOnce)
	)
	for _, a := range addrs {
		if asked[a] {
			continue
		}
		asked[a] = true
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", a.String())
			if err != nil {
				return
			}
			_ = c.Close()
			mu.Lock()
			defer mu.Unlock()
			open[a] = true
		})
	}
	wg.Wait()
	return open
}
