package localagent

import (
	"context"
	"errors"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// startProgram carries out startProcess. A resident agent answers as soon as the program runs and tells its end later.
func (a *Agent) startProgram(ctx context.Context, o bridge.Order, t bridge.StartProcess) (bridge.Receipt, error) {
	run, err := a.start.Start(ctx, o.ID, t, 0)
	if err != nil {
		return bridge.Receipt{}, err
	}
	if run.Shadow {
		return verdict.DryRun("would have started " + run.String()), nil
	}
	r, err := a.long(ctx, o, a.awaitProgram(o.ID))
	if err != nil && verdict.Of(err).Class != bridge.Unknown {
		return bridge.Receipt{}, verdict.Undecided("started %s, and then: %w", run, err)
	}
	if err == nil && r.State == bridge.StateAccepted {
		r.Detail = "started " + run.String()
	}
	return r, err
}

// awaitProgram waits for the end of the program of an order, which goes on when nobody waits. Cancelling the job ends the program.
func (a *Agent) awaitProgram(orderID string) jobs.Work {
	return func(ctx context.Context, tell func(string)) (string, any, error) {
		run, err := a.start.Found(orderID)
		if err != nil {
			return "", nil, verdict.Of(err).Err
		}
		tell("started " + run.String())
		exit, err := run.Wait(ctx)
		switch {
		case errors.Is(err, ErrStillRunning) && jobs.Cancelled(ctx):
			return "", nil, errors.New(endProgram(context.WithoutCancel(ctx), run))
		case errors.Is(err, ErrStillRunning):
			return "", nil, jobs.ErrGoesOn
		case err != nil:
			return "", nil, verdict.Of(err).Err
		default:
			return run.String() + ": " + exit.String(), exit, nil
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
