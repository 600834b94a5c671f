//go:build !linux

package firewall

import (
	"context"
	"net/netip"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// applyMany blocks one after the other. What one of them is refused for does not stop the rest; what did not work does.
func (w *Firewall) applyMany(ctx context.Context, prefixes []netip.Prefix, d time.Duration, out *Bulk) error {
	for _, p := range prefixes {
		_, err := w.applyBlock(ctx, p, d)
		if v := verdict.Of(err); err != nil && v.Reason != "" {
			out.Refused = append(out.Refused, Refusal{p, err})
			continue
		}
		if err != nil {
			return err
		}
		out.Blocked++
	}
	return nil
}
