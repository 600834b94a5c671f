package bridge

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// followPage is how many orders are asked about in one turn: an accepted order that KSC never makes a task of is asked about until its
	// deadline, and thousands of them must not keep KSC busy.
	followPage = 200
	// followTimeout is how long one turn of a follower may take, where FollowEvery is not longer: several servers of KSC that do not answer
	// take 30 s each before the next one is asked.
	followTimeout = 5 * time.Minute
)

// chase follows what executors accepted, each at its own pace: one that hangs does not keep the others from being asked.
func (k *Keeper) chase(ctx context.Context) {
	var chases sync.WaitGroup
	for name, follower := range k.cfg.Followers {
		chases.Go(func() { k.chaseAt(ctx, name, follower) })
	}
	chases.Wait()
}

func (k *Keeper) chaseAt(ctx context.Context, name string, follower Follower) {
	every := time.NewTicker(k.cfg.FollowEvery)
	defer every.Stop()
	var place int64 // of the last order that was looked at
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			place = k.follow(ctx, name, follower, place)
		}
	}
}

// follow asks an executor what became of its orders among the next accepted ones, oldest first and from the beginning again after the last.
// It returns the place of the last it looked at.
func (k *Keeper) follow(ctx context.Context, name string, follower Follower, place int64) int64 {
	for range 2 { // to the end of the list, and once more from its beginning
		orders, next, err := k.cfg.Cabinet.Accepted(ctx, Page{After: place, Limit: followPage})
		if err != nil {
			k.warn(ctx, "orders cannot be listed", err)
			return place
		}
		if len(orders) > 0 {
			its := slices.DeleteFunc(slices.Clone(orders), func(o Order) bool { return o.Executor != name })
			if len(its) > 0 {
				k.followAt(ctx, follower, its)
			}
			return next.After
		}
		if place == 0 {
			return 0
		}
		place = 0
	}
	return 0
}

func (k *Keeper) followAt(ctx context.Context, follower Follower, orders []Order) {
	byID := make(map[string]Order, len(orders))
	for _, o := range orders {
		byID[o.ID] = o
	}
	progress, err := k.ask(ctx, follower, orders)
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

// ask bounds what a follower takes; what it tells then is still written down.
func (k *Keeper) ask(ctx context.Context, follower Follower, orders []Order) ([]Progress, error) {
	ctx, stop := context.WithTimeout(ctx, max(k.cfg.FollowEvery, followTimeout))
	defer stop()
	return follower.Follow(ctx, orders)
}

// onward reports whether the progress leads an order on from its state.
func (p Progress) onward(from State) bool {
	switch p.State {
	case StateRunning, StateDone, StateFailed, StateUnknown:
		return EventOf(from, p.State) != ""
	default:
		return false
	}
}
