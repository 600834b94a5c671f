package localagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// freezeDeadline is how long the processes of a tree may take to stop; a process stops when it next runs, which takes a while
	// where hundreds want to.
	freezeDeadline = 10 * time.Second
	// freezePause is how long the agent waits before it looks again at processes that have not stopped.
	freezePause = 200 * time.Microsecond
)

// held says how a process is kept from going on.
type held int

const (
	heldNot   held = iota
	heldStop       // the agent sent SIGSTOP
	heldGroup      // its control group is frozen
)

// forest is what a plan holds for the trees of its targets.
type forest struct {
	// groups are the frozen control groups some targets are in.
	groups []*group
	// grown is true once the targets hold all descendants.
	grown bool
	// restless is the walk through a tree that somebody keeps waking: it is looked at again, process by process, as it is ended.
	restless *growth
	// note is the record of what is held.
	note *stopNote
}

// growth is one walk from the targets of a plan to all their descendants.
type growth struct {
	a  *Agent
	pl *plan
	// seen holds the processes that were looked at, by pid, with their start times: a number that is given away in between
	// names another process.
	seen map[int]uint64
	// children is filled when the kernel does not tell them (CONFIG_PROC_CHILDREN).
	parents func() (map[int][]int, error)
	freeze  bool
}

// grow adds all descendants of the targets to the plan and stops them, so that none can fork or exec any more: pl.close lets go of
// what is not killed until then. Protected descendants are left running, with all below them, and kept is told. A target that is
// the first process of its own control group brings everything in that group. Descendants that gave up their parent are found
// only there. With DryRun nothing is stopped.
func (a *Agent) grow(ctx context.Context, pl *plan) error {
	g := &growth{a: a, pl: pl, seen: make(map[int]uint64), parents: childrenByParent, freeze: !a.cfg.DryRun}
	if g.freeze {
		a.wakeForgotten() // else it would look as if somebody else had stopped it
		pl.forest.note = a.noteStops()
	}
	roots := pl.targets
	for _, p := range roots {
		g.seen[p.pid] = p.start
	}
	for _, p := range roots {
		if p.held != heldNot {
			continue // in the group of an earlier one
		}
		if err := g.takeGroup(ctx, p); err != nil {
			return err
		}
	}
	for _, p := range roots {
		if err := g.stop(p); err != nil {
			return err
		}
	}
	if err := g.walk(ctx); err != nil {
		return err
	}
	for _, p := range roots {
		if id, _, err := p.lookAtExe(); err == nil && id != p.exe && !p.descendant {
			return verdict.Untouched("process %d: %w: nothing was ended", p.pid, errChanged)
		}
	}
	pl.forest.grown = true
	if pl.forest.restless == nil {
		childrenFirst(pl.targets) // else parents come first, because those still begin others
	}
	return nil
}

// stop keeps one process from going on. One that was stopped before is stopped by us as well: to let go of it wakes it up only
// when it was not.
func (g *growth) stop(p *pinned) error {
	if !g.freeze || p.held == heldGroup {
		return nil
	}
	if p.held == heldNot {
		if st, err := p.stat("stat"); err == nil && st.state == 'T' {
			return nil // it stays stopped until others wake it up
		}
		g.pl.forest.note.process(p)
	}
	if err := p.send(unix.SIGSTOP); err != nil && !errors.Is(err, errGone) {
		return verdict.Hopeless("stop the tree: %w", err)
	}
	p.held = heldStop
	return nil
}

// walk goes round until one look at every process of the plan finds them all stopped and no child that is not in it: what was stopped
// before can have been woken by what was not. A tree that does not stand still in time, because somebody wakes it again and again, is
// ended as far as it is known.
func (g *growth) walk(ctx context.Context) error {
	deadline := time.Now().Add(freezeDeadline)
	settled := make(map[*pinned]bool)
	for whole := false; ; { // true: all have been seen to stand still, and are looked at once more
		again, added := false, false
		for i := 0; i < len(g.pl.targets); i++ { // the plan grows while it is walked
			p := g.pl.targets[i]
			if settled[p] && !whole {
				continue
			}
			if cause := context.Cause(ctx); cause != nil {
				return verdict.Untouched("stop the tree: %w", cause)
			}
			// The states come first: what has stopped cannot have children that are not listed afterwards.
			still, err := g.quiet(p)
			if err == nil && !still {
				err = g.stop(p)
			}
			if err != nil {
				return err
			}
			n, err := g.adopt(ctx, p)
			if err != nil {
				return err
			}
			settled[p] = still || !g.freeze
			added, again = added || n > 0, again || !settled[p]
		}
		switch {
		case !again && !added && whole:
			return nil
		case time.Now().After(deadline) && !g.freeze:
			return nil
		case time.Now().After(deadline):
			g.pl.forest.restless = g
			return nil
		case again && !added:
			if err := pause(ctx, freezePause); err != nil {
				return verdict.Untouched("stop the tree: %w", err)
			}
		}
		whole = !again && !added
	}
}

// quiet reports whether no thread of p can begin anything.
func (g *growth) quiet(p *pinned) (bool, error) {
	if p.held == heldGroup || p.ended() {
		return true, nil
	}
	threads, err := p.threads()
	if err != nil {
		return gone(p, "threads", err)
	}
	for _, tid := range threads {
		st, err := p.stat("task/" + tid + "/stat")
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return gone(p, "state", err)
		}
		if !st.stopped() {
			return false, nil
		}
	}
	return true, nil
}

// gone answers that a process has nothing more to begin when the error says it has ended.
func gone(p *pinned, doing string, err error) (bool, error) {
	if err := p.lost(doing, err); !errors.Is(err, errGone) {
		return false, verdict.Hopeless("look at the tree: %w", err)
	}
	return true, nil
}

// adopt adds the children of p that are not in the plan yet and returns how many there were.
func (g *growth) adopt(ctx context.Context, p *pinned) (int, error) {
	pids, err := g.childrenOf(p)
	if err != nil {
		return 0, err
	}
	added := 0
	for _, pid := range pids {
		ok, err := g.add(ctx, pid, p)
		if err != nil {
			return added, err
		}
		if ok {
			added++
		}
	}
	return added, nil
}

// add takes the process up when it may be ended. parent is nil for the members of a group.
func (g *growth) add(ctx context.Context, pid int, parent *pinned) (bool, error) {
	p, err := open(pid)
	if err == nil {
		if err = p.readStat(); err != nil {
			p.close()
		}
	}
	if errors.Is(err, errGone) || errors.Is(err, errThread) {
		return false, nil
	}
	if err != nil {
		return false, verdict.Hopeless("look at the tree: %w", err)
	}
	if start, ok := g.seen[pid]; ok && start == p.start {
		p.close()
		return false, nil
	}
	if parent != nil && p.ppid != parent.pid {
		p.close() // its number was given away, or its parent has ended: then it is found elsewhere or nowhere
		return false, nil
	}
	return g.judge(ctx, p, parent == nil)
}

// judge stops the process unless it is protected. It can become another program until the stop takes effect, which end finds out.
func (g *growth) judge(ctx context.Context, p *pinned, inGroup bool) (bool, error) {
	g.seen[p.pid] = p.start
	err := p.readImage()
	reason, why := bridge.ReasonNone, ""
	if err == nil {
		reason, why, err = g.a.protected(ctx, p)
	}
	if err != nil || reason != bridge.ReasonNone {
		if err == nil {
			g.pl.keep(reason, fmt.Sprintf("%s: %s", p, why))
		}
		p.close()
		if err != nil && !errors.Is(err, errGone) {
			return false, verdict.Hopeless("look at the tree: %w", err)
		}
		return false, nil
	}
	// From here on the plan lets go of the process when something fails.
	p.descendant = true
	g.pl.targets = append(g.pl.targets, p)
	if inGroup {
		p.held = heldGroup
		return true, g.withinLimit()
	}
	if err := g.stop(p); err != nil {
		return false, err
	}
	return true, g.withinLimit()
}

func (g *growth) withinLimit() error {
	if n := len(g.pl.targets); n > g.a.cfg.MaxTargets {
		return verdict.Refuse(bridge.ReasonInvalid, "the tree has more than %d processes, one order may end %d (max_targets): nothing was ended", n-1, g.a.cfg.MaxTargets)
	}
	return nil
}

// letGo lets a process go on that the agent has stopped.
func (p *pinned) letGo() {
	if p.held == heldStop {
		_ = p.send(unix.SIGCONT)
	}
	p.held = heldNot
}

// letGo lets everything go on that is still held.
func (f *forest) letGo(targets []*pinned) {
	for _, g := range f.groups {
		g.thaw()
	}
	for _, p := range targets {
		p.letGo()
	}
	f.note.close()
	f.note = nil
}

// kill ends the frozen groups at once; their members are among the targets and are waited for with them. Where the kernel cannot, they
// are signalled one by one like all others, which is the same, because they are frozen.
func (f *forest) kill(targets []*pinned) {
	done := len(f.groups) > 0
	for _, g := range f.groups {
		done = g.kill() && done
	}
	for _, p := range targets {
		p.signalled = done && p.held == heldGroup
	}
}

// chase adds what a process of a restless tree has begun since the last look, right before it is ended.
func (f *forest) chase(ctx context.Context, p *pinned) {
	g := f.restless
	if g == nil {
		return
	}
	err := g.stop(p)
	if err == nil {
		_, err = g.adopt(ctx, p)
	}
	if err != nil {
		g.a.log.Warn("what a process began before its end was not taken up", "pid", p.pid, "err", err)
	}
}

// escaped says in words why more than the targets may go on, or "".
func (f *forest) escaped() string {
	if f.restless == nil {
		return ""
	}
	return fmt.Sprintf("what the tree may have begun meanwhile, because it did not stand still within %s: somebody keeps waking it", freezeDeadline)
}

// leftOver names nobody: escaped tells.
func (*forest) leftOver() []string { return nil }

// stragglers has nothing to find: what is stopped begins nothing.
func (a *Agent) stragglers(context.Context, *plan) (*plan, error) { return nil, nil } //nolint:nilnil // nothing, and no error

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
