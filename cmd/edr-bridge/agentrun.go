package main

import (
	"context"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/localagent/socket"
)

const (
	// leaseEvery is how often the agent is told how long its machine stays isolated.
	leaseEvery = time.Second
	// agentState is how long an agent may take to say how it stands.
	agentAnswer = 10 * time.Second
)

// trustAgent refuses to act with root's rights by files others can change; a bridge whose agent is apart acts on nothing.
func (w *wiring) trustAgent(set *configs.Settings) error {
	if !w.set.Local.Enabled || w.set.Local.Separate {
		return w.app.closeState(set)
	}
	return w.trustOwn(set)
}

// readyAgent prepares the agent of this process and returns what has to go on beside the pipeline: its watch over what it did, its
// socket, and the leases it has to know. With a separate agent the leases are all.
func (w *wiring) readyAgent(ctx context.Context, st *store.Store) ([]func(context.Context) error, error) {
	if names := w.unkept(); w.set.Local.Enabled && len(names) > 0 {
		w.log.Warn(unkeptText, "sources", names)
	}
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

// followLeases tells the agent how long this machine stays isolated: a second reason makes a lease longer and no second order. A machine that is
// not isolated although a lease says so was released behind the bridge's back, or its isolation was taken away: that is told, once
// for each lease, and left to people.
func (w *wiring) followLeases(st *store.Store, keep func(context.Context, time.Time) (bool, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		every := time.NewTicker(leaseEvery)
		defer every.Stop()
		var told, failed string
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
			latest, any := w.latestLease(leases)
			if !any {
				continue
			}
			on, err := keep(ctx, latest.Until)
			if err == nil {
				failed = ""
			}
			switch {
			case ctx.Err() != nil:
			case err != nil && failed != err.Error():
				failed = err.Error()
				w.log.Warn("isolation was not made longer, trying again each second", "until", latest.Until, "err", err)
			case err != nil:
			case !on && told != latest.Order:
				told = latest.Order
				w.tampered("this machine is not isolated, although a lease holds (order " + latest.Order + "): release it, or isolate it again")
			}
		}
	}
}

// latestLease is the lease of this machine that ends last, or never, of those whose isolation by the local agent has happened.
func (w *wiring) latestLease(leases []bridge.Lease) (latest bridge.Lease, any bool) {
	for _, l := range leases {
		if l.Executor != bridge.ExecutorLocal || l.Isolated.IsZero() || !w.self.Is(l.Host) {
			continue
		}
		if !l.Until.IsZero() && time.Until(l.Until) < leaseEvery {
			continue // the keeper releases it at this moment
		}
		if !any || l.Until.IsZero() || !latest.Until.IsZero() && l.Until.After(latest.Until) {
			latest, any = l, true
		}
	}
	return latest, any
}

// askKeep tells a separate agent. Where none runs nothing is told: its isolation stands by the system's timer, and this process has no
// business with the firewall.
func (w *wiring) askKeep(ctx context.Context, until time.Time) (on bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, agentAnswer)
	defer cancel()
	err = socket.NewClient(w.set.Local.Socket).Ask(ctx, askKeep, until, &on)
	return on, err
}
