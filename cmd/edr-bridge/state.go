package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

// openStore opens the state directory under the policy of the settings.
func (w *wiring) openStore(ctx context.Context, owner string) (*store.Store, error) {
	if w.store != nil {
		return w.store, nil
	}
	cfg, err := w.storeConfig(ctx, owner)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, cfg)
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fail(exitConfig, "state.permission", fmt.Errorf("state directory: %w", err),
			"run as the bridge's user, or set local.state (EDR_BRIDGE_LOCAL_STATE) to a directory of your own")
	case errors.Is(err, store.ErrDamaged):
		return nil, damagedState(err)
	case err != nil:
		return nil, fmt.Errorf("state directory: %w", err)
	}
	w.store = st
	if owner == store.OwnerSend {
		// What was acknowledged is on disk; closing would only tidy up, and every call of send would pay for it.
		return st, w.loadHold(ctx)
	}
	w.onClose(func() {
		if err := st.Close(); err != nil {
			w.log.Error("store did not close cleanly", "err", err)
		}
	})
	return st, w.loadHold(ctx)
}

func (w *wiring) storeConfig(ctx context.Context, owner string) (store.Config, error) {
	guard, err := w.openGuard()
	if err != nil {
		return store.Config{}, err
	}
	cfg := store.Config{
		Dir: w.set.Local.State, Owner: owner, Look: w.look, Policy: w.policy(), NotAfter: guard.DeadlineFrom, Logger: w.log,
		OnHold: func(h bridge.Hold) {
			w.hold.Set(h)
			level := slog.LevelWarn
			if h.Active && (h.Actor == bridge.ActorGuard || h.Actor == bridge.ActorUndo) {
				level = slog.LevelError // nobody asked for it: orders wait until somebody looks
			}
			w.log.Log(ctx, level, "hold changed", "hold", h.Active, "reason", h.Reason, "actor", h.Actor)
		},
	}
	if cfg.AuditKey, err = w.secret(w.set.Audit.Key); err != nil {
		return cfg, err
	}
	if w.meter != nil {
		cfg.OnFailure = func(error) { w.meter.StoreFailed() }
		cfg.OnClock = func(time.Duration) { w.meter.ClockJumped() }
	}
	cfg.PolicyDigest, err = w.policyDigest()
	return cfg, err
}

// policy is that of the settings, with the hosts KSC counted where the settings give no number.
func (w *wiring) policy() bridge.Policy {
	p := w.set.Policy()
	p.Lease.Default = w.set.Leases.Default
	if p.Known == nil {
		p.Known = func() (int, bool) {
			n := w.hosts.Load()
			return int(n), n > 0
		}
	}
	return p
}

func (w *wiring) loadHold(ctx context.Context) error {
	h, err := w.store.Hold(ctx)
	if err != nil {
		return fmt.Errorf("read hold: %w", err)
	}
	w.hold.Set(h)
	return nil
}

// openGuard makes the guard of the settings.
func (w *wiring) openGuard() (*bridge.Guard, error) {
	if w.guard != nil {
		return w.guard, nil
	}
	protect, err := bridge.NewProtect(w.protect())
	if err != nil {
		return nil, fail(exitConfig, "config.protect", err, "")
	}
	approve := w.set.Approvals.Tasks
	if approve == nil {
		approve = []bridge.Kind{}
	}
	guard, err := bridge.NewGuard(bridge.GuardConfig{
		Protect: protect, Hold: w.hold, Self: w.self, Ceiling: w.set.Mode, MaxAge: w.set.MaxAge["default"], MaxAgePID: w.set.MaxAge["pid"],
		MaxAgeOf: w.set.MaxAgeOf(), Approve: approve, FourEyes: w.set.Approvals.FourEyes, Hours: w.set.HoursPolicy(), At: w.set.At,
	})
	if err != nil {
		return nil, err
	}
	w.guard = guard
	return guard, nil
}

// openKeeper makes what does the upkeep of a running bridge.
func (w *wiring) openKeeper(st *store.Store, pipe *bridge.Pipeline) (*bridge.Keeper, error) {
	cfg := bridge.KeeperConfig{Cabinet: st, Pipe: pipe, Hold: w.hold, Foreign: w.foreignAfter(), Logger: w.log}
	server, err := w.openKSC()
	if err != nil {
		return nil, err
	}
	cfg.Followers = make(map[string]bridge.Follower)
	local, err := w.openLocal()
	if err != nil {
		return nil, err
	}
	if local != nil {
		cfg.Followers[bridge.ExecutorLocal] = local
	}
	if server != nil {
		cfg.Followers[bridge.ExecutorKSC] = server
		for _, k := range w.set.Servers() {
			if cfg.FollowEvery == 0 || k.Tasks.FollowEvery < cfg.FollowEvery {
				cfg.FollowEvery = k.Tasks.FollowEvery
			}
		}
	}
	return bridge.NewKeeper(cfg)
}

// countEvery is how often KSC is asked how many hosts there are.
const countEvery = time.Hour

// needsCount reports whether a budget is a share of hosts that only KSC knows.
func (w *wiring) needsCount() bool {
	if w.set.Inventory.Hosts > 0 || len(w.servers) == 0 {
		return false
	}
	for _, l := range w.set.LimitPolicy() {
		if l.Share > 0 {
			return true
		}
	}
	return false
}

// countAll adds up the hosts of all KSC servers.
func (w *wiring) countAll(ctx context.Context) (int, error) {
	all := 0
	for _, exec := range w.servers {
		n, err := exec.CountHosts(ctx)
		if err != nil {
			return 0, err
		}
		all += n
	}
	return all, nil
}

// countHosts keeps the number of known hosts for budgets that are a share of them. Until KSC has answered such budgets
// let nothing through.
func (w *wiring) countHosts(ctx context.Context) {
	if !w.needsCount() {
		return
	}
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		n, err := w.countAll(ctx)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Warn("KSC does not tell how many hosts there are", "err", err)
			}
			wait = time.Minute
			continue
		}
		w.hosts.Store(int64(n))
		wait = countEvery
	}
}
