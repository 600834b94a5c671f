package localagent

import (
	"context"
	"os"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// Status is what the agent can do on this machine and what it has done to it.
type Status struct {
	// Resident says that an agent runs, DryRun that it only says what it would do.
	Resident bool `json:"resident"`
	DryRun   bool `json:"dry_run"`
	// Capabilities are what the agent needs from the machine.
	Capabilities []Capability `json:"capabilities"`
	// Isolation is whether this machine is isolated; IsolationError why that cannot be told.
	Isolation      firewall.State `json:"isolation"`
	IsolationError string         `json:"isolation_error,omitempty"`
	// Blocks counts blocked addresses.
	Blocks     int               `json:"blocks"`
	Prevention prevention.Status `json:"prevention"`
	// QuarantineFiles and QuarantineBytes are what the quarantine holds.
	QuarantineFiles int   `json:"quarantine_files"`
	QuarantineBytes int64 `json:"quarantine_bytes"`
	// Jobs counts the known ones, JobsRunning those under way.
	Jobs        int `json:"jobs"`
	JobsRunning int `json:"jobs_running"`
}

// Status looks at everything once; what cannot be looked at is left out or told in its place. It blocks for some 50 ms.
func (a *Agent) Status(ctx context.Context) Status {
	st := Status{Resident: a.cfg.Resident, DryRun: a.cfg.DryRun, Capabilities: a.Probe(ctx)}
	var err error
	if st.Isolation, err = a.wall.Isolated(ctx); err != nil {
		st.IsolationError = err.Error()
	}
	if blocks, err := a.wall.Blocked(ctx); err == nil {
		st.Blocks = len(blocks)
	}
	if st.Prevention, err = a.guard.Status(ctx); err != nil {
		st.Prevention.LastError = err.Error()
	}
	// A vault nobody has put anything into yet is not made for a look.
	if _, err := os.Stat(a.vault.Dir()); err == nil {
		if items, err := a.vault.List(ctx); err == nil {
			st.QuarantineFiles = len(items)
		}
		st.QuarantineBytes, _ = a.vault.Used(ctx)
	}
	records, _ := a.jobs.Summaries()
	st.Jobs = len(records)
	for _, r := range records {
		if r.State == bridge.StateRunning {
			st.JobsRunning++
		}
	}
	return st
}

// Rules returns the rules of preventExecution.
func (a *Agent) Rules(ctx context.Context) ([]prevention.Rule, error) { return a.guard.Rules(ctx) }

// RemoveRule takes a rule of preventExecution away; the error wraps prevention.ErrNoRule when there is none.
func (a *Agent) RemoveRule(ctx context.Context, id string) error { return a.guard.Remove(ctx, id) }

// StopPrevention lets everything be executed again, until ResumePrevention.
func (a *Agent) StopPrevention() error { return a.guard.Disable() }

// ResumePrevention lets the guard block again after StopPrevention, or after its breaker stopped rules.
func (a *Agent) ResumePrevention(ctx context.Context) error { return a.guard.Resume(ctx) }

// Jobs returns scans and programs that were started, the latest first, without their results. Records that cannot be read are errors beside
// the others.
func (a *Agent) Jobs() ([]jobs.Record, error) { return a.jobs.Summaries() }

// Job returns the job of an order with its result; the error wraps jobs.ErrUnknown when there is none.
func (a *Agent) Job(orderID string) (jobs.Record, error) { return a.jobs.Of(orderID) }

// CancelJob tells the job of an order to end; the error wraps jobs.ErrUnknown when none runs here.
func (a *Agent) CancelJob(id string) error { return a.jobs.Cancel(id) }

// Release gives this machine its network back, without an order. Errors are *bridge.ExecError.
func (a *Agent) Release(ctx context.Context) (bridge.Receipt, error) {
	const byHand = "by hand"
	r, err := a.wall.Release(ctx, byHand)
	if err != nil {
		v := verdict.Of(err)
		return a.fail(bridge.Order{ID: byHand}, v.Class, v.Reason, v.Err)
	}
	return r, nil
}

// ListenExecutions is the life of the process that answers the kernel about executions; see prevention.Listen.
func ListenExecutions(ctx context.Context, cfg Config, conn *os.File) error {
	r, err := newRooms(&cfg)
	if err != nil {
		return err
	}
	return prevention.Listen(ctx, r.guardConfig, conn)
}
