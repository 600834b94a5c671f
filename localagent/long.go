package localagent

import (
	"context"
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// long carries out work that takes longer than an order may hold its place. A resident agent accepts it and tells later how it went
// (Follow); else Execute waits, and the end of ctx cancels the work.
func (a *Agent) long(ctx context.Context, o bridge.Order, work jobs.Work) (bridge.Receipt, error) {
	r, _, err := a.jobs.Begin(ctx, o.ID, o.Task.Kind(), work)
	if err != nil {
		return bridge.Receipt{}, err
	}
	return a.outcome(ctx, o, r)
}

// outcome answers what became of a job that has begun.
func (a *Agent) outcome(ctx context.Context, o bridge.Order, r jobs.Record) (bridge.Receipt, error) {
	if a.cfg.Resident && r.State == bridge.StateRunning {
		return bridge.Receipt{State: bridge.StateAccepted, Ref: o.ID, Detail: r.Detail}, nil
	}
	r, err := a.jobs.Wait(ctx, o.ID)
	if err == nil {
		return ended(r)
	}
	if !errors.Is(err, context.Cause(ctx)) {
		return bridge.Receipt{}, verdict.Undecided("%w", err)
	}
	// A job of another process goes on by itself; one of this process must not outlive the caller.
	if cerr := a.jobs.Cancel(o.ID); cerr == nil {
		if r, err := a.jobs.Wait(context.WithoutCancel(ctx), o.ID); err == nil {
			return ended(r)
		}
	}
	return bridge.Receipt{}, verdict.Undecided("%s: %w", r.Detail, err)
}

// ended turns the record of a job into what Execute answers.
func ended(r jobs.Record) (bridge.Receipt, error) {
	switch r.State {
	case bridge.StateDone:
		return bridge.Receipt{State: bridge.StateDone, Ref: r.ID, Detail: r.Detail}, nil
	case bridge.StateFailed:
		return bridge.Receipt{}, verdict.Hopeless("%s", r.Detail)
	default:
		return bridge.Receipt{}, verdict.Undecided("it is %s: %s", r.State, r.Detail)
	}
}

// maxFollowErrors is how many orders are named in an error of Follow.
const maxFollowErrors = 8

// Follow tells how accepted orders go on. It answers from memory and disk, at once. One whose record cannot be read does not keep the others
// from being told; the error, class Retry, comes with what was told.
func (a *Agent) Follow(ctx context.Context, orders []bridge.Order) ([]bridge.Progress, error) {
	var (
		told   []bridge.Progress
		errs   []error
		failed int
	)
	for _, o := range orders {
		if cause := context.Cause(ctx); cause != nil {
			errs = append(errs, fmt.Errorf("follow: %w", cause))
			break
		}
		r, err := a.jobs.Of(o.ID)
		switch {
		case err == nil:
			told = append(told, bridge.Progress{OrderID: o.ID, State: r.State, Detail: r.Detail})
		case errors.Is(err, jobs.ErrUnknown):
		default:
			if failed++; failed <= maxFollowErrors {
				errs = append(errs, fmt.Errorf("order %s: %w", o.ID, err))
			}
		}
	}
	if failed > maxFollowErrors {
		errs = append(errs, fmt.Errorf("and %d orders more", failed-maxFollowErrors))
	}
	if err := errors.Join(errs...); err != nil {
		return told, &bridge.ExecError{Executor: bridge.ExecutorLocal, Class: bridge.Retry, Err: err}
	}
	return told, nil
}

// Repeats reports whether the agent remembers what became of orders of this kind.
func (a *Agent) Repeats(k bridge.Kind) bool { return jobs.Remembers(k) }
