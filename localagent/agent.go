package localagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	defaultExitDeadline = 5 * time.Second
	defaultMaxTargets   = 64
	// maxTargetsLimit bounds the pinned processes of one order: two descriptors each.
	maxTargetsLimit = 4096
)

// Config is what the agent may do and how.
type Config struct {
	// Self is what this machine is called; orders for any other host are refused. Required: at least one name
	// or address.
	Self bridge.Identity
	// DryRun lets the agent do everything but the effect; receipts then have StateShadow.
	DryRun bool
	// Grace is how long a process may take to obey SIGTERM before SIGKILL. Zero = SIGKILL at once.
	// Windows has no such signal: there the process is ended at once.
	Grace time.Duration
	// ExitDeadline is how long the agent waits for the kernel to report the exit of a signalled process;
	// zero = 5 s.
	ExitDeadline time.Duration
	// MaxTargets is how many processes one order may end, 1 to 4096; an order that matches more is refused
	// whole. Zero = 64.
	MaxTargets int
	// Protected is the user's never-touch list: it answers ReasonNone for an image that may be ended, else the
	// reason and the entry in words. Nil = no list. It is called by many goroutines at once.
	Protected func(image string) (bridge.Reason, string)
	// ProtectedPIDs returns the processes the bridge itself depends on, such as its Redis server. Nil = none.
	ProtectedPIDs func() []int
	// NeverBlock are networks no block may touch, such as KSC, Redis and the allow list. Loopback, own
	// addresses, default gateways and name servers are refused without being named here.
	NeverBlock []netip.Prefix
	// Logger receives what people want in the timeline of an incident; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Agent carries out orders on this machine. It is safe for many goroutines.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	digests files.Cache
	wall    *firewall.Firewall
	platform
}

var (
	_ bridge.Executor        = (*Agent)(nil)
	_ bridge.ProcessResolver = (*Agent)(nil)
)

// New returns an agent. It reports every problem of cfg at once, does no I/O and starts nothing.
func New(cfg Config) (*Agent, error) {
	var errs []error
	if len(cfg.Self.Names) == 0 && len(cfg.Self.Addresses) == 0 {
		errs = append(errs, errors.New("self: name this machine by at least one name or address"))
	}
	if cfg.Grace < 0 {
		errs = append(errs, errors.New("grace: must not be negative"))
	}
	if cfg.ExitDeadline < 0 {
		errs = append(errs, errors.New("exit_deadline: must not be negative"))
	}
	if cfg.MaxTargets < 0 || cfg.MaxTargets > maxTargetsLimit {
		errs = append(errs, fmt.Errorf("max_targets: %d is not between 1 and %d", cfg.MaxTargets, maxTargetsLimit))
	}
	wall, err := firewall.New(firewall.Config{
		Own: cfg.Self.Addresses, Never: cfg.NeverBlock, DryRun: cfg.DryRun, Logger: cfg.Logger, Now: cfg.Now,
	})
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("local agent: %w", err)
	}
	if cfg.ExitDeadline == 0 {
		cfg.ExitDeadline = defaultExitDeadline
	}
	if cfg.MaxTargets == 0 {
		cfg.MaxTargets = defaultMaxTargets
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Agent{cfg: cfg, log: cfg.Logger, wall: wall}, nil
}

// Prepare reads what the first order would otherwise have to read (own ancestors, never-touch images), which
// takes about a millisecond. Calling it is optional; an error says what the agent lacks to act at all.
func (a *Agent) Prepare(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("prepare: %w", cause)
	}
	if _, err := a.own.get(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	a.images.refresh(a.cfg.Now())
	return nil
}

// Close releases nothing the kernel does not release by itself: blocks stay until their time is over.
func (a *Agent) Close() error { return nil }

// Execute carries out o on this machine. It blocks until the outcome is known, at most Grace and ExitDeadline
// after the signal, or until ctx ends.
//
// terminateProcess ends the process o.Subject when that names a pid, else every process that fulfils all
// criteria of the task. Nothing left to end is done, too: the receipt then says "already gone" or "no process
// matched". It has no undo. blockAddress drops the traffic of an address for o.For; its undo is Unblock, and the
// kernel's own timer. All other tasks are Permanent with ReasonUnsupported.
//
// Errors are *bridge.ExecError: Permanent when the order was refused or cannot work here, Retry when nothing
// happened, Unknown when a process was signalled and its exit not seen.
func (a *Agent) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	if cause := context.Cause(ctx); cause != nil {
		return a.fail(o, bridge.Retry, bridge.ReasonNone, fmt.Errorf("not begun: %w", cause))
	}
	if o.Task == nil {
		return a.fail(o, bridge.Permanent, bridge.ReasonInvalid, errors.New("the order has no task"))
	}
	if !a.cfg.Self.Is(o.Host) {
		return a.fail(o, bridge.Permanent, bridge.ReasonOtherHost,
			fmt.Errorf("the local agent acts on this machine only, not on %s", verdict.Shown(o.Host)))
	}
	if !o.NotAfter.IsZero() && a.cfg.Now().After(o.NotAfter) {
		return a.fail(o, bridge.Permanent, bridge.ReasonAge,
			fmt.Errorf("not begun before %s", o.NotAfter.UTC().Format(time.RFC3339)))
	}
	var (
		r   bridge.Receipt
		err error
	)
	switch t := o.Task.(type) {
	case bridge.TerminateProcess:
		r, err = a.terminate(ctx, o, t)
	case bridge.BlockAddress:
		r, err = a.wall.Block(ctx, t, o.For)
	case bridge.GetFile, bridge.DeleteFile, bridge.QuarantineFile, bridge.IOCScan, bridge.StartProcess,
		bridge.IsolateHost, bridge.PreventExecution, bridge.OnDemandScan:
		err = verdict.Refuse(bridge.ReasonUnsupported, "the local agent does not carry out %s: send it through KSC "+
			"(ksc.address), where Kaspersky Endpoint Security on the host does it", t.Kind())
	default:
		err = verdict.Refuse(bridge.ReasonUnsupported, "the local agent knows no task of type %T", o.Task)
	}
	if err != nil {
		v := verdict.Of(err)
		return a.fail(o, v.Class, v.Reason, v.Err)
	}
	return r, nil
}

func (a *Agent) fail(o bridge.Order, c bridge.Class, r bridge.Reason, err error) (bridge.Receipt, error) {
	return bridge.Receipt{}, &bridge.ExecError{Executor: bridge.ExecutorLocal, OrderID: o.ID, Class: c, Reason: r, Err: err}
}

// Blocked returns what is blocked at this moment, in no order. It blocks for about a millisecond.
func (a *Agent) Blocked(ctx context.Context) ([]firewall.Block, error) { return a.wall.Blocked(ctx) }

// Unblock takes the block of exactly this address or prefix away. It answers firewall.ErrNotBlocked when there is none.
func (a *Agent) Unblock(ctx context.Context, address string) error {
	return a.wall.Unblock(ctx, address)
}
