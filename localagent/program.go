package localagent

import (
	"context"
	"errors"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// startProgram carries out startProcess. A resident agent answers as soon as the program runs and tells its end later. The job is on disk
// before the program begins: whatever happens in between, somebody waits for its end and holds it to its time.
func (a *Agent) startProgram(ctx context.Context, o bridge.Order, t bridge.StartProcess) (bridge.Receipt, error) {
	if a.cfg.DryRun {
		run, err := a.start.Start(ctx, o.ID, t, 0)
		if err != nil {
			return bridge.Receipt{}, err
		}
		return verdict.DryRun("would have started " + run.String()), nil
	}
	begun := make(chan error, 1)
	r, fresh, err := a.jobs.Begin(ctx, o.ID, o.Task.Kind(), func(own context.Context, tell func(string)) (string, any, error) {
		err := a.beginProgram(ctx, o.ID, t) // the order's ctx: what was not begun when it ends is not begun at all
		begun <- err
		if err != nil {
			return "", nil, jobs.ErrNotBegun
		}
		return a.awaitProgram(o.ID)(own, tell)
	})
	if err != nil {
		return bridge.Receipt{}, err
	}
	if fresh {
		if err := <-begun; err != nil {
			_, _ = a.jobs.Wait(context.WithoutCancel(ctx), o.ID) // the job is about to be forgotten: the same order may come again at once
			return bridge.Receipt{}, err
		}
	}
	if r.State == bridge.StateRunning {
		run, err := a.start.Found(o.ID)
		if errors.Is(err, ErrNotStarted) {
			return bridge.Receipt{}, verdict.Untouched("it is being started at this moment")
		}
		if err != nil {
			return bridge.Receipt{}, err
		}
		r.Detail = "started " + run.String()
	}
	receipt, err := a.outcome(ctx, o, r)
	if err != nil && fresh && verdict.Of(err).Class != bridge.Unknown {
		return bridge.Receipt{}, verdict.Undecided("%s, and then: %w", r.Detail, err)
	}
	return receipt, err
}

// beginProgram starts the program of an order; a panic is an error like any other, because somebody waits for the answer.
func (a *Agent) beginProgram(ctx context.Context, orderID string, t bridge.StartProcess) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = verdict.Undecided("the start broke off: %v", v)
		}
	}()
	_, err = a.start.Start(ctx, orderID, t, 0)
	return err
}

// endAgain is how long the agent waits before it tries again to end a program whose time is over.
const endAgain = time.Minute

// awaitProgram waits for the end of the program of an order, which goes on when nobody waits. Cancelling the job ends the program.
func (a *Agent) awaitProgram(orderID string) jobs.Work {
	return func(ctx context.Context, tell func(string)) (string, any, error) {
		run, err := a.start.Found(orderID)
		if errors.Is(err, ErrNotStarted) {
			return "", nil, jobs.ErrNotBegun // an agent ended between the record of the job and that of the program
		}
		if err != nil {
			return "", nil, verdict.Of(err).Err
		}
		tell("started " + run.String())
		for {
			exit, err := run.Wait(ctx)
			switch {
			case err == nil:
				return run.String() + ": " + exit.String(), exit, nil
			case errors.Is(err, ErrStillRunning) && jobs.Cancelled(ctx):
				return "", nil, errors.New(endProgram(context.WithoutCancel(ctx), run))
			case errors.Is(err, ErrStillRunning) && ctx.Err() != nil:
				return "", nil, jobs.ErrGoesOn
			case errors.Is(err, ErrStillRunning):
				a.log.Error("a program whose time is over goes on", "order", orderID, "err", err)
				tell(err.Error())
				select {
				case <-ctx.Done():
				case <-time.After(endAgain):
				}
			default:
				return "", nil, verdict.Of(err).Err
			}
		}
	}
}

// endProgram ends a program a person cancelled, with all it started.
func endProgram(ctx context.Context, run *Run) string {
	exit, err := run.End(ctx)
	if err != nil {
		return "cancelled, but it may go on: " + err.Error()
	}
	return "cancelled: " + exit.String()
}
