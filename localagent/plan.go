package localagent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// plan is what one look over all processes found.
type plan struct {
	targets []*pinned
	// kept names the matches that must not be ended, reason is the first one's.
	kept   []string
	reason bridge.Reason
	// unseen names the processes that the agent could not look at.
	unseen []string
	// forest is set once the targets hold their descendants.
	forest forest
}

// close lets go of everything that is still held.
func (pl *plan) close() {
	pl.forest.letGo(pl.targets)
	for _, p := range pl.targets {
		p.close()
	}
}

func (pl *plan) keep(r bridge.Reason, text string) {
	if pl.reason == bridge.ReasonNone {
		pl.reason = r
	}
	if !slices.Contains(pl.kept, text) {
		pl.kept = append(pl.kept, text)
	}
}

// plan pins every process that fulfils the criteria and sorts out the protected ones. More than MaxTargets are an
// error: nothing of such an order is carried out.
func (a *Agent) plan(ctx context.Context, c *criteria) (_ *plan, err error) {
	pids, err := candidates(ctx, c)
	if err != nil {
		if v, ok := errors.AsType[*verdict.Error](err); ok {
			return nil, v
		}
		return nil, verdict.Untouched("list processes: %w", err)
	}
	pl := &plan{}
	defer func() {
		if err != nil {
			pl.close()
		}
	}()
	count := 0
	for _, pid := range pids {
		if err := verdict.Stopped(ctx, "look for processes"); err != nil {
			return nil, err
		}
		found, err := a.consider(ctx, pl, pid, c, count < a.cfg.MaxTargets)
		if err != nil {
			return nil, err
		}
		if found {
			count++
		}
	}
	if count > a.cfg.MaxTargets {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "%d processes match, one order may end %d (max_targets): nothing was ended", count, a.cfg.MaxTargets)
	}
	return pl, nil
}

// consider adds the process to the plan when it fulfils the criteria and reports whether it is to be ended.
func (a *Agent) consider(ctx context.Context, pl *plan, pid int, c *criteria, keep bool) (bool, error) {
	p, err := pin(pid)
	if err != nil {
		if errors.Is(err, errGone) || errors.Is(err, errThread) {
			return false, nil
		}
		if errors.Is(err, errSealed) {
			if checkPID(pid) == nil {
				pl.unseen = append(pl.unseen, fmt.Sprintf("pid %d (%v)", pid, err))
			}
			return false, nil
		}
		return false, verdict.Hopeless("look at process %d: %w", pid, err)
	}
	taken := false
	defer func() {
		if !taken {
			p.close()
		}
	}()
	name, err := a.matches(ctx, p, c)
	if err != nil {
		if p.ended() {
			return false, nil
		}
		if context.Cause(ctx) != nil {
			return false, a.matchVerdict(ctx, p, err)
		}
		// One file that cannot be read keeps no other process from being ended.
		pl.unseen = append(pl.unseen, fmt.Sprintf("pid %d (%v)", pid, err))
		return false, nil
	}
	if name == "" {
		return false, nil
	}
	reason, why, err := a.protected(ctx, p)
	if errors.Is(err, errGone) {
		return false, nil
	}
	if err != nil {
		return false, verdict.Hopeless("protections of process %d: %w", pid, err)
	}
	if reason != bridge.ReasonNone {
		pl.keep(reason, fmt.Sprintf("%s: %s", p, why))
		return false, nil
	}
	if keep {
		taken = true
		pl.targets = append(pl.targets, p)
	}
	return true, nil
}
