package localagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// maxRounds is how often the agent looks for processes by path or digest: those that forked while it looked are
// found in the next round.
const maxRounds = 4

// errChanged says that the process runs another image than a moment ago.
var errChanged = errors.New("the process has begun to run another image")

func (a *Agent) terminate(ctx context.Context, o bridge.Order, t bridge.TerminateProcess) (bridge.Receipt, error) {
	c, err := newCriteria(t)
	if err != nil {
		return bridge.Receipt{}, err
	}
	if o.Subject.Tree {
		defer hurry()()
	}
	switch {
	case o.Subject.PID != 0:
		return a.terminateSubject(ctx, o.Subject, &c)
	case c.empty():
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "name the process by pid with start time and path, by path or by digest")
	default:
		return a.terminateMatching(ctx, &c, o.Subject.Tree)
	}
}

// terminateSubject ends the one process an order is about, with s.Tree its descendants as well.
func (a *Agent) terminateSubject(ctx context.Context, s bridge.Process, c *criteria) (bridge.Receipt, error) {
	if err := checkPID(s.PID); err != nil {
		return bridge.Receipt{}, err
	}
	if s.Start == 0 || s.Path == "" {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "process %d is named without start time and path: a pid alone is never acted on", s.PID)
	}
	p, err := pin(s.PID)
	if errors.Is(err, errGone) {
		if err := checkPIDRange(s.PID); err != nil {
			return bridge.Receipt{}, err
		}
		return a.gone(s), nil
	}
	if err != nil {
		return bridge.Receipt{}, pinVerdict(s.PID, err)
	}
	pl := plan{targets: []*pinned{p}}
	defer pl.close()
	if p.start != s.Start {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonProcessChanged, "process %d started at tick %d, the order means the one of tick %d: the pid was used again", s.PID, p.start, s.Start)
	}
	// The never-touch table comes before the image is compared: a kernel thread has none.
	if reason, why, err := a.protected(ctx, p); errors.Is(err, errGone) {
		return a.gone(s), nil
	} else if err != nil {
		return bridge.Receipt{}, verdict.Hopeless("protections of process %d: %w", s.PID, err)
	} else if reason != bridge.ReasonNone {
		return bridge.Receipt{}, verdict.Refuse(reason, "process %d (%s) is protected: %s", s.PID, verdict.Shown(p.image), why)
	}
	if !p.goesBy(s.Path) {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonProcessChanged, "process %d runs %s, the order means %s", s.PID, verdict.Shown(p.image), verdict.Shown(s.Path))
	}
	if !c.empty() {
		name, err := a.matches(ctx, p, c)
		if err != nil {
			return bridge.Receipt{}, a.matchVerdict(ctx, p, err)
		}
		if name == "" {
			return bridge.Receipt{}, verdict.Refuse(bridge.ReasonProcessChanged, "process %d (%s) does not fulfil the path or digests of the task", s.PID, verdict.Shown(p.image))
		}
	}
	if s.Tree {
		if err := a.grow(ctx, &pl); errors.Is(err, errChanged) {
			return bridge.Receipt{}, verdict.Refuse(bridge.ReasonProcessChanged, "%w", err)
		} else if err != nil {
			return bridge.Receipt{}, err
		}
	}
	if a.cfg.DryRun {
		return dryRun("would have ended "+pl.list(), pl.kept), nil
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	res := a.endAll(ctx, &pl)
	if len(res.changed) > 0 && len(res.ended) == 0 {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonProcessChanged, "process %d has just begun to run another image", s.PID)
	}
	return res.receipt(ctx)
}

// terminateMatching ends every process that fulfils the criteria. No match is done, so that an order that comes
// twice is not an error the second time.
func (a *Agent) terminateMatching(ctx context.Context, c *criteria, tree bool) (bridge.Receipt, error) {
	var total result
	for round := range maxRounds {
		pl, err := a.plan(ctx, c)
		if err == nil && tree {
			if err = a.grow(ctx, pl); err != nil {
				pl.close()
			}
		}
		if err != nil {
			if len(total.ended) > 0 {
				return bridge.Receipt{}, verdict.Undecided("%s; then: %w", total.summary(), err)
			}
			return bridge.Receipt{}, err
		}
		if len(pl.targets) == 0 || a.cfg.DryRun {
			r, err := a.settled(ctx, pl, &total)
			pl.close()
			return r, err
		}
		if err := verdict.Stopped(ctx, "not begun"); err != nil && round == 0 {
			pl.close()
			return bridge.Receipt{}, err
		}
		total.add(a.endAll(ctx, pl))
		pl.close()
		if len(total.denied) > 0 || len(total.running) > 0 {
			return total.receipt(ctx)
		}
	}
	return bridge.Receipt{}, verdict.Undecided("%s, but processes with that image keep coming back: end what starts them", total.summary())
}

// settled turns a look that found nothing more to end into the receipt.
func (a *Agent) settled(ctx context.Context, pl *plan, total *result) (bridge.Receipt, error) {
	if a.cfg.DryRun && len(pl.targets) > 0 {
		return dryRun("would have ended "+pl.list(), pl.kept), nil
	}
	if len(total.ended)+len(total.left) > 0 {
		total.keep(pl.kept)
		r, err := total.receipt(ctx)
		if err == nil && len(pl.unseen) > 0 {
			r.Detail += "; could not be looked at: " + verdict.List(pl.unseen)
		}
		return r, err
	}
	if len(pl.kept) > 0 {
		return bridge.Receipt{}, verdict.Refuse(pl.reason, "protected: %s", verdict.List(pl.kept))
	}
	if len(pl.unseen) > 0 {
		return bridge.Receipt{}, verdict.Hopeless("no process matched, but could not be looked at: %s", verdict.List(pl.unseen))
	}
	if a.cfg.DryRun {
		return dryRun("no process matched", nil), nil
	}
	return bridge.Receipt{State: bridge.StateDone, Detail: "no process matched"}, nil
}

// goesBy reports whether one of the names of p is path.
func (p *pinned) goesBy(path string) bool {
	if p.image == path {
		return true
	}
	c := criteria{paths: spellings(path)}
	for v := range p.views() {
		if c.names(v.name) {
			return true
		}
	}
	return false
}

// String names the process for people: pid, image and start time.
func (p *pinned) String() string {
	return fmt.Sprintf("pid %d (%s, start %d)", p.pid, verdict.Shown(p.image), p.start)
}

// list names the targets.
func (pl *plan) list() string {
	names := make([]string, len(pl.targets))
	for i, p := range pl.targets {
		names[i] = p.String()
	}
	return verdict.List(names)
}

func (a *Agent) gone(s bridge.Process) bridge.Receipt {
	text := fmt.Sprintf("already gone: pid %d (%s, start %d)", s.PID, verdict.Shown(s.Path), s.Start)
	if why := zombie(s.PID, s.Start); why != "" {
		text += ", " + why
	}
	if a.cfg.DryRun {
		return dryRun(text, nil)
	}
	return bridge.Receipt{State: bridge.StateDone, Detail: text}
}

func dryRun(text string, kept []string) bridge.Receipt {
	return bridge.Receipt{State: bridge.StateShadow, Detail: "dry run: " + text + keptText(kept)}
}

func keptText(kept []string) string {
	if len(kept) == 0 {
		return ""
	}
	return "; protected and left alone: " + verdict.List(kept)
}

// matchVerdict sorts an error met while comparing: the end of ctx leaves everything as it was.
func (a *Agent) matchVerdict(ctx context.Context, p *pinned, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return verdict.Untouched("look at process %d: %w", p.pid, cause)
	}
	if p.ended() {
		return verdict.Untouched("process %d ended while it was looked at", p.pid)
	}
	return verdict.Hopeless("look at process %d: %w", p.pid, err)
}

func pinVerdict(pid int, err error) error {
	if errors.Is(err, errThread) {
		return verdict.Refuse(bridge.ReasonInvalid, "pid %d: %w", pid, err)
	}
	return verdict.Hopeless("look at process %d: %w", pid, err)
}

// exitDeadline is on the real clock, because the kernel's poller is.
func (a *Agent) exitDeadline() time.Time { return time.Now().Add(a.cfg.ExitDeadline) }
