package localagent

import (
	"context"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// guardPatience is how long the first rule waits for the guard to watch the file systems.
	guardPatience = 15 * time.Second
	guardPoll     = 20 * time.Millisecond
)

// guardSwitch starts the guard of executions when there is something to guard: without rules no program of this machine is asked about.
// Its zero value is not ready, see newGuardSwitch.
type guardSwitch struct {
	once   sync.Once
	wanted chan struct{}
}

func newGuardSwitch() *guardSwitch { return &guardSwitch{wanted: make(chan struct{})} }

// want starts the guard of an agent that runs.
func (s *guardSwitch) want() { s.once.Do(func() { close(s.wanted) }) }

// watchGuard waits for the first rule, then keeps the guard running until ctx ends.
func (a *Agent) watchGuard(ctx context.Context) {
	rules, err := a.guard.Rules(ctx)
	if err != nil {
		a.log.Error("rules of prevented executions cannot be read: nothing is prevented until they can", "err", err)
	}
	if len(rules) > 0 || err != nil { // the guard reads them again and again
		a.switched.want()
	}
	select {
	case <-ctx.Done():
	case <-a.switched.wanted:
		a.watch(ctx, "prevented executions", a.guard.Run)
	}
}

// prevent carries out preventExecution.
func (a *Agent) prevent(ctx context.Context, o bridge.Order, t bridge.PreventExecution) (bridge.Receipt, error) {
	if !a.cfg.DryRun && a.cfg.Resident {
		if err := a.awaitGuard(ctx); err != nil {
			return bridge.Receipt{}, err
		}
	}
	return a.guard.Add(ctx, o.ID, t)
}

// awaitGuard starts the guard and waits until it watches. Whatever is wrong then is for Add to say.
func (a *Agent) awaitGuard(ctx context.Context) error {
	a.switched.want()
	patience := time.NewTimer(guardPatience)
	defer patience.Stop()
	poll := time.NewTicker(guardPoll)
	defer poll.Stop()
	for !a.guard.Running() {
		select {
		case <-ctx.Done():
			return verdict.Stopped(ctx, "not begun")
		case <-patience.C:
			return nil
		case <-poll.C:
		}
	}
	return nil
}
