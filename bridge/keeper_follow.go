package bridge

import (
	"context"
	"slices"
	"time"
)

// chase follows what executors accepted.
func (k *Keeper) chase(ctx context.Context) {
	if len(k.cfg.Followers) == 0 {
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

// followPage is how many orders are asked about in one turn: an accepted order that KSC never makes a task of is asked about until its
// deadline, and thousands of them must not keep KSC busy.
const followPage = 200

// follow asks what became of the next accepted orders, oldest first and from the beginning again after the last.
func (k *Keeper) follow(ctx context.Context) {
	if len(k.cfg.Followers) == 0 {
		return
	}
	began := k.followed
	for {
		orders, next, err := k.cfg.Cabinet.Accepted(ctx, Page{After: k.followed, Limit: followPage})
		if err != nil {
			k.warn(ctx, "orders cannot be listed", err)
			return
		}
		k.followed = next.After
		if len(orders) > 0 {
			k.followThese(ctx, orders)
			return
		}
		k.followed = 0
		if began == 0 {
			return
		}
		began = 0
	}
}

// followThese asks each executor about its orders. One that cannot be asked does not keep the others from being asked.
func (k *Keeper) followThese(ctx context.Context, orders []Order) {
	for name, follower := range k.cfg.Followers {
		its := slices.DeleteFunc(slices.Clone(orders), func(o Order) bool { return o.Executor != name })
		if len(its) > 0 {
			k.followAt(ctx, follower, its)
		}
	}
}

func (k *Keeper) followAt(ctx context.Context, follower Follower, orders []Order) {
	byID := make(map[string]Order, len(orders))
	for _, o := range orders {
		byID[o.ID] = o
	}
	progress, err := follower.Follow(ctx, orders)
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
