//go:build !linux && !windows

package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// errNoIsolation says where isolations work.
var errNoIsolation = fmt.Errorf("isolating needs a packet filter this program knows: isolate through KSC, or with the firewall of this system: %w", errors.ErrUnsupported)

// platform holds what the packet filter of the system needs between calls.
type platform struct{}

// possible says, before anything else is done, whether machines of this kind can be isolated.
func (w *Firewall) possible() error {
	return verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoIsolation)
}

// serversInUse returns the name servers this machine asks, without those on loopback.
func serversInUse() ([]netip.Addr, error) { return nil, nil }

// stands reads the isolation back. With passes it compares the peers as well.
func (w *Firewall) stands(context.Context, []pass) (standing, error) { return standing{}, nil }

// arm replaces whatever isolation stands, without a gap, by one that lasts for left; 0 = permanent. It answers an
// error that wraps errOwned when another process owns it; nothing has changed after an error.
func (w *Firewall) arm(context.Context, []pass, time.Duration) error { return errNoIsolation }

// cover arms where it does not stand yet.
func (w *Firewall) cover(context.Context, []pass, time.Duration) error { return errNoIsolation }

// renew sets the timers of a standing isolation anew.
func (w *Firewall) renew(context.Context, time.Duration) error { return errNoIsolation }

// disarm takes the isolation away; nothing to take away is no error.
func (w *Firewall) disarm(context.Context) error { return errNoIsolation }

// sweep has nothing to do: there are no network namespaces.
func (w *Firewall) sweep(context.Context) error { return nil }

// owns reports whether nobody but this process can change the isolation.
func (w *Firewall) owns() bool { return false }

// disown gives ownership up; the isolation stands on.
func (w *Firewall) disown() {}

// cutForbidden ends the connections an isolation with these passes does not let through, and counts them.
func (w *Firewall) cutForbidden(context.Context, []pass) (int, error) { return 0, nil }

// watch nudges when somebody changes the packet filter, until ctx ends.
func (w *Firewall) watch(ctx context.Context, _ chan<- struct{}) { <-ctx.Done() }

// leaks tries to reach an address that is no peer, and returns the one it could reach.
func leaks(context.Context, []pass) (netip.Addr, error) { return netip.Addr{}, nil }
