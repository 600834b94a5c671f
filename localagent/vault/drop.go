package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// Drop removes an item for good, a damaged one too. It has no undo. It waits for who restores or exports it. The error wraps
// ErrNotFound when there is none, and is an error while the original of a quarantine is still being taken away.
func (v *Vault) Drop(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	if _, err := v.ready(ctx); err != nil {
		return err
	}
	l, err := v.lock(ctx, id, true)
	if err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	defer l.release()
	return v.drop(id)
}

// drop removes an item whose lock is held.
func (v *Vault) drop(id string) error {
	there, err := exists(v.itemDir(id))
	if err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	if !there {
		return fmt.Errorf("drop %s: %w", id, ErrNotFound)
	}
	// The original may stand in a stage, and this is the only whole copy anybody would look for.
	if pending, err := exists(v.pendingPath(id)); err != nil || pending {
		return errors.Join(err, fmt.Errorf("drop %s: its order was interrupted: start the agent, which ends it, and try again", id))
	}
	if err := v.removeItem(id); err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	return nil
}

// Prune drops the items that are older than Retention and returns them, also together with an error. Items somebody works on,
// and damaged ones, stay. With a Retention of 0 it does nothing.
func (v *Vault) Prune(ctx context.Context) ([]Item, error) {
	if v.cfg.Retention == 0 {
		return nil, nil
	}
	items, err := v.List(ctx)
	errs := []error{err}
	var dropped []Item
	limit := v.cfg.Now().Add(-v.cfg.Retention)
	for i := range items {
		if cause := context.Cause(ctx); cause != nil {
			return dropped, fmt.Errorf("prune the quarantine: %w", cause)
		}
		if !items[i].Sealed.Before(limit) {
			continue
		}
		ok, err := v.pruneOne(items[i].ID)
		errs = append(errs, err)
		if ok {
			dropped = append(dropped, items[i])
			v.log.Info("item of the quarantine is older than its retention", "order", items[i].Order, "item", items[i].ID,
				"path", verdict.Shown(items[i].Path))
		}
	}
	return dropped, errors.Join(errs...)
}

func (v *Vault) pruneOne(id string) (bool, error) {
	l, err := v.tryLock(id, true)
	if errors.Is(err, errHeld) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer l.release()
	err = v.drop(id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
