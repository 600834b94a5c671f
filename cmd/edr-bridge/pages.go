package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/api"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

// openMeter makes what counts for the metrics page; without the page nothing counts and nothing is paid.
func (w *wiring) openMeter() error {
	if w.set.Metrics.Listen == "" {
		return nil
	}
	var anchor atomic.Int64
	w.anchored = anchor.Store
	meter, err := api.NewMeter(api.MeterConfig{
		Sources: slices.Sorted(maps.Keys(w.set.Sources)), Logger: w.log,
		Gauges: func(ctx context.Context) (api.Gauges, error) {
			figures, err := w.store.Figures(ctx)
			return api.Gauges{
				Counts: countsOf(figures), LiveTasks: figures.LiveTasks, Hold: w.hold.Get().Active, AnchorSeq: anchor.Load(),
			}, err
		},
	})
	if err != nil {
		return fail(exitConfig, "config.metrics", err, "edr-bridge config check")
	}
	w.meter = meter
	return nil
}

func countsOf(f store.Figures) api.Counts {
	return api.Counts{
		Held: f.States[bridge.StateHeld], Queued: f.States[bridge.StateQueued], Sending: f.States[bridge.StateSending],
		Accepted: f.States[bridge.StateAccepted], Running: f.States[bridge.StateRunning], Leases: f.Leases, DeadLetters: f.Letters,
	}
}

// openPages opens the page with metrics and health where the settings ask for it; serve answers on it until ctx ends.
func (w *wiring) openPages(ctx context.Context, st *store.Store, feeds []feed) (serve func(context.Context) error, err error) {
	if w.meter == nil {
		return func(context.Context) error { return nil }, nil
	}
	pages, err := api.NewPages(api.PagesConfig{
		Listen: w.set.Metrics.Listen, Meter: w.meter, Logger: w.log,
		Health: func(ctx context.Context) api.Health { return w.health(ctx, st, feeds) },
	})
	if err != nil {
		return nil, fail(exitConfig, "config.metrics", err, "edr-bridge config check")
	}
	addr, err := pages.Listen(ctx)
	if err != nil {
		return nil, fail(exitConfig, "config.metrics", err, "choose another port in metrics.listen")
	}
	w.onClose(func() { _ = pages.Close() }) // after a start that failed further on; else Serve did it
	w.log.Info("metrics page open", "address", addr.String())
	return pages.Serve, nil
}

// health says how the parts of the bridge are doing.
func (w *wiring) health(ctx context.Context, st *store.Store, feeds []feed) api.Health {
	h := api.Health{Store: part("store", st.Healthy(ctx))}
	for _, f := range feeds {
		var err error
		if !f.src.Connected() {
			err = fmt.Errorf("not connected")
		}
		h.Parts = append(h.Parts, part("source "+f.name, err))
	}
	for _, profile := range slices.Sorted(maps.Keys(w.servers)) {
		h.Parts = append(h.Parts, part(kscPath(profile), w.servers[profile].Ping(ctx)))
	}
	return h
}

func part(name string, err error) api.Part {
	p := api.Part{Name: name, OK: err == nil}
	if err != nil {
		p.Detail = err.Error()
	}
	return p
}
