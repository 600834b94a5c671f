package vault

import (
	"context"
	"errors"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// Reconcile looks, without any effect, whether the order has been carried out, and answers with its receipt. What was left half
// done is not found: the same order again ends it. A deletion is found when nothing it means is there. Errors are
// *verdict.Error.
func (v *Vault) Reconcile(ctx context.Context, order string, t bridge.Task) (r bridge.Receipt, found bool, err error) {
	switch t := t.(type) {
	case bridge.GetFile:
		return v.reconcileCopy(ctx, order, t, t.Path)
	case bridge.QuarantineFile:
		return v.reconcileCopy(ctx, order, t, t.Path)
	case bridge.DeleteFile:
		return v.reconcileDeletion(ctx, order, t)
	case bridge.BlockAddress, bridge.IOCScan, bridge.IsolateHost, bridge.OnDemandScan, bridge.PreventExecution, bridge.StartProcess,
		bridge.TerminateProcess:
		return bridge.Receipt{}, false, verdict.Refuse(bridge.ReasonUnsupported, "%s is no task of the quarantine", t.Kind())
	default:
		return bridge.Receipt{}, false, verdict.Refuse(bridge.ReasonUnsupported, "the quarantine knows no task of type %T", t)
	}
}

func (v *Vault) reconcileCopy(ctx context.Context, order string, t bridge.Task, path string) (bridge.Receipt, bool, error) {
	s, err := newSubject(order, t, path, "", "")
	if err != nil {
		return bridge.Receipt{}, false, err
	}
	// Asked first: to open the quarantine would make it.
	if there, err := exists(v.itemDir(s.id())); err != nil || !there {
		return bridge.Receipt{}, false, notFound(err)
	}
	key, err := v.ready(ctx)
	if err != nil {
		return bridge.Receipt{}, false, verdict.Hopeless("%w", err)
	}
	rec, err := v.readPending(s.id())
	if err != nil {
		return bridge.Receipt{}, false, verdict.Hopeless("%w", err)
	}
	it, err := v.item(key, s.id())
	switch {
	case errors.Is(err, ErrNotFound), err == nil && rec != nil:
		return bridge.Receipt{}, false, nil
	case err != nil:
		return bridge.Receipt{}, false, verdict.Hopeless("the copy %s: %w", s.id(), err)
	case it.Task == bridge.KindQuarantineFile:
		return verdict.Done(it.receipt("quarantined", "as")), true, nil
	default:
		return verdict.Done(it.receipt("copied", "as")), true, nil
	}
}

// notFound is nil when nothing was wrong.
func notFound(err error) error {
	if err == nil {
		return nil
	}
	return verdict.Untouched("quarantine: %w", err)
}

func (v *Vault) reconcileDeletion(ctx context.Context, order string, t bridge.DeleteFile) (bridge.Receipt, bool, error) {
	s, err := newSubject(order, t, t.Path, t.MD5, t.SHA256)
	if err != nil {
		return bridge.Receipt{}, false, err
	}
	ids, err := v.pendingIDs()
	if err != nil {
		return bridge.Receipt{}, false, verdict.Untouched("quarantine: %w", err)
	}
	for _, id := range ids {
		rec, err := v.readPending(id)
		if err != nil && id != s.id() {
			continue // of another order, or of a file the search below finds again
		}
		if err != nil {
			return bridge.Receipt{}, false, verdict.Hopeless("%w", err)
		}
		if rec != nil && rec.Order == order && rec.Task == s.task {
			return bridge.Receipt{}, false, nil
		}
	}
	pl, err := v.planDeletion(ctx, &s, t.SearchInSubfolders)
	if err != nil {
		return bridge.Receipt{}, false, err
	}
	defer pl.close()
	if len(pl.targets)+len(pl.failed) > 0 || pl.unseen() != nil {
		return bridge.Receipt{}, false, nil
	}
	return verdict.Done("deleted: " + pl.nothing(&s) + pl.notes()), true, nil
}
