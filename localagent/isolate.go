package localagent

import (
	"context"
	"errors"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/vault"
)

// isolate carries out isolateHost. The kernel's timer ends it with the lease, whatever becomes of bridge and agent.
func (a *Agent) isolate(ctx context.Context, o bridge.Order, t bridge.IsolateHost) (bridge.Receipt, error) {
	switch {
	case t.Action == bridge.IsolationOff && o.Actor == bridge.ActorLease:
		return a.wall.Lapse(ctx, o.ID)
	case t.Action == bridge.IsolationOff:
		return a.wall.Release(ctx, o.ID)
	}
	wish := firewall.Isolation{OrderID: o.ID, For: max(o.For, 0), Permanent: o.For < 0, Who: o.Actor}
	if o.Rule != "" {
		wish.Who = "rule " + o.Rule
	}
	return a.wall.Isolate(ctx, wish)
}

// KeepIsolated lets an isolation last at least until then, or, with the zero time, until somebody releases the machine. It reports whether the
// machine is isolated; one that is not stays so. Whoever knows the leases calls it when they get longer: a second reason for an
// isolation makes no second order.
func (a *Agent) KeepIsolated(ctx context.Context, until time.Time) (on bool, err error) {
	if a.cfg.DryRun {
		return true, nil
	}
	err = a.wall.Extend(ctx, until)
	if errors.Is(err, firewall.ErrNotIsolated) {
		return false, nil
	}
	return err == nil, err
}

// Isolated returns whether and how this machine is isolated.
func (a *Agent) Isolated(ctx context.Context) (firewall.State, error) { return a.wall.Isolated(ctx) }

// Blocked returns what is blocked at this moment, in no order. It blocks for about a millisecond.
func (a *Agent) Blocked(ctx context.Context) ([]firewall.Block, error) { return a.wall.Blocked(ctx) }

// Unblock takes the block of exactly this address or prefix away. It answers firewall.ErrNotBlocked when there is none.
func (a *Agent) Unblock(ctx context.Context, address string) error {
	return a.wall.Unblock(ctx, address)
}

// Vault returns the quarantine, for people who look into it.
func (a *Agent) Vault() *vault.Vault { return a.vault }
