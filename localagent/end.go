package localagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// result says what became of the targets of a plan, each in words.
type result struct {
	ended   []string // seen to exit
	left    []string // gone before the signal
	changed []string // running another image by now: not signalled
	denied  []string // the kernel did not allow the signal
	running []string // signalled, exit not seen
	kept    []string // protected, left alone
}

// endAll ends the targets and, where the system cannot stop a tree before it is ended, what they started meanwhile.
func (a *Agent) endAll(ctx context.Context, pl *plan) result {
	res := a.end(ctx, pl)
	for round := 0; pl.forest.grown; round++ {
		late, err := a.stragglers(ctx, pl)
		if err != nil {
			res.denied = append(res.denied, fmt.Sprintf("what the tree may have started meanwhile: %v", err))
			break
		}
		if late == nil {
			break
		}
		pl.targets = append(pl.targets, late.targets...)
		if round == maxRounds {
			res.denied = append(res.denied, "what the tree goes on to start: "+late.list())
			break
		}
		late.forest.grown = true
		res.add(a.end(ctx, late))
	}
	res.denied = append(res.denied, pl.forest.leftOver()...)
	res.kept = append(res.kept, pl.kept...)
	return res
}

// end signals all targets, then waits for all of them at once: the last one waits no longer than the first. A tree has no grace:
// while its processes clean up they could begin others.
func (a *Agent) end(ctx context.Context, pl *plan) result {
	var res result
	waiting := make([]*pinned, 0, len(pl.targets))
	first, grace := sigKill, a.cfg.Grace > 0 && !pl.forest.grown
	if grace {
		first = sigTerm
	}
	pl.forest.kill(pl.targets)
	for i := 0; i < len(pl.targets); i++ { // a restless tree grows while it is ended
		p := pl.targets[i]
		pl.forest.chase(ctx, p)
		if p.signalled || a.signalTo(ctx, p, &res, first) {
			waiting = append(waiting, p)
		}
	}
	if grace {
		waiting = a.await(ctx, waiting, time.Now().Add(a.cfg.Grace), &res)
		for _, p := range waiting {
			// Without the look at the image: what the process turned into after SIGTERM is still what was meant.
			if reason, why, err := a.protected(ctx, p); err != nil || reason != bridge.ReasonNone {
				a.log.Warn("process became a protected one after the first signal", "pid", p.pid, "why", why, "err", err)
				continue
			}
			if err := p.send(sigKill); err != nil && !errors.Is(err, errGone) {
				a.log.Warn("second signal was not sent", "pid", p.pid, "err", err)
			}
		}
	}
	if why := pl.forest.escaped(); why != "" {
		res.denied = append(res.denied, why)
	}
	for _, p := range a.await(ctx, waiting, a.exitDeadline(), &res) {
		text := p.String()
		if why := p.lingers(); why != "" {
			text += ", " + why
		}
		res.running = append(res.running, text)
	}
	a.images.refreshIfOld(a.cfg.Now())
	return res
}

// signalTo sends the first signal and reports whether the exit is to be waited for.
func (a *Agent) signalTo(ctx context.Context, p *pinned, res *result, sig processSignal) bool {
	err := p.signal(sig)
	if errors.Is(err, errChanged) && p.descendant {
		err = a.signalAnew(ctx, p, sig)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, errGone):
		res.left = append(res.left, p.String())
	case errors.Is(err, errChanged):
		res.changed = append(res.changed, p.String())
	case errors.Is(err, errKept):
		p.letGo() // before its parent ends: the kernel hangs up on what is stopped then (setpgid(2), orphaned process groups)
		res.keep([]string{fmt.Sprintf("%s: %v", p, err)})
	default:
		res.denied = append(res.denied, fmt.Sprintf("%s: %v", p, err))
	}
	return false
}

// errKept says that a process of a tree has turned into a protected one.
var errKept = errors.New("it has turned into a protected process")

// signalAnew judges what a process of a tree has become before it stopped, and signals it unless that is protected.
func (a *Agent) signalAnew(ctx context.Context, p *pinned, sig processSignal) error {
	if err := p.readImage(); err != nil {
		return err
	}
	reason, why, err := a.protected(ctx, p)
	if err != nil {
		return err
	}
	if reason != bridge.ReasonNone {
		return fmt.Errorf("%w: %s", errKept, why)
	}
	return p.signal(sig)
}

// await waits for the exit of every process until the common deadline and returns those that still run.
func (a *Agent) await(ctx context.Context, ps []*pinned, deadline time.Time, res *result) []*pinned {
	var still []*pinned
	for _, p := range ps {
		if p.waitExit(ctx, deadline) {
			res.ended = append(res.ended, p.String())
		} else {
			still = append(still, p)
		}
	}
	return still
}

func (r *result) add(o result) {
	r.ended = append(r.ended, o.ended...)
	r.left = append(r.left, o.left...)
	r.changed = append(r.changed, o.changed...)
	r.denied = append(r.denied, o.denied...)
	r.running = append(r.running, o.running...)
	r.keep(o.kept)
}

// keep adds what is protected; the same process is found again in every round.
func (r *result) keep(kept []string) {
	for _, k := range kept {
		if !slices.Contains(r.kept, k) {
			r.kept = append(r.kept, k)
		}
	}
}

// receipt is done when every process was seen to exit. A process that did not is undecided, because the signal is
// on its way; a signal the kernel refused is permanent when no other one was sent.
func (r *result) receipt(ctx context.Context) (bridge.Receipt, error) {
	kept := r.kept
	switch {
	case len(r.running) > 0 && context.Cause(ctx) != nil:
		return bridge.Receipt{}, verdict.Undecided("%s%s: %w", r.summary(), keptText(kept), context.Cause(ctx))
	case len(r.running) > 0, len(r.denied) > 0 && len(r.ended) > 0:
		return bridge.Receipt{}, verdict.Undecided("%s%s", r.summary(), keptText(kept))
	case len(r.denied) > 0:
		return bridge.Receipt{}, verdict.Hopeless("%s%s", r.summary(), keptText(kept))
	default:
		return bridge.Receipt{State: bridge.StateDone, Detail: r.summary() + keptText(kept)}, nil
	}
}

func (r *result) summary() string {
	var parts []string
	for _, g := range []struct {
		word  string
		names []string
	}{
		{"ended ", r.ended},
		{"already gone: ", r.left},
		{"signalled, but not seen to exit: ", r.running},
		{"not ended: ", r.denied},
		{"left alone, because it has begun to run another image: ", r.changed},
	} {
		if len(g.names) > 0 {
			parts = append(parts, g.word+verdict.List(g.names))
		}
	}
	return strings.Join(parts, "; ")
}
