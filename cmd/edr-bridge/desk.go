package main

import (
	"context"
	"errors"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/api"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

// desk works on the store of this process: that of a running bridge, which answers others with it over its socket, or that of
// a verb that found no bridge running.
type desk struct {
	*store.Store
	w *wiring
	// pipe is the running pipeline; nil in a verb.
	pipe *bridge.Pipeline
}

var _ bridge.Desk = (*desk)(nil)

// Send carries orders out in the running pipeline, or in one made for them.
func (d *desk) Send(ctx context.Context, orders []bridge.Order) ([]bridge.Order, error) {
	for i := range orders {
		if bridge.IsIsolation(orders[i].Task) && orders[i].For == 0 {
			orders[i].For = d.w.set.Leases.Default
		}
	}
	if d.pipe != nil {
		return d.pipe.Submit(ctx, orders)
	}
	if len(orders) > 0 {
		d.w.addressEarly(ctx, orders[0])
	}
	pipe, err := d.w.openPipeline(nil, d.Store)
	if err != nil {
		return nil, err
	}
	return pipe.Submit(ctx, orders)
}

// Decide lets an approved order go on at once where a bridge runs; else the next start takes it up.
func (d *desk) Decide(ctx context.Context, word bridge.Decision) (bridge.Order, error) {
	o, err := d.Store.Decide(ctx, word)
	if err != nil || d.pipe == nil || o.State != bridge.StateQueued {
		return o, err
	}
	// The decision is on disk: if the pipeline has no room before ctx ends, the keeper finds the order.
	if err := d.pipe.Resume(ctx, []bridge.Order{o}); err != nil && ctx.Err() == nil {
		d.w.log.Warn("approved order was not taken up at once", "order", o.ID, "err", err)
	}
	return o, nil
}

// RetryLetter has a running bridge read the letter at once; else the next start does. It returns the letter as it stands then, or
// as it was when it could be read.
func (d *desk) RetryLetter(ctx context.Context, id, actor string) (bridge.DeadLetter, error) {
	l, err := d.Store.RetryLetter(ctx, id, actor)
	if err != nil || d.pipe == nil {
		return l, err
	}
	raw := bridge.Alert{ID: l.Entry, Source: l.Source, Received: l.First, Raw: l.Document}
	err = d.pipe.Feed(ctx, raw, func(ctx context.Context, err error) error {
		if err == nil {
			return d.Unbury(ctx, l.ID)
		}
		return nil // it was buried again, with one attempt more
	})
	if err != nil {
		// The word is on disk: the keeper has it read when there is room.
		d.w.log.Warn("dead letter was not read at once", "source_name", l.Source, "err", err)
		return l, nil
	}
	if again, err := d.Letter(ctx, l.ID); err == nil {
		return again, nil
	}
	return l, nil
}

// alone reports whether the verb works on the store itself, because no bridge answered.
func alone(d bridge.Desk) bool {
	_, direct := d.(*desk)
	return direct
}

// openDesk finds the bridge that runs on this state directory, or opens the store when none does; done closes
// what was opened.
func (a *app) openDesk(ctx context.Context) (d bridge.Desk, done func(), err error) {
	return a.sitDown(ctx, false)
}

// lookDesk is openDesk for a verb that changes nothing: it shows a damaged store as well.
func (a *app) lookDesk(ctx context.Context) (d bridge.Desk, done func(), err error) {
	return a.sitDown(ctx, true)
}

func (a *app) sitDown(ctx context.Context, look bool) (d bridge.Desk, done func(), err error) {
	w, err := a.open()
	if err != nil {
		return nil, nil, err
	}
	w.look = look
	if d, err = w.desk(ctx); err != nil {
		w.close()
		return nil, nil, err
	}
	return d, w.close, nil
}

// desk is openDesk for a verb that has its wiring.
func (w *wiring) desk(ctx context.Context) (bridge.Desk, error) {
	if w.set.API.Enabled && w.set.API.Socket != "" {
		client, err := api.Dial(ctx, w.set.API.Socket)
		switch {
		case err == nil:
			return client, nil
		case !errors.Is(err, api.ErrNoBridge):
			return nil, fail(exitUnreachable, "bridge.socket", err, "join the group of the socket (api.group), or run as the bridge's user")
		}
	}
	st, err := w.openStore(ctx, store.OwnerSend)
	if err != nil {
		return nil, err
	}
	return &desk{Store: st, w: w}, nil
}

// deskError turns what a desk says about an order or a dead letter into exit codes.
func deskError(err error, what, hint string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bridge.ErrNotFound), errors.Is(err, bridge.ErrAmbiguous):
		return fail(exitNotFound, what+".not_found", err, hint)
	case errors.Is(err, bridge.ErrNotApprovable):
		return fail(exitRefused, what+".not_approvable", err, hint)
	case errors.Is(err, bridge.ErrStale):
		return fail(exitRefused, what+".moved_on", err, hint)
	default:
		return err
	}
}

// needReason refuses an empty --reason.
func needReason(reason string) error {
	if reason == "" {
		return usagef("--reason is required: it stands in the audit record")
	}
	if len([]rune(reason)) > maxReason {
		return usagef("--reason: at most %d characters", maxReason)
	}
	return nil
}
