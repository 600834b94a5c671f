package localagent

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// forest holds nothing: Windows has no documented way to stop a process from outside.
type forest struct{ grown bool }

func (*forest) kill([]*pinned) {}

func (*forest) letGo([]*pinned) {}

// hurry changes nothing here.
func hurry() (done func()) { return func() {} }

// grow adds all descendants of the targets to the plan, by the parents of one snapshot after the other until a round adds nothing. A
// parent's number counts only for children that are younger: numbers are given away. Protected descendants are left running.
func (a *Agent) grow(ctx context.Context, pl *plan) error {
	for {
		if err := verdict.Stopped(ctx, "look for the tree"); err != nil {
			return err
		}
		late, err := a.stragglers(ctx, pl)
		if err != nil {
			return err
		}
		if late == nil {
			pl.forest.grown = true
			return nil
		}
		pl.targets = append(pl.targets, late.targets...)
		if n := len(pl.targets); n > a.cfg.MaxTargets {
			return verdict.Refuse(bridge.ReasonInvalid, "the tree has more than %d processes, one order may end %d (max_targets): nothing was ended", n-1, a.cfg.MaxTargets)
		}
	}
}

// stragglers returns the children of the targets that are not among them, or nil. The handles keep the numbers of ended parents from
// being given away.
func (a *Agent) stragglers(ctx context.Context, pl *plan) (_ *plan, err error) {
	parents := make(map[int]*pinned, len(pl.targets))
	for _, p := range pl.targets {
		parents[p.pid] = p
	}
	children := make(map[int]*pinned)
	err = eachProcess(func(e *windows.ProcessEntry32) bool {
		_, known := parents[int(e.ProcessID)]
		if parent, ok := parents[int(e.ParentProcessID)]; ok && !known && e.ProcessID > 4 {
			children[int(e.ProcessID)] = parent
		}
		return ctx.Err() == nil
	})
	if err != nil {
		return nil, verdict.Untouched("look for the tree: %w", err)
	}
	late := &plan{}
	defer func() {
		if err != nil {
			late.close()
		}
	}()
	for pid, parent := range children {
		p, err := pin(pid)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return nil, verdict.Hopeless("look at the tree: %w", err)
		}
		reason, why, err := a.protected(ctx, p)
		if err != nil || p.start < parent.start || reason != bridge.ReasonNone {
			if err == nil && reason != bridge.ReasonNone {
				pl.keep(reason, fmt.Sprintf("%s: %s", p, why))
			}
			p.close()
			if err != nil {
				return nil, verdict.Hopeless("look at the tree: %w", err)
			}
			continue
		}
		late.targets = append(late.targets, p)
	}
	if len(late.targets) == 0 {
		return nil, nil //nolint:nilnil // nothing, and no error
	}
	return late, nil
}
