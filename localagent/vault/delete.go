package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// DeleteFile removes the file, and with SearchInSubfolders every file of that name below its folder; digests that are given
// must match, too. It has no undo. What is removed is fixed before anything is: a plan of pinned files, refused whole when it
// holds more than MaxTargets; a plan for the whole machine needs a digest. Protected files of a plan are left alone and named.
//
// A file that is not there is done: the order asks for its absence, and so the same order may come twice. A file of the name, or a
// folder, that could not be looked at is not: the others are removed, and the order is not done. It blocks for about 2 ms a MiB
// that has to be hashed. Errors are *verdict.Error: Unknown when only some of the files could be removed. The receipt is
// StateAccepted when Windows removes the file at its next start.
func (v *Vault) DeleteFile(ctx context.Context, order string, t bridge.DeleteFile) (bridge.Receipt, error) {
	s, err := newSubject(order, t, t.Path, t.MD5, t.SHA256)
	if err != nil {
		return bridge.Receipt{}, err
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	var res deletion
	if !v.cfg.DryRun {
		if _, err := v.ready(ctx); err != nil {
			return bridge.Receipt{}, verdict.Hopeless("%w", err)
		}
		if err := v.resumeOrder(ctx, &s, &res); err != nil {
			return bridge.Receipt{}, err
		}
	}
	pl, err := v.planDeletion(ctx, &s, t.SearchInSubfolders)
	if err != nil {
		return bridge.Receipt{}, err
	}
	defer pl.close()
	if v.cfg.DryRun {
		return pl.dryRun(&s), nil
	}
	for _, target := range pl.targets {
		v.deleteOne(ctx, &s, target, &res)
	}
	res.failed = append(res.failed, pl.failed...)
	if err := pl.unseen(); err != nil {
		res.failed = append(res.failed, err)
	}
	return res.receipt(&s, pl)
}

// deletion says what became of the files of a plan, each in words.
type deletion struct {
	removed []string
	later   []string // go when the machine starts again
	failed  []error
}

// deleteOne removes one file of the plan.
func (v *Vault) deleteOne(ctx context.Context, s *subject, t *target, res *deletion) {
	name := verdict.Shown(t.p.Path)
	fail := func(err error) { res.failed = append(res.failed, err) }
	if err := verdict.Stopped(ctx, name+" is as it was"); err != nil {
		fail(err)
		return
	}
	one := subject{s.order, s.task, t.p.Path, s.want}
	id := one.id()
	l, err := v.lock(ctx, id, true)
	if err != nil {
		fail(verdict.Untouched("%s is as it was: %w", name, err))
		return
	}
	defer l.release()
	if t.hashed && !unchanged(t.p, t.z, t.key) {
		fail(verdict.Untouched("%s changed after it was looked at: it is as it was", name))
		return
	}
	err = v.remove(ctx, &removal{&one, id, t.p, t.z, s.want, t.p.Stat.Bytes}, func() error { return nil })
	switch {
	case errors.Is(err, files.ErrAtRestart):
		res.later = append(res.later, name+" ("+err.Error()+")")
	case err != nil:
		fail(err)
	default:
		res.removed = append(res.removed, name+v.afterlife(ctx, t.p))
	}
}

// resumeOrder ends what the order left half done when it came before.
func (v *Vault) resumeOrder(ctx context.Context, s *subject, res *deletion) error {
	ids, err := v.pendingIDs()
	if err != nil {
		return verdict.Untouched("quarantine: %w", err)
	}
	for _, id := range ids {
		if err := v.resumeOne(ctx, id, s, res); err != nil {
			return verdict.Undecided("end what was interrupted with %s: %w", verdict.Shown(s.path), err)
		}
	}
	return nil
}

func (v *Vault) resumeOne(ctx context.Context, id string, s *subject, res *deletion) error {
	rec, err := v.readPending(id)
	if err != nil && id != s.id() {
		v.log.Warn("a note about an interrupted order cannot be read", "order", s.order, "err", err)
		return nil
	}
	if err != nil || rec == nil || rec.Order != s.order || rec.Task != s.task {
		return err
	}
	l, err := v.lock(ctx, id, true)
	if err != nil {
		return err
	}
	defer l.release()
	// Somebody may have ended it while the lock was waited for.
	if rec, err = v.readPending(id); err != nil || rec == nil {
		return err
	}
	out, err := v.resume(ctx, rec)
	if err != nil {
		return err
	}
	name := verdict.Shown(string(rec.Path))
	switch out {
	case goesAtRestart:
		res.later = append(res.later, name+" ("+(&files.RestartError{At: string(rec.AtRestart)}).Error()+")")
		return nil
	case goneForGood:
		res.removed = append(res.removed, name+" (after an interruption)")
	case stillThere:
	}
	return v.dropPending(id)
}

// receipt is done when every file of the plan is gone.
func (r *deletion) receipt(s *subject, pl *deletionPlan) (bridge.Receipt, error) {
	text := r.summary()
	switch {
	case len(r.failed) == 1 && len(r.removed)+len(r.later) == 0:
		return bridge.Receipt{}, r.failed[0]
	case len(r.failed) > 0 && len(r.removed)+len(r.later) == 0:
		return bridge.Receipt{}, &verdict.Error{Class: gravest(r.failed), Err: errors.Join(r.failed...)}
	case len(r.failed) > 0:
		return bridge.Receipt{}, verdict.Undecided("%s; then: %w", text, errors.Join(r.failed...))
	case len(r.later) > 0:
		return bridge.Receipt{State: bridge.StateAccepted, Detail: text + pl.notes()}, nil
	case text == "":
		return verdict.Done("nothing to delete: " + pl.nothing(s) + pl.notes()), nil
	default:
		return verdict.Done(text + pl.notes()), nil
	}
}

func (r *deletion) summary() string {
	var parts []string
	if len(r.removed) > 0 {
		parts = append(parts, "deleted "+verdict.List(r.removed))
	}
	if len(r.later) > 0 {
		parts = append(parts, "to be deleted at restart: "+verdict.List(r.later))
	}
	return strings.Join(parts, "; ")
}

// gravest is the class of errors after which nothing was removed: Unknown if one of them is, Retry only if all are.
func gravest(errs []error) bridge.Class {
	class := bridge.Retry
	for _, err := range errs {
		switch verdict.Of(err).Class {
		case bridge.Unknown:
			return bridge.Unknown
		case bridge.Permanent, bridge.Unreachable:
			class = bridge.Permanent
		case bridge.Retry:
		}
	}
	return class
}

// nothing says why a plan is empty.
func (pl *deletionPlan) nothing(s *subject) string {
	if pl.search {
		return fmt.Sprintf("no file named %s below %s is what the order means", verdict.Shown(pl.base), verdict.Shown(pl.root))
	}
	return verdict.Shown(s.path) + " is not there"
}
