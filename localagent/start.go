package localagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	defaultTimeLimit = time.Hour
	// maxTimeLimit is the longest a program may run, as in Kaspersky Anti Targeted Attack Platform
	// (support.kaspersky.com/help/KATA/3.7.2/en-US/175844.htm).
	maxTimeLimit = 24 * time.Hour
	// maxOutput is how much of each output of a program is kept; the rest is read and dropped.
	maxOutput = 1 << 20
	// maxOrderID is the longest order id.
	maxOrderID = 64
)

var (
	// ErrNotStarted says that no program was started for an order.
	ErrNotStarted = errors.New("no program was started for this order")
	// ErrStillRunning says that a program goes on although nobody waits for it any more.
	ErrStillRunning = errors.New("the program goes on")
)

// LauncherConfig says how programs are started and where their output and the records of them are kept.
type LauncherConfig struct {
	// Dir is the folder of the records, a folder an order, made when it is missing (0700). Required, absolute.
	Dir string
	// User is the account programs run as: a name or a number; empty = the agent's own. Linux only.
	User string
	// TimeLimit is how long a program may run when its order does not say; zero = 1 h, at most 24 h.
	TimeLimit time.Duration
	// CgroupParent is a control group of version 2 below which each program gets one of its own, absolute path. Empty, or where that is
	// not possible: programs have a session of their own only. Linux only.
	CgroupParent string
	// FindGroup lets an empty CgroupParent be the folder edr-bridge below the root of the control groups of version 2, made when it is
	// missing: where these are mounted, can be written to, and belong to root alone. Linux only.
	FindGroup bool
	// DryRun lets Start check everything and start nothing.
	DryRun bool
	// Logger hears of records that could not be written; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Launcher starts programs, each order's once. What it knows is on disk before the program begins, so that another process of the
// agent finds it again. It is safe for many goroutines.
type Launcher struct {
	cfg LauncherConfig
	log *slog.Logger
	// trees ends what ran too long.
	trees *Agent
	launcherState
}

// NewLauncher checks cfg, reports every problem at once and opens nothing.
func NewLauncher(cfg LauncherConfig) (*Launcher, error) {
	var errs []error
	if !filepath.IsAbs(cfg.Dir) {
		errs = append(errs, errors.New("dir: an absolute path is required"))
	}
	if cfg.TimeLimit < 0 || cfg.TimeLimit > maxTimeLimit {
		errs = append(errs, fmt.Errorf("time_limit: %s is not between 0 and %s", cfg.TimeLimit, maxTimeLimit))
	}
	if cfg.CgroupParent != "" && !filepath.IsAbs(cfg.CgroupParent) {
		errs = append(errs, errors.New("cgroup_parent: an absolute path is required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("start programs: %w", err)
	}
	if cfg.TimeLimit == 0 {
		cfg.TimeLimit = defaultTimeLimit
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	trees := &Agent{cfg: Config{State: filepath.Dir(cfg.Dir), ExitDeadline: defaultExitDeadline, MaxTargets: maxTargetsLimit, Now: cfg.Now, Logger: cfg.Logger}, log: cfg.Logger}
	return &Launcher{cfg: cfg, log: cfg.Logger, trees: trees}, nil
}

// Run is one started program.
type Run struct {
	// OrderID is the order it was started for.
	OrderID string
	// PID and Start name the process: its number and its start time as in bridge.Process. Both are 0 with Shadow.
	PID   int
	Start uint64
	// Path is the executable, MD5 and SHA256 its digests, lower-case hex, Args what it was given.
	Path, MD5, SHA256 string
	Args              []string
	// Begun is when it was started, UTC; Limit how long it may run.
	Begun time.Time
	Limit time.Duration
	// Notes says in words what is not as it should be: no control group of its own.
	Notes []string
	// Shadow is true for a dry run: nothing was started.
	Shadow bool

	l    *Launcher
	note note
}

// Exit is what became of a program.
type Exit struct {
	// Known is false when nobody saw how it ended: the agent was not there, or the machine was restarted.
	Known bool `json:"known"`
	// Code is the exit code; Signal the name of the signal that ended it (SIGKILL), or "".
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
	// TimedOut is true when it was ended because its time was over.
	TimedOut bool `json:"timed_out,omitempty"`
	// Survivors are processes it left behind, in words: daemons it started, or what could not be ended.
	Survivors []string `json:"survivors,omitempty"`
	// Stdout and Stderr are the files its outputs are in, at most 1 MiB each; Cut is true when there was more.
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	Cut    bool   `json:"cut,omitempty"`
	// Ended is when the end was seen, UTC.
	Ended time.Time `json:"ended,omitzero"`
}

// String says in words what was started.
func (r *Run) String() string {
	text := fmt.Sprintf("%s (sha256 %s)", verdict.Shown(r.Path), r.SHA256)
	if !r.Shadow {
		text = fmt.Sprintf("pid %d (%s, start %d, sha256 %s)", r.PID, verdict.Shown(r.Path), r.Start, r.SHA256)
	}
	for _, n := range r.Notes {
		text += "; " + n
	}
	return text
}

// String says in words how the program ended.
func (e *Exit) String() string {
	text := fmt.Sprintf("exit code %d", e.Code)
	switch {
	case e.TimedOut:
		text = "ended because its time was over"
	case !e.Known:
		text = "it has ended, its exit code is not known"
	case e.Signal != "":
		text = "ended by " + e.Signal
	}
	if len(e.Survivors) > 0 {
		text += "; left running: " + verdict.List(e.Survivors)
	}
	if e.Cut {
		text += fmt.Sprintf("; only the first %d bytes of an output are kept", maxOutput)
	}
	return text
}

// Start starts the program of the order and returns at once; Wait tells how it ended and must be called for its output to go on. An order
// that was started before, by whichever process, is not started again: its Run is returned. limit is how long the program may run,
// zero = LauncherConfig.TimeLimit.
//
// The executable is opened without following links, judged, and hashed first: it must be a regular file that can be executed, and neither
// it nor a folder above may be writable or owned by somebody who could put another file in its place. The arguments are one string,
// split like a POSIX shell splits words (quotes and backslashes, nothing is expanded) and handed over as words; on Windows the string
// is handed over as it is. The program has PATH and LANG for an environment, an empty standard input, a session of its own and,
// where possible, a control group of its own. It has no undo.
//
// Errors are *verdict.Error: Permanent when nothing was started and never will be, Retry when nothing was started this time, Unknown when
// the program may have been started by a process of the agent that ended at that moment.
func (l *Launcher) Start(ctx context.Context, orderID string, t bridge.StartProcess, limit time.Duration) (*Run, error) {
	if err := checkOrderID(orderID); err != nil {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	if err := t.Validate(); err != nil {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	if limit < 0 || limit > maxTimeLimit {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "a time limit of %s is not between 0 and %s", limit, maxTimeLimit)
	}
	if limit == 0 {
		limit = l.cfg.TimeLimit
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return nil, err
	}
	if r, err := l.Found(orderID); !errors.Is(err, ErrNotStarted) {
		return r, err
	}
	p, err := l.prepare(ctx, t)
	if err != nil {
		return nil, err
	}
	defer p.close()
	n := note{Order: orderID, Path: p.path, MD5: p.digests.MD5, SHA256: p.digests.SHA256, Args: p.args, Folder: t.WorkingFolder, Limit: limit}
	if l.cfg.DryRun {
		r := l.run(n)
		r.Shadow = true
		return r, nil
	}
	return l.begin(ctx, p, n)
}

// begin starts what was prepared, with the note of it on disk before.
func (l *Launcher) begin(ctx context.Context, p *prepared, n note) (*Run, error) {
	dir := l.folder(n.Order)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, verdict.Hopeless("folder of the program: %w", err)
	}
	lock, err := files.LockFile(filepath.Join(dir, fileLock))
	if errors.Is(err, files.ErrLocked) {
		return nil, verdict.Untouched("another process starts it at this moment")
	}
	if err != nil {
		return nil, verdict.Hopeless("lock of the program: %w", err)
	}
	defer lock.Release()
	if r, err := l.Found(n.Order); !errors.Is(err, ErrNotStarted) {
		return r, err
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return nil, err
	}
	n.Begun, n.Boot = l.cfg.Now().UTC(), bootID()
	l.group(&n)
	if err := l.write(n); err != nil {
		l.ungroup(&n)
		return nil, verdict.Hopeless("record of the program: %w", err)
	}
	if err := l.spawn(p, dir, &n); err != nil {
		switch v := verdict.Of(err); v.Class {
		case bridge.Retry:
			l.forget(n)
		case bridge.Permanent:
			n.Failed, n.Ended = v.Error(), l.cfg.Now().UTC()
			l.tell(n)
			l.ungroup(&n)
		case bridge.Unknown, bridge.Unreachable:
			l.tell(n)
		}
		return nil, err
	}
	l.tell(n)
	return l.run(n), nil
}

// Found returns the program of an order that was started before, by this or another process of the agent. Wait returns at once when it
// has ended. Errors wrap ErrNotStarted when there is none, else they are *verdict.Error.
func (l *Launcher) Found(orderID string) (*Run, error) {
	if err := checkOrderID(orderID); err != nil {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	n, err := l.read(orderID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotStarted
	}
	if err != nil {
		return nil, verdict.Undecided("record of the program: %w", err)
	}
	switch {
	case n.Failed != "":
		return nil, verdict.Hopeless("it was not started: %s", n.Failed)
	case n.PID == 0 && !l.search(&n):
		return nil, verdict.Undecided("the agent ended while it started %s: whether it was started is not known", verdict.Shown(n.Path))
	default:
		return l.run(n), nil
	}
}

func (l *Launcher) run(n note) *Run {
	return &Run{
		OrderID: n.Order, PID: n.PID, Start: n.Start, Path: n.Path, MD5: n.MD5, SHA256: n.SHA256, Args: n.Args,
		Begun: n.Begun, Limit: n.Limit, Notes: n.Notes, l: l, note: n,
	}
}

// Running reports whether the program runs at this moment.
func (r *Run) Running() bool {
	if r.Shadow || !r.note.Ended.IsZero() {
		return false
	}
	p, err := r.l.attach(&r.note)
	if err != nil {
		return false
	}
	defer p.close()
	return !p.ended()
}

// Wait keeps the output of the program and blocks until it has ended, its time is over, or ctx ends; then the program goes on and the
// error wraps ErrStillRunning, as it does when its time is over and it could not be ended: then the error says why, and the next call tries
// again. Processes the program leaves behind are not waited for. The outcome is on disk before Wait returns, and a later call returns it
// again. A program must be waited for by one caller at a time.
func (r *Run) Wait(ctx context.Context) (Exit, error) {
	if r.Shadow {
		return Exit{}, nil
	}
	if n, err := r.l.read(r.OrderID); err == nil && !n.Ended.IsZero() {
		r.note = n
	}
	if !r.note.Ended.IsZero() {
		return r.exit(), nil
	}
	p, err := r.l.attach(&r.note)
	if errors.Is(err, errGone) {
		return r.ended(Exit{}), nil
	}
	if err != nil {
		return Exit{}, verdict.Undecided("look at %s: %w", r, err)
	}
	defer p.close()
	keep := r.l.keep(r.OrderID)
	over := !p.waitExit(ctx, time.Now().Add(r.Limit-r.l.elapsed(&r.note)))
	if over && context.Cause(ctx) != nil {
		keep.stop()
		return Exit{}, fmt.Errorf("%s: %w: %w", r, ErrStillRunning, context.Cause(ctx))
	}
	e := Exit{TimedOut: over}
	if over {
		e.Survivors = r.l.overtime(ctx, p, &r.note)
	} else {
		e.Survivors = r.l.leftBehind(&r.note)
	}
	e.Cut = keep.stop()
	if !p.ended() {
		return Exit{}, fmt.Errorf("%s: %w, and could not be ended: %s", r, ErrStillRunning, cmp.Or(verdict.List(e.Survivors), "its end was not seen"))
	}
	p.outcome(ctx, &e)
	return r.ended(e), nil
}

// End ends the program and all it has started, as when its time is over, and returns its outcome. Nobody may wait for it meanwhile. It has
// no undo.
func (r *Run) End(ctx context.Context) (Exit, error) {
	if !r.Running() {
		return r.Wait(ctx)
	}
	r.Limit = 0
	e, err := r.Wait(ctx)
	e.TimedOut = false
	return e, err
}

// ended writes the outcome down.
func (r *Run) ended(e Exit) Exit {
	n := &r.note
	n.Ended, n.Exit = r.l.cfg.Now().UTC(), &e
	r.l.tell(*n)
	r.l.ungroup(n)
	return r.exit()
}

// exit is the outcome as it stands in the note.
func (r *Run) exit() Exit {
	var e Exit
	if r.note.Exit != nil {
		e = *r.note.Exit
	}
	dir := r.l.folder(r.OrderID)
	e.Stdout, e.Stderr, e.Ended = filepath.Join(dir, fileStdout), filepath.Join(dir, fileStderr), r.note.Ended
	return e
}

// checkOrderID keeps ids from being paths.
func checkOrderID(id string) error {
	if id == "" || len(id) > maxOrderID {
		return fmt.Errorf("an order id has 1 to %d characters", maxOrderID)
	}
	if strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return errors.New("an order id holds letters, digits, - and _ only")
	}
	return nil
}
