package main

import (
	"context"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

const (
	// leaseEvery is how often the agent is told how long its machine stays isolated.
	leaseEvery = 30 * time.Second
	// agentState is how long an agent may take to say how it stands.
	agentAnswer = 10 * time.Second
)

// trustAgent refuses to act with root's rights by files others can change; a bridge whose agent is apart acts on nothing.
func (w *wiring) trustAgent() error {
	if !w.set.Local.Enabled || w.set.Local.Separate {
		return nil
	}
	return w.trustOwn()
}

// readyAgent prepares the agent of this process and returns what has to go on beside the pipeline: its watch over what it did, its
// socket, and the leases it has to know. With a separate agent the leases are all.
func (w *wiring) readyAgent(ctx context.Context, st *store.Store) ([]func(context.Context) error, error) {
	switch {
	case !w.set.Local.Enabled:
		return nil, nil
	case w.set.Local.Separate:
		return []func(context.Context) error{w.followLeases(st, w.askKeep)}, nil
	}
	agent, err := w.openAgent()
	if err != nil {
		return nil, err
	}
	if err := agent.Prepare(ctx); err != nil {
		w.log.Warn("local agent cannot act", "err", err)
	}
	parts := []func(context.Context) error{agent.Run, w.followLeases(st, agent.KeepIsolated)}
	server, err := w.openAgentSocket(agent)
	if err != nil {
		w.log.Warn("agent socket was not opened: verbs about the agent look at what it left behind", "err", err)
		return parts, nil
	}
	return append(parts, func(ctx context.Context) error {
		if err := server.Serve(ctx, nil); err != nil {
			w.log.Warn("agent socket was not opened: verbs about the agent look at what it left behind", "err", err)
		}
		return nil
	}), nil
}

// followLeases tells the agent how long this machine stays isolated: a second reason makes a lease longer and no second order.
func (w *wiring) followLeases(st *store.Store, keep func(context.Context, time.Time) error) func(context.Context) error {
	return func(ctx context.Context) error {
		every := time.NewTicker(leaseEvery)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-every.C:
			}
			leases, err := st.Leases(ctx)
			if err != nil {
				continue // the keeper says so
			}
			var until time.Time
			for _, l := range leases {
				if l.Executor == bridge.ExecutorLocal && l.Until.After(until) {
					until = l.Until
				}
			}
			if until.IsZero() {
				continue
			}
			if err := keep(ctx, until); err != nil && ctx.Err() == nil {
				w.log.Warn("isolation was not made longer", "until", until, "err", err)
			}
		}
	}
}

// askKeep tells a separate agent.
func (w *wiring) askKeep(ctx context.Context, until time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, agentAnswer)
	defer cancel()
	_, err := w.askAgent(ctx, askKeep, until, nil)
	return err
}
