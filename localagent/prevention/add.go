package prevention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// applyDeadline is how long a change may take to become effective: file systems with thousands of mounts are slow.
const applyDeadline = 20 * time.Second

// resumePoll is how often Resume looks whether the guard is back.
const resumePoll = 20 * time.Millisecond

// ErrNoRule is returned by Remove for an id no rule has.
var ErrNoRule = errors.New("there is no such rule")

// Add forbids files to be executed, from when it returns and over restarts. Its undo is Remove. The same rule a second time is
// done at once. Processes that run already go on.
//
// The receipt is done only when the rule is in effect; in LogOnly its State is shadow. Errors are *verdict.Error: a rule about a
// protected file, a rule by nothing, and one more than MaxRules are refused; while the guard does not run, nothing is stored and the
// order fails. It blocks until the listener has taken the rule, at most 20 seconds.
func (g *Guard) Add(ctx context.Context, orderID string, t bridge.PreventExecution) (bridge.Receipt, error) {
	r, err := newRule(orderID, t, g.cfg.Now())
	if err != nil {
		return bridge.Receipt{}, err
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	if r, err = g.judged(ctx, r); err != nil {
		return bridge.Receipt{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	rules, err := g.load()
	if err != nil {
		return bridge.Receipt{}, verdict.Hopeless("%w", err)
	}
	known := slices.ContainsFunc(rules, func(o Rule) bool { return o.ID == r.ID })
	if !known && len(rules) >= MaxRules {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonLimit, "there are %d rules already, the limit is %d: remove some", len(rules), MaxRules)
	}
	if g.cfg.DryRun {
		return verdict.DryRun(fmt.Sprintf("would have kept %s from being executed%s", r.String(), g.gapsText(r))), nil
	}
	if err := g.effective(); err != nil {
		return bridge.Receipt{}, err
	}
	if known {
		if err := g.confirm(ctx, rules, r); err != nil {
			return bridge.Receipt{}, err
		}
		return g.receipt("already in effect", r), nil
	}
	if err := g.swap(ctx, rules, append(slices.Clone(rules), r), r.ID); err != nil {
		return bridge.Receipt{}, err
	}
	g.log.InfoContext(ctx, "execution forbidden", "order", orderID, "task", string(bridge.KindPreventExecution), "rule", r.ID)
	return g.receipt("in effect", r), nil
}

// judged refuses rules about protected files and brings the path into the form the system compares.
func (g *Guard) judged(ctx context.Context, r Rule) (Rule, error) {
	protected, err := g.cfg.Protected(ctx)
	if err != nil {
		if stopped := verdict.Stopped(ctx, "not begun"); stopped != nil {
			return Rule{}, stopped
		}
		return Rule{}, verdict.Hopeless("find out which programs must always run: %w", err)
	}
	if r.digest() != "" {
		if reason, why := protected.ByDigest(r.digest()); reason != bridge.ReasonNone {
			return Rule{}, verdict.Refuse(reason, "a program with the digest %s is never denied: %s", r.digest(), why)
		}
	}
	return g.machine.settle(ctx, protected, r)
}

// effective answers why a stored rule would not be one that holds.
func (g *Guard) effective() error {
	if g.machine.running() {
		return nil
	}
	if g.cfg.disabled() {
		return verdict.Hopeless("nothing is denied while the emergency switch is on (the file %s, or %s on the command line of the kernel); nothing was stored: "+
			"switch it off and send the order again", verdict.Shown(g.cfg.Disable), bootWord)
	}
	if g.owned.Load() {
		return verdict.Untouched("the guard is just being started, and a rule nobody enforces was not stored")
	}
	return verdict.Hopeless("the guard does not run, and a rule nobody enforces was not stored: start the agent, and send the order again")
}

// confirm makes sure that a rule which is stored already is in effect.
func (g *Guard) confirm(ctx context.Context, rules []Rule, r Rule) error {
	apply, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyDeadline)
	defer cancel()
	if err := g.machine.apply(apply, rules, r.ID); err != nil {
		return verdict.Hopeless("rule %s is stored and not in effect: %w", r.ID, err)
	}
	return nil
}

// swap stores the rules after and makes them effective, or leaves before in place. What is wrong with others than the rule added, if one
// is, is no error.
func (g *Guard) swap(ctx context.Context, before, after []Rule, added string) error {
	if err := g.save(after); err != nil {
		// It may stand there although it is not known to last.
		if back := g.save(before); back != nil {
			return verdict.Undecided("%w; taking it back: %w", err, back)
		}
		return verdict.Untouched("%w", err)
	}
	apply, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyDeadline)
	defer cancel()
	err := g.machine.apply(apply, after, added)
	if err == nil {
		return nil
	}
	if back := g.save(before); back != nil {
		return verdict.Undecided("the rules are stored but could not be made effective: %w; taking them back: %w", err, back)
	}
	if back := g.machine.apply(apply, before, ""); back != nil && g.machine.running() {
		return verdict.Undecided("the rules could not be made effective: %w; taking them back: %w", err, back)
	}
	return verdict.Untouched("make the rules effective: %w", err)
}

// receipt says what is in effect and what is not covered, where the person who sent the order reads it.
func (g *Guard) receipt(how string, r Rule) bridge.Receipt {
	text := fmt.Sprintf("rule %s is %s: %s", r.ID, how, r.String())
	if g.cfg.Mode == LogOnly {
		return bridge.Receipt{State: bridge.StateShadow, Ref: r.ID, Detail: text + "; the mode is log only: executions are reported, not blocked" + g.gapsText(r)}
	}
	return bridge.Receipt{State: bridge.StateDone, Ref: r.ID, Detail: text + g.gapsText(r)}
}

func (g *Guard) gapsText(r Rule) string {
	gaps := g.machine.gaps(&r)
	if len(gaps) == 0 {
		return ""
	}
	return "; not covered: " + strings.Join(gaps, "; ")
}

// Remove takes a rule away; files may be executed again when it returns. It answers ErrNoRule when there is none. It also works while
// the guard does not run here, unless another process runs it, and under DryRun: it is what a person does when a rule was a mistake.
func (g *Guard) Remove(ctx context.Context, id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.owned.Load() {
		lock, err := g.lock()
		if err != nil {
			return fmt.Errorf("remove rule: %w", err)
		}
		defer lock.Release()
	}
	rules, err := g.load()
	if err != nil {
		return fmt.Errorf("remove rule: %w", err)
	}
	after := slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r.ID == id })
	if len(after) == len(rules) {
		return fmt.Errorf("%w: %s", ErrNoRule, verdict.Shown(id))
	}
	if !g.machine.running() {
		// A listener that has begun meanwhile reads them again before it counts as running, or is told below.
		if err := g.save(after); err != nil || !g.machine.running() {
			return err
		}
	}
	if err := g.swap(ctx, rules, after, ""); err != nil {
		return fmt.Errorf("remove rule: %w", err)
	}
	g.log.InfoContext(ctx, "execution allowed again", "rule", id)
	return nil
}

// Rules returns the stored rules in the order in which they came.
func (g *Guard) Rules(ctx context.Context) ([]Rule, error) {
	if cause := context.Cause(ctx); cause != nil {
		return nil, fmt.Errorf("rules: %w", cause)
	}
	return g.load()
}

// Status says how the guard stands. It blocks for a second at most.
func (g *Guard) Status(ctx context.Context) (Status, error) {
	rules, err := g.Rules(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Mode: g.cfg.mode(), Rules: len(rules), Running: g.machine.running(), Disabled: g.cfg.disabled()}
	g.machine.status(ctx, &s)
	s.Gaps = g.machine.gaps(nil)
	return s, nil
}

// Disable switches the emergency switch on: within a second nothing is denied any more, here and after a restart of the agent, until Resume. On
// systems whose switch lies in /run a restart of the machine ends it as well.
func (g *Guard) Disable() error {
	if err := os.MkdirAll(filepath.Dir(g.cfg.Disable), 0o755); err != nil { //nolint:gosec // as systemd makes it
		return fmt.Errorf("emergency switch: %w", err)
	}
	if err := os.WriteFile(g.cfg.Disable, nil, 0o600); err != nil {
		return fmt.Errorf("emergency switch: %w", err)
	}
	return nil
}

// Resume lets rules deny again: it switches the emergency switch off and forgets which rules the breaker stopped. It blocks until a guard
// that runs here denies again, for 20 s at most.
func (g *Guard) Resume(ctx context.Context) error {
	if err := os.Remove(g.cfg.Disable); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("emergency switch: %w", err)
	}
	if bootedWithout() {
		return fmt.Errorf("the machine was started with %s: start it without", bootWord)
	}
	if !g.owned.Load() {
		lock, err := g.lock()
		if err != nil {
			return fmt.Errorf("resume: %w", err)
		}
		defer lock.Release()
		if err := os.Remove(filepath.Join(g.cfg.State, breakerFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("resume: %w", err)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, applyDeadline)
	defer cancel()
	poll := time.NewTicker(resumePoll)
	defer poll.Stop()
	for !g.machine.running() {
		select {
		case <-ctx.Done():
			return errors.New("resume: the guard did not come back in time: look at its log")
		case <-poll.C:
		}
	}
	return g.machine.resume(ctx)
}
