package api

import (
	"context"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// maxEntry is how many orders one Send takes.
const maxEntry = 10_000

// send lets the desk carry out orders a client entered, as the user of the socket.
func (s *Server) send(ctx context.Context, uid uint32, e entry) ([]order, error) {
	if len(e.Orders) > maxEntry {
		return nil, fmt.Errorf("%w: %d orders at once, allowed are %d", errInvalid, len(e.Orders), maxEntry)
	}
	orders, err := decodeOrders(e.Orders)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	for i, o := range orders {
		if err := enterable(o); err != nil {
			return nil, fmt.Errorf("%w: order %d: %w", errInvalid, i+1, err)
		}
		orders[i].Actor = actorOf(uid, o.Actor)
	}
	select {
	case s.sends <- struct{}{}:
		defer func() { <-s.sends }()
	default:
		return nil, fmt.Errorf("%w: it carries out %d requests to send: try again later", errBusy, maxSends)
	}
	done, err := s.cfg.Desk.Send(ctx, orders)
	return withEach(done, err, encodeOrder)
}

// enterable refuses an order that says more than a person may say: what came of it, which rule or alert wanted it, who approved.
func enterable(o bridge.Order) error {
	if o.ID == "" || o.Host == "" || o.Task == nil {
		return fmt.Errorf("id, host and task are required")
	}
	if o.Mode != "" {
		if _, err := bridge.ParseMode(string(o.Mode)); err != nil {
			return err
		}
	}
	switch o.Via {
	case "", bridge.ViaAuto, bridge.ViaKSC, bridge.ViaLocal:
	default:
		return fmt.Errorf("unknown via %q: want auto, ksc or local", o.Via)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"alert", o.AlertID != ""},
		{"source", o.Source != ""},
		{"rule", o.Rule != ""},
		{"at", o.At != ""},
		{"dedupe", o.Dedupe != ""},
		{"window", o.Window != 0},
		{"strike", o.Strike != ""},
		{"strike_count", o.StrikeCount != 0},
		{"strike_within", o.StrikeWithin != 0},
		{"alert_time", !o.AlertTime.IsZero()},
		{"created", !o.Created.IsZero()},
		{"not_after", !o.NotAfter.IsZero()},
		{"state", o.State != ""},
		{"reason", o.Reason != ""},
		{"detail", o.Detail != ""},
		{"covered_by", o.Covers != ""},
		{"executor", o.Executor != ""},
		{"intent", o.Intent.Target != "" || len(o.Intent.Names) > 0 || !o.Intent.Second.IsZero() || o.Intent.Body != ""},
		{"attempts", o.Attempts != 0},
		{"ref", o.Ref != ""},
		{"approval", o.Approval != bridge.Approval{}},
		{"due", !o.Due.IsZero()},
		{"updated", !o.Updated.IsZero()},
	} {
		if f.set {
			return fmt.Errorf("%s: is for the bridge to say", f.name)
		}
	}
	return nil
}
