package firewall

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// leakWait bounds the try to reach a foreign address: the filter answers at once.
	leakWait = 500 * time.Millisecond
	// leakPort is discard (RFC 863): nobody listens there.
	leakPort = "9"
)

// foreign are addresses that belong to nobody (RFC 5737, RFC 3849, RFC 6666), by family.
func foreign() [][]string {
	return [][]string{{"192.0.2.1", "198.51.100.77", "203.0.113.1"}, {"2001:db8:ffff::1", "100::1"}}
}

// leaks tries to reach an address of each family that is no peer, and returns the one that was not refused at once: then
// packets left this machine, whether or not anybody answered.
func leaks(ctx context.Context, passes []pass) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, leakWait)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		leak netip.Addr
	)
	for _, family := range foreign() {
		i := slices.IndexFunc(family, func(s string) bool {
			addr := netip.MustParseAddr(s)
			return !slices.ContainsFunc(passes, func(p pass) bool { return p.prefix.Contains(addr) })
		})
		if i < 0 {
			// The settings keep even these: what is foreign then cannot be known.
			continue
		}
		wg.Go(func() {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(family[i], leakPort))
			if err == nil {
				_ = c.Close()
			} else if refusedHere(err) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			leak = netip.MustParseAddr(family[i])
		})
	}
	wg.Wait()
	return leak, nil
}

// refusedHere reports whether this machine itself would not send: by the filter, or because no way leads there.
func refusedHere(err error) bool {
	return slices.ContainsFunc([]error{
		unix.ECONNREFUSED, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT, unix.EPERM, unix.EACCES, unix.EINVAL,
	}, func(e error) bool { return errors.Is(err, e) })
}
