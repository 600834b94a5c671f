package sensor

import (
	"context"
	"errors"
	"time"
)

// poll lists the processes again and again, until ctx ends or, when again is set, that time is over. why says why it has to.
func (s *Sensor) poll(ctx context.Context, o *observer, why error, again time.Duration) error {
	if s.Err() == nil {
		s.log.WarnContext(ctx, "the sensor lists processes instead of being told: those that live shorter than the pause are missed",
			"pause", s.cfg.Poll.String(), "err", why)
	}
	s.state.watches(MethodPolling, why)
	if err := o.start(); err != nil {
		return err
	}
	s.life.Stood()
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	var until <-chan time.Time
	if again > 0 {
		t := time.NewTimer(again)
		defer t.Stop()
		until = t.C
	}
	failed := false
	for {
		select {
		case <-tick.C:
		case <-until:
			return nil
		case <-ctx.Done():
			return nil
		}
		err := o.rescan()
		o.lookAgain(false)
		if errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		if err != nil && !failed {
			s.log.WarnContext(ctx, "the sensor cannot list processes", "err", err)
		}
		failed = err != nil
	}
}

// start reads the processes there are at first, and later compares them with the table.
func (o *observer) start() error {
	if len(o.table.known) == 0 {
		return o.seed()
	}
	return o.rescan()
}
