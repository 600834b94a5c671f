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

const (
	defaultBlockFor = 10 * time.Minute
	// maxBlockFor bounds the kernel's timer; whoever wants an address away for good has a firewall.
	maxBlockFor = 30 * 24 * time.Hour
)

// ErrNotBlocked is returned by Unblock for an address that is not blocked by itself.
var ErrNotBlocked = errors.New("the address is not blocked")

// Block is one blocked address or prefix.
type Block struct {
	Prefix netip.Prefix
	// Timeout is what the block was made for, Left what remains of it.
	Timeout, Left time.Duration
}

// taboo is a network no block may touch, and why.
type taboo struct {
	prefix netip.Prefix
	why    string
}

// Block drops the traffic of an address for d (zero = 10 minutes) and cuts its connections. Its undo is Unblock, and the
// kernel's own timer. Errors are *verdict.Error.
func (w *Firewall) Block(ctx context.Context, t bridge.BlockAddress, d time.Duration) (bridge.Receipt, error) {
	prefix, err := t.Prefix()
	if err != nil {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "params.address: %w", err)
	}
	if d == 0 {
		d = defaultBlockFor
	}
	if d < time.Second || d > maxBlockFor {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "a block lasts between 1 second and %s, not %s", maxBlockFor, d)
	}
	if err := w.mayBlock(ctx, prefix); err != nil {
		return bridge.Receipt{}, err
	}
	if w.cfg.DryRun {
		return verdict.DryRun(fmt.Sprintf("would have blocked %s for %s", targetText(prefix), d)), nil
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	return w.applyBlock(ctx, prefix, d)
}

// mayBlock refuses networks this machine lives by. When they cannot be found out, nothing is blocked.
func (w *Firewall) mayBlock(ctx context.Context, prefix netip.Prefix) error {
	live, err := w.untouchable(ctx)
	if err != nil {
		return err
	}
	return w.refused(prefix, live)
}

// untouchable returns the networks no block may touch, as they are at this moment.
func (w *Firewall) untouchable(ctx context.Context) ([]taboo, error) {
	live, err := lifelines()
	if v, ok := errors.AsType[*verdict.Error](err); ok {
		return nil, v
	}
	if err != nil {
		return nil, verdict.Hopeless("find out which addresses must never be blocked: %w", err)
	}
	peers, err := w.kept(ctx)
	if err != nil {
		return nil, verdict.Untouched("find out which addresses must never be blocked: %w", err)
	}
	return append(live, peers...), nil
}

// refused says why a prefix may not be blocked.
func (w *Firewall) refused(prefix netip.Prefix, live []taboo) error {
	if prefix.Addr().IsLinkLocalUnicast() && prefix.Addr().Is6() {
		return verdict.Refuse(bridge.ReasonProtectedAddress, "%s is never blocked: link-local addresses belong to a link, and routers answer there", targetText(prefix))
	}
	for _, n := range w.cfg.Never {
		if unmapped(n).Overlaps(prefix) {
			return verdict.Refuse(bridge.ReasonProtectedAddress, "%s is never blocked: the settings protect %s", targetText(prefix), n)
		}
	}
	for _, addr := range w.cfg.Own {
		if prefix.Contains(addr.Unmap().WithZone("")) {
			return verdict.Refuse(bridge.ReasonProtectedAddress, "%s is never blocked: %s is this machine", targetText(prefix), addr)
		}
	}
	for _, n := range live {
		if n.prefix.Overlaps(prefix) {
			return verdict.Refuse(bridge.ReasonProtectedAddress, "%s is never blocked: %s %s", targetText(prefix), targetText(n.prefix), n.why)
		}
	}
	return nil
}

// unmapped turns a prefix of IPv4-mapped addresses into the IPv4 prefix it means.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

func targetText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
