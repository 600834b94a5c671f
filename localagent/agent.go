package localagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/ioc"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
	"github.com/edr-bridge/edr-bridge/localagent/scan"
	"github.com/edr-bridge/edr-bridge/localagent/vault"
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
	// Servers are what the bridge reads alerts from and commands through, as "host:port" or as path of a Unix socket ("unix://" may stand
	// before it). A process that listens there on this machine is not ended; Linux only.
	Servers []string
	// NeverBlock are networks no block may touch, such as KSC, Redis and the allow list. Loopback, own
	// addresses, default gateways and name servers are refused without being named here.
	NeverBlock []netip.Prefix
	// State is the absolute path of the folder of what the agent keeps: quarantine, rules, records of isolations, programs and jobs. It is
	// made (0700) when it is missing. Required.
	State string
	// Own are absolute paths of what the bridge depends on besides State: settings, secrets, store. No file task touches them.
	Own []string
	// Resident says that the process goes on, with Run: what takes long is then accepted and told about later (Follow). Without it
	// Execute waits for the end.
	Resident bool
	// Check judges each order before it begins, and each that follows from a scan: ReasonNone, or the reason and the text of the refusal. It
	// is called by many goroutines at once; nil = the never-touch table of this machine alone decides.
	Check func(o bridge.Order) (bridge.Reason, string)
	// Held reports whether the hold is on: what would follow from a scan is then left undone. Nil = there is no hold here.
	Held func() bool
	// ProtectedPath is the user's never-touch list of paths, as Protected is that of processes. Nil = no list.
	ProtectedPath func(path string) (bridge.Reason, string)
	// Isolation says what an isolated machine still reaches: Needs, Allow, NTP, HostOnly and Tampered count.
	Isolation firewall.Config
	// Quarantine says how much is kept and how long: MaxFile, Quota, Retention and Key count; nil Key = a file below State.
	Quarantine vault.Config
	// Prevention says how executions are prevented: Mode, Listener, Denied, Disable and the limits count.
	Prevention prevention.Config
	// Scan is about onDemandScan, IOC about iocScan: engine, signatures and limits count.
	Scan scan.Config
	IOC  ioc.Config
	// QuarantineFindings takes away what onDemandScan finds.
	QuarantineFindings bool
	// Start is about startProcess: User, TimeLimit and Cgroup count.
	Start LauncherConfig
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
	silent  silence
	rooms
	platform
}

var (
	_ bridge.Executor        = (*Agent)(nil)
	_ bridge.ProcessResolver = (*Agent)(nil)
	_ bridge.Follower        = (*Agent)(nil)
	_ bridge.Repeater        = (*Agent)(nil)
)

// New returns an agent. It reports every problem of cfg at once, does no I/O and starts nothing.
func New(cfg Config) (*Agent, error) {
	var errs []error
	if len(cfg.Self.Names) == 0 && len(cfg.Self.Addresses) == 0 && cfg.Self.Now == nil {
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
	if !filepath.IsAbs(cfg.State) {
		errs = append(errs, fmt.Errorf("state: %q is not the absolute path of a folder", cfg.State))
	}
	for _, server := range cfg.Servers {
		_, port, err := net.SplitHostPort(server)
		if _, perr := strconv.ParseUint(port, 10, 16); (err != nil || perr != nil) && !path.IsAbs(strings.TrimPrefix(server, "unix://")) {
			errs = append(errs, fmt.Errorf("servers: %q is neither host:port nor the path of a socket", server))
		}
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
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("local agent: %w", err)
	}
	r, err := newRooms(&cfg)
	if err != nil {
		return nil, fmt.Errorf("local agent: %w", err)
	}
	return &Agent{cfg: cfg, log: cfg.Logger, rooms: r}, nil
}

// Prepare reads what the first order would otherwise have to read (own ancestors, never-touch images), which takes about a millisecond, and
// takes up the jobs an earlier process left behind, and lets go on what that was about to end when it was killed; a resident agent arms a recorded isolation again. It is called once, before the first
// order and the first Follow; an error says what the agent lacks to act at all.
func (a *Agent) Prepare(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("prepare: %w", cause)
	}
	if err := a.makeFolders(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if a.cfg.Resident {
		if err := a.wall.Restore(ctx); err != nil {
			a.log.Warn("a recorded isolation is not armed again yet", "err", err)
		}
	}
	if did, err := a.vault.Recover(ctx); err != nil {
		a.log.Warn("what an earlier order left half done stays so for the moment", "err", err)
	} else if len(did) > 0 {
		a.log.Info("ended what earlier orders left half done", "what", strings.Join(did, "; "))
	}
	a.wakeForgotten()
	if err := a.jobs.Resume(ctx, a.resumed); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if _, err := a.own.get(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	a.images.refresh(a.cfg.Now())
	return nil
}

// resumed says how a job goes on whose process has ended: programs run on by themselves, scans have to be asked for again.
func (a *Agent) resumed(r jobs.Record) jobs.Work {
	if r.Kind == bridge.KindStartProcess {
		return a.awaitProgram(r.ID)
	}
	return nil
}

// Close ends scans and waits for them. Programs that were started, blocks, isolations and quarantined files stay.
func (a *Agent) Close() error { return a.jobs.Close() }

// Execute carries out o on this machine. It blocks until the outcome is known or ctx ends; scans, and programs until they end, are accepted
// and told about by Follow when the agent is resident.
//
//	terminateProcess  ends o.Subject when that names a pid, else every process that fulfils all criteria; with o.Subject.Tree its
//	                  descendants as well. Nothing left to end is done, too. It has no undo.
//	isolateHost       for o.For (0 = 4 h, negative = until released). Undo: the other action, and the system's own timer.
//	blockAddress      for o.For (0 = 10 min). Undo: Unblock, and the system's own timer.
//	preventExecution  until the rule is removed. Undo: the guard's Remove. Works while Run does.
//	quarantineFile    Undo: the vault's Restore. getFile leaves the file where it is. deleteFile has no undo.
//	startProcess, onDemandScan, iocScan
//
// Errors are *bridge.ExecError: Permanent when the order was refused or cannot work here, Retry when nothing
// happened, Unknown when it may have happened.
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
	if reason, why := a.judge(o); reason != bridge.ReasonNone {
		return a.fail(o, bridge.Permanent, reason, errors.New(why))
	}
	r, err := a.carryOut(ctx, o)
	if err != nil {
		v := verdict.Of(err)
		return a.fail(o, v.Class, v.Reason, v.Err)
	}
	return r, nil
}

// judge asks who configured the agent.
func (a *Agent) judge(o bridge.Order) (bridge.Reason, string) {
	if a.cfg.Check == nil {
		return bridge.ReasonNone, ""
	}
	return a.cfg.Check(o)
}

// follows judges what follows from a scan: as an order, and under the hold, which came after the scan began.
func (a *Agent) follows(o bridge.Order) (bridge.Reason, string) {
	if a.cfg.Held != nil && a.cfg.Held() {
		return bridge.ReasonHold, "the hold is on"
	}
	return a.judge(o)
}

// carryOut gives the order to the room of its task. Errors are *verdict.Error.
func (a *Agent) carryOut(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	if err := a.makeFolders(); err != nil {
		return bridge.Receipt{}, verdict.Hopeless("%w", err)
	}
	switch t := o.Task.(type) {
	case bridge.TerminateProcess:
		return a.terminate(ctx, o, t)
	case bridge.StartProcess:
		return a.startProgram(ctx, o, t)
	case bridge.GetFile:
		return a.vault.GetFile(ctx, o.ID, t)
	case bridge.QuarantineFile:
		return a.vault.QuarantineFile(ctx, o.ID, t)
	case bridge.DeleteFile:
		return a.vault.DeleteFile(ctx, o.ID, t)
	case bridge.IsolateHost:
		return a.isolate(ctx, o, t)
	case bridge.PreventExecution:
		return a.prevent(ctx, o, t)
	case bridge.OnDemandScan:
		return a.onDemandScan(ctx, o, t)
	case bridge.IOCScan:
		return a.iocScan(ctx, o, t)
	case bridge.BlockAddress:
		return a.wall.Block(ctx, t, o.For)
	default:
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonUnsupported, "the local agent knows no task of type %T", o.Task)
	}
}

func (a *Agent) fail(o bridge.Order, c bridge.Class, r bridge.Reason, err error) (bridge.Receipt, error) {
	return bridge.Receipt{}, &bridge.ExecError{Executor: bridge.ExecutorLocal, OrderID: o.ID, Class: c, Reason: r, Err: err}
}
