package vault

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// takeAway ends a quarantine whose copy is ready: the intent becomes durable, then the copy gets its name, then the original goes.
// Whatever fails before that leaves neither copy nor intent behind.
func (v *Vault) takeAway(ctx context.Context, s *subject, it *Item, note string, p *files.Pinned, z *files.Frozen) (bridge.Receipt, error) {
	if err := verdict.Stopped(ctx, "the file is as it was"); err != nil {
		return bridge.Receipt{}, errors.Join(err, v.forget(it.ID))
	}
	want := files.Digests{SHA256: it.SHA256}
	err := v.remove(ctx, &removal{s, it.ID, p, z, want, it.Size}, func() error { return v.commit(it.ID) })
	switch e := verdict.Of(err); {
	case err == nil:
		return verdict.Done(it.receipt("quarantined", "as") + note + v.afterlife(ctx, p)), nil
	case errors.Is(err, files.ErrAtRestart):
		return bridge.Receipt{State: bridge.StateAccepted, Detail: it.receipt("copied", "as") + note + "; at restart: " + err.Error()}, nil
	case e.Class == bridge.Unknown:
		// The copy stays: the file may be gone.
		return bridge.Receipt{}, verdict.Undecided("%s; then: %w", it.receipt("copied", "as"), e.Err)
	default:
		if forgetErr := v.forget(it.ID); forgetErr != nil {
			return bridge.Receipt{}, verdict.Undecided("%w; the copy %s could not be removed: %w", e.Err, it.ID, forgetErr)
		}
		return bridge.Receipt{}, err
	}
}

// forget removes everything an order wrote into the vault; the note goes last, because it says what is left to be removed.
func (v *Vault) forget(id string) error {
	if err := errors.Join(v.removeItem(id), ignoreMissing(os.RemoveAll(v.tempDir(id)))); err != nil {
		return err
	}
	return v.dropPending(id)
}

// removal is a file that was judged and is to go.
type removal struct {
	s  *subject
	id string
	p  *files.Pinned
	z  *files.Frozen
	// want are the digests the file must still have; empty = any.
	want files.Digests
	// size is how many bytes it had when it was judged.
	size int64
}

// remove takes the file out of everybody's reach, looks that it is still what was judged, and unlinks it. ready runs between
// the durable intent and the taking. Its errors are *verdict.Error, or wrap ErrAtRestart; all but Unknown ones say that the
// file is at its place, and that nothing is pending unless the copy of it could not be removed.
func (v *Vault) remove(ctx context.Context, r *removal, ready func() error) error {
	stage, err := r.p.Stage(v.stageDir())
	if err != nil {
		return fileVerdict(ctx, r.s.path, err)
	}
	err = v.removeBy(ctx, r, stage, ready, false)
	if !errors.Is(err, files.ErrNoStage) {
		return err
	}
	v.cfg.crash("again")
	// The note stays until that of the next try takes its place: it tells that the file is not in quarantine although its copy is.
	near, errNear := r.p.NearStage()
	if errNear != nil {
		return v.untouched(r.id, err)
	}
	return v.removeBy(ctx, r, near, func() error { return nil }, true)
}

// untouched clears what is written about a file that is at its place. The copy goes first, as in Recover: without the note it would
// say that the file was taken.
func (v *Vault) untouched(id string, err error) error {
	if itemErr := v.removeItem(id); itemErr != nil {
		return errors.Join(err, itemErr)
	}
	err = errors.Join(err, v.dropPending(id))
	v.cfg.crash("dropped")
	return err
}

// removeBy is remove with a stage, which it closes. When the file does not fit into that, and it is not the last one, the error wraps
// ErrNoStage and the note stays.
func (v *Vault) removeBy(ctx context.Context, r *removal, stage *files.Stage, ready func() error, last bool) error {
	s, id := r.s, r.id
	// The stage goes before the note that tells where it is.
	untouched := func(err error) error { return v.untouched(id, errors.Join(err, stage.Close())) }
	rec, err := newPending(r, stage)
	if err == nil {
		err = v.writePending(rec)
	}
	if err != nil {
		return untouched(fileVerdict(ctx, s.path, err))
	}
	v.cfg.crash("pending")
	if err := ready(); err != nil {
		return untouched(fileVerdict(ctx, s.path, err))
	}
	v.cfg.crash("ready")
	taken, err := r.p.Take(stage, id)
	if errors.Is(err, files.ErrNoStage) && !last {
		return errors.Join(fileVerdict(ctx, s.path, err), stage.Close())
	}
	if err != nil {
		err = fileVerdict(ctx, s.path, err)
		if verdict.Of(err).Class == bridge.Unknown {
			return errors.Join(err, stage.Close())
		}
		return untouched(err)
	}
	v.cfg.crash("take")
	err = recheck(ctx, r)
	if err == nil {
		rec.Taken = true
		err = v.writePending(rec)
	}
	if err != nil {
		if back := taken.PutBack(); back != nil {
			return errors.Join(verdict.Undecided("%w; then: %w", err, back), stage.Close())
		}
		return untouched(verdict.Untouched("%s is as it was: %w", verdict.Shown(s.path), err))
	}
	v.cfg.crash("marked")
	err = taken.Unlink()
	v.cfg.crash("unlink")
	restart, atRestart := errors.AsType[*files.RestartError](err)
	switch {
	case errors.Is(err, files.ErrBusy):
		return untouched(fileVerdict(ctx, s.path, err))
	case err != nil && !atRestart:
		return errors.Join(verdict.Undecided("remove %s: %w", verdict.Shown(s.path), cause(err)), stage.Close())
	}
	noteErr := stage.Close()
	if atRestart {
		rec.AtRestart = rawPath(restart.At)
		noteErr = errors.Join(noteErr, v.writePending(rec))
	} else {
		noteErr = errors.Join(noteErr, v.dropPending(id))
	}
	if noteErr != nil {
		// Nothing is left to end: a later order finds that out again.
		v.log.Warn("a note about a removed file stays", "order", s.order, "err", noteErr)
	}
	v.cfg.crash("done")
	return err
}

// recheck answers nil when the taken file is what was judged. Without a lease somebody may have written into it since.
func recheck(ctx context.Context, r *removal) error {
	if !named(r.want) || r.z.Held() {
		return nil
	}
	// Without the end of ctx: a file that is out of its place is not left there. It is read as far as it was judged, and no further.
	has, _, err := digestOf(context.WithoutCancel(ctx), r.p.File, r.size)
	if err != nil && !errors.Is(err, errGrown) {
		return fmt.Errorf("read it again: %w", err)
	}
	if how := differs(r.want, has); how != "" {
		return errors.New("it changed in the last moment")
	}
	return nil
}
