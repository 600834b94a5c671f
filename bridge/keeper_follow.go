package bridge

import (
	"context"
	"slices"
	"time"
)

// chase follows what KSC accepted.
func (k *Keeper) chase(ctx context.Context) {
	if k.cfg.Follower == nil {
		return
	}
	every := time.NewTicker(k.cfg.FollowEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			k.follow(ctx)
		}
	}
}

// follow asks what became of accepted orders.
func (k *Keeper) follow(ctx context.Context) {
	if k.cfg.Follower == nil {
		return
	}
	k.walk(ctx, keeperPage, k.cfg.Cabinet.Accepted, func(orders []Order) bool {
		orders = slices.DeleteFunc(orders, func(o Order) bool { return o.Executor != ExecutorKSC })
		if len(orders) == 0 {
			return true
		}
		byID := make(map[string]Order, len(orders))
		for _, o := range orders {
			byID[o.ID] = o
		}
		progress, err := k.cfg.Follower.Follow(ctx, orders)
		if err != nil {
			k.warn(ctx, "accepted orders cannot be followed", err)
		}
		CrashPoint(CrashFollowed)
		for _, p := range progress {
			o, ours := byID[p.OrderID]
			if !ours || !p.onward(o.State) {
				continue
			}
			from := o.State
			o.State, o.Detail = p.State, p.Detail
			if k.move(ctx, o, from) {
				byID[o.ID] = o
			}
		}
		return true
	})
}

// onward reports whether the progress leads an order on from its state.
func (p Progress) onward(from State) bool {
	switch p.State {
	case StateRunning, StateDone, StateFailed:
		return EventOf(from, p.State) != ""
	default:
		return false
	}
}
