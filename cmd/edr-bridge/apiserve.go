package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge/api"
)

// openSocket opens the control socket; serve answers on it until ctx ends. A bridge without its socket still works, and says so.
func (w *wiring) openSocket(ctx context.Context, d *desk) (serve func(context.Context) error, err error) {
	none := func(context.Context) error { return nil }
	if !w.set.API.Enabled {
		return none, nil
	}
	started := time.Now().UTC()
	server, err := api.NewServer(api.ServerConfig{Desk: d, Logger: w.log, Status: func(ctx context.Context) (api.Status, error) {
		figures, err := d.Figures(ctx)
		if err != nil {
			return api.Status{}, err
		}
		return api.Status{
			Version: version(), PID: os.Getpid(), Started: started, Mode: w.set.Mode, Hold: w.hold.Get(), Counts: countsOf(figures),
		}, nil
	}})
	if err != nil {
		return nil, err
	}
	if err := server.Listen(ctx, w.set.API.Socket, w.set.API.Group); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			w.log.Info("no control socket on this system: verbs open the store", "err", err)
			return none, nil
		}
		w.log.Warn("control socket was not opened: verbs open the store", "err", err)
		return none, nil
	}
	w.onClose(func() { _ = server.Close() }) // after a start that failed further on; else Serve did it
	w.log.Info("control socket open", "path", w.set.API.Socket)
	return server.Serve, nil
}
