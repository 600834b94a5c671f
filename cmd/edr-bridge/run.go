package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

const (
	// holdPoll is how often a running bridge looks whether another process changed the hold.
	holdPoll = 250 * time.Millisecond
	// foreignAfter is when an order of another process is taken over: longer than any `send` lives.
	foreignAfter = 5 * time.Minute
	pageSize     = 500
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "run",
		Aliases: []string{"serve"},
		Short:   "Run the bridge: read the sources, carry out what the rules ask for",
		Long: `Run the bridge until it is told to stop (SIGTERM, Ctrl-C). Orders that a previous run left behind are taken up first.
SIGHUP reads the rules again; when they are not valid the old ones stay. On SIGTERM it stops reading, waits up to ten seconds for what is in flight and leaves the rest in the store.`,
		Example: `  edr-bridge run -c /etc/edr-bridge/edr-bridge.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.openServing()
			if err != nil {
				return err
			}
			defer w.close()
			return w.serve(cmd.Context(), nil)
		},
	}
}

// feed is a source with its loop.
type feed struct {
	name string
	src  interface {
		bridge.Source
		Run(ctx context.Context) error
		Ready() <-chan struct{}
		Close(ctx context.Context) error
	}
}

// serve runs the whole bridge until ctx ends. watch, when given, wraps the store to see what happens.
func (w *wiring) serve(ctx context.Context, watch func(bridge.Store) bridge.Store) error {
	if len(w.set.Sources) == 0 {
		return fail(exitConfig, "config.sources", errors.New("no sources are configured: there is nothing to read"),
			"add sources: to the settings, or try `edr-bridge lab`")
	}
	redisbus.SetLogger(w.log)
	mapper, err := w.openMapping(ctx)
	if err != nil {
		return err
	}
	st, err := w.openStore(ctx, store.OwnerRun)
	if err != nil {
		return err
	}
	unlock, err := st.LockInstance()
	if err != nil {
		return fail(exitConfig, "state.locked", err, "stop the other bridge, or give this one a local.state of its own")
	}
	w.onClose(func() {
		if err := unlock(); err != nil {
			w.log.Warn("lock was not released", "err", err)
		}
	})
	var watched bridge.Store = st
	if watch != nil {
		watched = watch(st)
	}
	rules := &liveRules{}
	rules.current.Store(mapper)
	pipe, err := w.openPipeline(rules, watched)
	if err != nil {
		return err
	}
	feeds, err := w.openFeeds(ctx)
	if err != nil {
		return err
	}
	return w.runParts(ctx, st, pipe, rules, feeds)
}

// runParts starts everything and stops it in reverse: first the pipeline, which drains, then the sources,
// which still have to acknowledge what it settled.
func (w *wiring) runParts(ctx context.Context, st *store.Store, pipe *bridge.Pipeline, rules *liveRules, feeds []feed) error {
	w.warnOfOpenIsolations(rules)
	if err := st.Note(ctx, bridge.Note{What: bridge.NoteStart, Actor: actor(), Detail: "version " + version()}); err != nil {
		return fmt.Errorf("record start: %w", err)
	}
	asked, stopAsking := awaitReload()
	defer stopAsking()
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	var readers errgroup.Group
	var named []bridge.NamedSource
	for _, f := range feeds {
		readers.Go(func() error { return f.src.Run(reading) })
		named = append(named, bridge.NamedSource{Name: f.name, Source: f.src})
	}
	side, stopSide := context.WithCancel(ctx)
	var aside errgroup.Group
	aside.Go(func() error { w.announce(side, feeds); return nil })
	aside.Go(func() error { w.followHold(side, st, pipe); return nil })
	aside.Go(func() error { w.followReload(side, st, rules, asked); return nil })
	aside.Go(func() error { w.greetKSC(side); return nil })
	if w.agent != nil {
		if err := w.agent.Prepare(ctx); err != nil {
			w.log.Warn("local agent cannot act", "err", err)
		}
	}

	err := pipe.Run(ctx, named, pendingPages(st))
	if errors.Is(err, context.Canceled) || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		err = nil // told to stop while it still took up what was left: a stop like any other
	}

	stopSide()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	for _, f := range feeds {
		if cerr := f.src.Close(closing); cerr != nil {
			w.log.Warn("source did not close cleanly", "source_name", f.name, "err", cerr)
		}
	}
	stopReading()
	if rerr := readers.Wait(); rerr != nil && !errors.Is(rerr, context.Canceled) && err == nil {
		err = rerr
	}
	if aerr := aside.Wait(); aerr != nil && err == nil {
		err = aerr
	}
	if nerr := st.Note(context.WithoutCancel(ctx), bridge.Note{What: bridge.NoteStop, Actor: actor()}); nerr != nil {
		w.log.Error("stop was not recorded", "err", nerr)
	}
	w.log.Info("stopped")
	return err
}

// pendingPages walks over what an earlier run left to do.
func pendingPages(st *store.Store) func(context.Context) ([]bridge.Order, error) {
	page := store.Page{Limit: pageSize}
	started := time.Now()
	return func(ctx context.Context) ([]bridge.Order, error) {
		orders, next, err := st.Pending(ctx, started, foreignAfter, page)
		page = next
		return orders, err
	}
}

// announce tells when each source is read.
func (w *wiring) announce(ctx context.Context, feeds []feed) {
	for _, f := range feeds {
		select {
		case <-f.src.Ready():
			w.log.Info("source is read", "source_name", f.name)
		case <-ctx.Done():
			return
		}
	}
	w.log.Info("ready", "mode", string(w.set.Mode), "sources", len(feeds), "hold", w.hold.Get().Active)
}

// greetKSC logs in early, so that a wrong password or certificate shows at the start and not with the first alert.
func (w *wiring) greetKSC(ctx context.Context) {
	if w.client == nil {
		return
	}
	if err := w.client.Ping(ctx); err != nil && ctx.Err() == nil {
		w.log.Warn("KSC does not answer as it should, orders wait", "err", err)
	}
}

// followHold keeps the in-memory hold equal to the latched one and takes up held orders at resume.
func (w *wiring) followHold(ctx context.Context, st *store.Store, pipe *bridge.Pipeline) {
	ticker := time.NewTicker(holdPoll)
	defer ticker.Stop()
	var seen uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := st.Changed(ctx)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Warn("store cannot be asked for the hold", "err", err)
			}
			continue
		}
		if changed == seen {
			continue
		}
		if w.followOnce(ctx, st, pipe) {
			seen = changed
		}
	}
}

func (w *wiring) followOnce(ctx context.Context, st *store.Store, pipe *bridge.Pipeline) bool {
	before := w.hold.Get()
	if err := w.loadHold(ctx); err != nil {
		return false
	}
	now := w.hold.Get()
	if now.Active != before.Active {
		w.log.Warn("hold changed", "hold", now.Active, "reason", now.Reason, "actor", now.Actor)
	}
	if now.Active {
		return true
	}
	return w.takeUpHeld(ctx, st, pipe)
}

// takeUpHeld queues what the hold switch had stopped; the guards judge its age when it begins.
func (w *wiring) takeUpHeld(ctx context.Context, st *store.Store, pipe *bridge.Pipeline) bool {
	if err := pipe.Resume(ctx, nil); err != nil {
		return false // not running yet: asked again at the next tick
	}
	page := store.Page{Limit: pageSize}
	for {
		orders, next, err := st.Held(ctx, bridge.ReasonHold, page)
		if err != nil {
			return false
		}
		if len(orders) == 0 {
			return true
		}
		page = next
		queued := orders[:0]
		for _, o := range orders {
			if by, err := releasedBy(ctx, st, o); err != nil {
				return false
			} else if by != "" {
				o.State, o.Reason, o.Detail, o.Updated = bridge.StateCancelled, bridge.ReasonNone, "the host was released meanwhile by "+by, time.Now().UTC()
				if _, err := st.Move(ctx, o, bridge.StateHeld); err != nil {
					w.log.Warn("held isolation was not cancelled", "order", o.ID, "err", err)
				}
				continue
			}
			o.State, o.Reason, o.Detail, o.Updated = bridge.StateQueued, bridge.ReasonNone, "resumed", time.Now().UTC()
			moved, err := st.Move(ctx, o, bridge.StateHeld)
			if err != nil {
				continue // somebody else took it
			}
			queued = append(queued, moved)
		}
		if err := pipe.Resume(ctx, queued); err != nil {
			return false
		}
	}
}

// releasedBy returns the id of a release that was sent for the host of a held isolation after it: the newer intent wins.
func releasedBy(ctx context.Context, st *store.Store, o bridge.Order) (string, error) {
	iso, ok := o.Task.(bridge.IsolateHost)
	if !ok || iso.Action != bridge.IsolationOn {
		return "", nil
	}
	later, err := st.Orders(ctx, store.Filter{Host: o.Host, Task: bridge.KindIsolateHost, Since: o.Created, Limit: pageSize})
	if err != nil {
		return "", err
	}
	for _, l := range later {
		passed := l.State.Pending() || l.State == bridge.StateAccepted || l.State == bridge.StateDone || l.State == bridge.StateUnknown
		if passed && bridge.IsRelease(l.Task) && l.Created.After(o.Created) {
			return l.ID, nil
		}
	}
	return "", nil
}
