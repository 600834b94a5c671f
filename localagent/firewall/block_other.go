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

// errNoFilter says where blocks work.
var errNoFilter = fmt.Errorf("blocking an address needs the packet filter of Linux: use the firewall of this system, or isolateHost through KSC: %w", errors.ErrUnsupported)

func (w *Firewall) applyBlock(context.Context, netip.Prefix, time.Duration) (bridge.Receipt, error) {
	return bridge.Receipt{}, verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoFilter)
}

// lifelines answers before anything else is asked, so that dry runs say the same as real ones.
func lifelines() ([]taboo, error) {
	return nil, verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoFilter)
}

// Blocked answers an error that wraps errors.ErrUnsupported.
func (w *Firewall) Blocked(context.Context) ([]Block, error) { return nil, errNoFilter }

// Unblock answers an error that wraps errors.ErrUnsupported.
func (w *Firewall) Unblock(context.Context, string) error { return errNoFilter }
