package bridge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// KeeperConfig wires the keeper of a running bridge.
type KeeperConfig struct {
	Cabinet Cabinet
	Pipe    *Pipeline
	// Hold is the switch the guards look at.
	Hold *HoldSwitch
	// Followers tell how accepted orders go on, by the name of the executor; orders of others stand until their deadline. FollowEvery is
	// how often each is asked; zero = 5 s. One that hangs does not hold up the others; its context ends after 5 min, or FollowEvery.
	Followers   map[string]Follower
	FollowEvery time.Duration
	// Tick is how often the keeper looks for what is due; zero = 1 s. Poll is how often it looks whether another process changed
	// the store; zero = 250 ms.
	Tick, Poll time.Duration
	// Foreign is how long ago another process must have touched an order last before it counts as left behind; zero = 5 min.
	Foreign time.Duration
	Logger  *slog.Logger
	Now     func() time.Time
}

// Keeper does for a running bridge what no alert asks for: it releases hosts whose leases lapse, ends orders that are past their
// deadline, queues what waited for a resume or for room at KSC, follows what executors accepted, and takes up what other
// processes left in the store.
type Keeper struct {
	cfg KeeperConfig
	log *slog.Logger

	stirred chan struct{} // another process changed the store
	resumed chan struct{} // the hold was taken back

	// By watch.
	looked bool
	seen   uint64 // the last Changed

	// By tend.
	asked   map[string]time.Time // orders of leases, and when they were admitted
	line    []Order              // queued, and not yet handed to the pipeline for want of room
	takeAll bool                 // orders may be held for a hold that is over
}

const (
	keeperPage = 500
	// takeUpPage is how many held orders are queued at once: not many more than the pipeline has room for.
	takeUpPage = 100
	// strayEvery is how often the keeper looks for orders nobody has in hand.
	strayEvery = time.Minute
	// strayAge is how long an order must have stood still to be one: those just admitted are on their way into a lane.
	strayAge = 10 * time.Second
)

// NewKeeper fills in the defaults. It starts nothing.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if cfg.Cabinet == nil || cfg.Pipe == nil || cfg.Hold == nil {
		return nil, errors.New("keeper: cabinet, pipeline and hold switch are required")
	}
	setDefault(&cfg.FollowEvery, 5*time.Second)
	setDefault(&cfg.Tick, time.Second)
	setDefault(&cfg.Poll, 250*time.Millisecond)
	setDefault(&cfg.Foreign, 5*time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keeper{cfg: cfg, log: cfg.Logger, stirred: make(chan struct{}, 1), resumed: make(chan struct{}, 1)}, nil
}

// Run works until ctx ends. What fails is logged and tried again at the next turn: everything it does is in the store before.
// A hold of another process is seen within Poll, however long KSC or a full outbox keep the rest waiting.
func (k *Keeper) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { k.watch(ctx) })
	parts.Go(func() { k.chase(ctx) })
	k.tend(ctx)
	parts.Wait()
}

// watch looks whether another process changed the store, and how the hold stands.
func (k *Keeper) watch(ctx context.Context) {
	poll := time.NewTicker(k.cfg.Poll)
	defer poll.Stop()
	waited := k.waiting()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		if k.changed(ctx) {
			tell(k.stirred)
		}
		waits := k.waiting()
		if waited && !waits {
			tell(k.resumed)
		}
		waited = waits
	}
}

// tell leaves word for tend; one word is enough.
func tell(word chan<- struct{}) {
	select {
	case word <- struct{}{}:
	default:
	}
}

// tend does everything else.
func (k *Keeper) tend(ctx context.Context) {
	tick := time.NewTicker(k.cfg.Tick)
	defer tick.Stop()
	var room time.Time // when orders were last looked at that wait for room at KSC
	strays := k.cfg.Now().Add(strayAge)
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.stirred:
			k.retries(ctx)
			if soon := k.cfg.Now().Add(2 * strayAge); soon.Before(strays) {
				strays = soon
			}
			continue
		case <-k.resumed:
			k.takeAll = true
		case <-tick.C:
		}
		now := k.cfg.Now()
		k.leases(ctx)
		k.overdue(ctx)
		if !now.Before(strays) {
			strays = now.Add(strayEvery)
			k.retries(ctx)
			k.strays(ctx)
			k.takeAll = true
		}
		if k.takeAll && !k.waiting() {
			k.takeAll = !k.takeUp(ctx, ReasonHold, ReasonLimit)
		}
		if now.Sub(room) >= k.cfg.FollowEvery && !k.waiting() {
			room = now
			k.takeUp(ctx, ReasonLiveTasks)
		}
	}
}

// waiting reports whether the hold keeps orders back.
func (k *Keeper) waiting() bool { return k.cfg.Hold.Get().Active }

// changed looks whether another process changed something, and takes over its hold.
func (k *Keeper) changed(ctx context.Context) bool {
	before := k.cfg.Hold.current.Load()
	version, err := k.cfg.Cabinet.Changed(ctx)
	if err != nil {
		k.warn(ctx, "store cannot be asked for changes", err)
		return false
	}
	if version == k.seen && k.looked {
		return false
	}
	hold, err := k.cfg.Cabinet.Hold(ctx)
	if err != nil {
		k.warn(ctx, "store cannot be asked for the hold", err)
		return false
	}
	known := k.cfg.Hold.Get()
	if !k.cfg.Hold.current.CompareAndSwap(before, &hold) {
		return false // this process set it meanwhile, and what was read may be older: look again
	}
	if known.Active != hold.Active {
		k.log.Warn("hold changed", "hold", hold.Active, "reason", hold.Reason, "actor", hold.Actor)
	}
	k.looked, k.seen = true, version
	return true
}

// leases has hosts released or isolated anew as their leases ask.
func (k *Keeper) leases(ctx context.Context) {
	due, err := k.cfg.Cabinet.DueLeases(ctx)
	if err != nil {
		k.warn(ctx, "leases cannot be looked at", err)
		return
	}
	now, asked := k.cfg.Now(), map[string]time.Time{}
	for _, t := range due {
		o, err := t.Order()
		if err != nil {
			k.warn(ctx, "lease cannot be kept", err)
			continue
		}
		if at, before := k.asked[o.ID]; before && now.Sub(at) < leaseRetry {
			asked[o.ID] = at // a guard refused it: asking every second would not help
			continue
		}
		CrashPoint(CrashLease)
		k.log.Info("lease asks for an order", "order", o.ID, "host", o.Host, "release", t.Release, "lease", t.Lease.Order)
		if err := k.enter(ctx, o); err != nil {
			if !errors.Is(err, errNotRunning) {
				k.warn(ctx, "order of a lease was not admitted", err)
			}
			continue
		}
		asked[o.ID] = now
	}
	k.asked = asked
}

// enter admits an order, or gives up for this turn when the outbox has no room for it.
func (k *Keeper) enter(ctx context.Context, o Order) error {
	if !IsRelease(o.Task) {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, k.cfg.Tick)
		defer stop()
	}
	return k.cfg.Pipe.Enter(ctx, []Order{o})
}

// overdue ends orders that stayed too long in their state.
func (k *Keeper) overdue(ctx context.Context) {
	k.walk(ctx, keeperPage, k.cfg.Cabinet.Overdue, func(orders []Order) bool {
		for _, o := range orders {
			v := Overdue(o)
			from := o.State
			o.State, o.Reason, o.Detail = v.State, v.Reason, v.Detail
			k.move(ctx, o, from)
		}
		return true
	})
}

// move commits what the keeper decided about an order, and answers whether it did. Somebody who was faster is right.
func (k *Keeper) move(ctx context.Context, o Order, from State) bool {
	stored, err := k.cfg.Cabinet.Move(ctx, o, from)
	if errors.Is(err, ErrStale) {
		return false
	}
	if err != nil {
		k.warn(ctx, "order state could not be stored", err)
		return false
	}
	k.cfg.Pipe.settled(stored, from)
	return true
}

// takeUp queues held orders for which nothing stands in the way any more, in the order they came. It answers false when the
// pipeline had no room for all of them.
func (k *Keeper) takeUp(ctx context.Context, reasons ...Reason) bool {
	if !k.passLine(ctx) {
		return false
	}
	held := func(ctx context.Context, p Page) ([]Order, Page, error) { return k.cfg.Cabinet.Held(ctx, reasons, p) }
	return k.walk(ctx, takeUpPage, held, func(orders []Order) bool {
		queued, err := k.cfg.Cabinet.TakeUp(ctx, orders)
		if err != nil {
			k.warn(ctx, "held orders were not taken up", err)
		}
		k.line = queued // some may be, even so
		return k.passLine(ctx) && err == nil
	})
}

// passLine hands the pipeline what stands in line, and answers false when there was no room for all of it. Before the pipeline
// runs the orders stay in the store, from where it takes them up itself.
func (k *Keeper) passLine(ctx context.Context) bool {
	n, err := k.resume(ctx, k.line)
	k.line = k.line[n:]
	if errors.Is(err, errNotRunning) {
		k.line = nil
	}
	return len(k.line) == 0
}

// resume hands orders to the pipeline and returns how many it took. It does not wait for room longer than a tick: hosts have to
// be released meanwhile.
func (k *Keeper) resume(ctx context.Context, orders []Order) (taken int, err error) {
	ctx, stop := context.WithTimeout(ctx, k.cfg.Tick)
	defer stop()
	for i := range orders {
		if err := k.cfg.Pipe.Resume(ctx, orders[i:i+1]); err != nil {
			return i, err
		}
	}
	return len(orders), nil
}

// strays takes up orders that nobody has in hand: approved ones, and those of processes that died.
func (k *Keeper) strays(ctx context.Context) {
	now := k.cfg.Now()
	foreign, still := now.Add(-k.cfg.Foreign), now.Add(-strayAge)
	pending := func(ctx context.Context, p Page) ([]Order, Page, error) {
		return k.cfg.Cabinet.Pending(ctx, foreign, p)
	}
	k.walk(ctx, keeperPage, pending, func(orders []Order) bool {
		for i, o := range orders {
			if !o.Updated.Before(still) || k.cfg.Pipe.Working(o.ID) || k.inLine(o.ID) {
				continue
			}
			if _, err := k.resume(ctx, orders[i:i+1]); err != nil {
				return false // no room, or no pipeline: they are strays at the next turn too
			}
		}
		return true
	})
}

func (k *Keeper) inLine(order string) bool {
	return slices.ContainsFunc(k.line, func(o Order) bool { return o.ID == order })
}

// retries has dead letters read once more.
func (k *Keeper) retries(ctx context.Context) {
	letters, err := k.cfg.Cabinet.Retries(ctx)
	if err != nil {
		k.warn(ctx, "dead letters cannot be looked at", err)
		return
	}
	ctx, stop := context.WithTimeout(ctx, k.cfg.Tick)
	defer stop()
	for _, l := range letters {
		raw := Alert{ID: l.Entry, Source: l.Source, Received: l.First, Raw: l.Document}
		err := k.cfg.Pipe.Feed(ctx, raw, func(ctx context.Context, refused error) (err error) {
			if refused == nil { // else it was buried again, with one attempt more
				err = k.cfg.Cabinet.Unbury(ctx, l.ID)
			}
			return err
		})
		if err != nil {
			return // no room, or no pipeline: at the next turn
		}
	}
}

// walk goes through the pages of a list until it ends, each answers false or ctx ends; it answers whether it came to the end.
func (k *Keeper) walk(
	ctx context.Context, limit int, list func(context.Context, Page) ([]Order, Page, error), each func([]Order) bool,
) bool {
	page := Page{Limit: limit}
	for ctx.Err() == nil {
		orders, next, err := list(ctx, page)
		if err != nil {
			k.warn(ctx, "orders cannot be listed", err)
			return false
		}
		if len(orders) == 0 {
			return true
		}
		if !each(orders) {
			return false
		}
		page = next
	}
	return false
}

func (k *Keeper) warn(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		k.log.Warn("keeper met an error, it tries again", "what", what, "err", err)
	}
}
