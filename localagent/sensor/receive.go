package sensor

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Receive returns the next alert. It blocks until one is there, ctx ends, or the source is over: after Run has ended it still hands
// out what waits, then bridge.ErrClosed; after Close it answers that at once. Settled with an error, an alert comes again after 0.1 s to 5 s.
// What is in the spool and not settled comes again after a restart. It is not for a sensor with Emit.
func (s *Sensor) Receive(ctx context.Context) (bridge.Delivery, error) {
	box := s.outboxes[0]
	w, err := box.next(ctx, s.life.Closing(), s.life.Done())
	if err != nil {
		return bridge.Delivery{}, err
	}
	var settled atomic.Bool
	return bridge.Delivery{
		Alert: bridge.Alert{ID: AlertID(w.body), Source: s.cfg.Name, Preset: s.cfg.Preset, Received: w.since, Raw: w.body},
		Settle: func(_ context.Context, err error) error {
			if settled.Swap(true) {
				return errSettled
			}
			if err == nil || errors.Is(err, bridge.ErrBadAlert) {
				return box.settle(w)
			}
			return box.giveBack(w, box.postpone(w))
		},
	}, nil
}

// Close ends Run, waits for it within ctx and closes the spool. What is not settled comes again after the next start, if it is in
// a spool; a later Settle answers bridge.ErrClosed.
func (s *Sensor) Close(ctx context.Context) error {
	if _, err := s.life.Shut(ctx); err != nil {
		return err
	}
	return s.closeOutboxes()
}
