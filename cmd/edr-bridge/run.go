package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

const (
	pageSize = 500
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

// reader is a source with its loop.
type reader interface {
	bridge.Source
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	Connected() bool
	Close(ctx context.Context) error
}

// feed is a source with its name in the settings.
type feed struct {
	name string
	src  reader
}

// serve runs the whole bridge until ctx ends. watch, when given, wraps the store to see what happens.
func (w *wiring) serve(ctx context.Context, watch func(bridge.Store) bridge.Store) error {
	if len(w.set.Sources) == 0 {
		return fail(exitConfig, "config.sources", errors.New("no sources are configured: there is nothing to read"),
			"add sources: to the settings, or try `edr-bridge lab`")
	}
	if err := w.trustAgent(w.set); err != nil {
		return err
	}
	w.resident = true
	redisbus.SetLogger(w.log)
	mapper, err := w.openMapping(ctx)
	if err != nil {
		return err
	}
	if err := w.openMeter(); err != nil {
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
	if err := st.CheckUnfinished(ctx); err != nil {
		return damagedState(err)
	}
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
	if err := w.makeSpools(); err != nil {
		return err
	}
	return w.runParts(ctx, st, pipe, rules, feeds)
}

// runParts starts everything and stops it in reverse: first the pipeline, which drains, then the sources,
// which still have to acknowledge what it settled.
func (w *wiring) runParts(ctx context.Context, st *store.Store, pipe *bridge.Pipeline, rules *liveRules, feeds []feed) error {
	// Before anybody asks what became of its jobs.
	agentParts, err := w.readyAgent(ctx, st)
	if err != nil {
		return err
	}
	keeper, err := w.openKeeper(st, pipe)
	if err != nil {
		return err
	}
	desk := &desk{Store: st, w: w, pipe: pipe}
	answerSocket, err := w.openSocket(ctx, desk)
	if err != nil {
		return err
	}
	answerPages, err := w.openPages(ctx, st, feeds)
	if err != nil {
		return err
	}
	feedback, err := w.openFeedback(st)
	if err != nil {
		return err
	}
	takeRequests, err := w.serveIngress(ctx)
	if err != nil {
		return err
	}
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
	aside.Go(func() error { keeper.Run(side); return nil })
	aside.Go(func() error { w.keepAudit(side, st); return nil })
	aside.Go(func() error { w.countHosts(side); return nil })
	aside.Go(func() error { return answerSocket(side) })
	aside.Go(func() error { return answerPages(side) })
	aside.Go(func() error { return takeRequests(side) })
	if feedback != nil {
		aside.Go(func() error { return feedback.Run(side) })
	}
	aside.Go(func() error { w.followReload(side, st, rules, asked); return nil })
	aside.Go(func() error { w.greetKSC(side); return nil })
	for _, part := range agentParts {
		aside.Go(func() error { return part(side) })
	}

	if w.app.ready != nil {
		w.app.ready()
	}
	err = pipe.Run(ctx, named, pendingPages(st, time.Now().Add(-w.foreignAfter())))
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
	if w.set.Audit.AnchorEvery > 0 {
		w.anchor(context.WithoutCancel(ctx), st) // the end of the chain must not be free to cut until the next start
	}
	w.log.Info("stopped")
	return err
}

// foreignAfter is when an order that another process moved last is taken over: a `send` without a bridge looks for an undecided
// effect as long as give_up says, and two that look could both send it again.
func (w *wiring) foreignAfter() time.Duration { return max(5*time.Minute, w.set.GiveUp+time.Minute) }

// pendingPages walks over what an earlier run left to do.
func pendingPages(st *store.Store, foreign time.Time) func(context.Context) ([]bridge.Order, error) {
	page := bridge.Page{Limit: pageSize}
	return func(ctx context.Context) ([]bridge.Order, error) {
		orders, next, err := st.Pending(ctx, foreign, page)
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
	var greeting sync.WaitGroup
	defer greeting.Wait()
	for profile, exec := range w.servers {
		greeting.Go(func() {
			if err := exec.Ping(ctx); err != nil && ctx.Err() == nil {
				w.log.Warn("KSC does not answer as it should, orders wait", "ksc", kscPath(profile), "err", err)
			}
		})
	}
}
