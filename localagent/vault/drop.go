package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// pruneAfter is how long an item stays after it was first found too old. Clocks that are wrong when a machine starts are set right
// within minutes, and until then every item can look old.
const pruneAfter = 50 * time.Minute

// Prune drops the items that are older than Retention and returns them, also together with an error: those that an earlier call, at
// least 50 minutes before, has found too old as well. Items somebody works on, and damaged ones, stay. With a Retention of 0, and in a
// dry run, it does nothing.
func (v *Vault) Prune(ctx context.Context) ([]Item, error) {
	if v.cfg.Retention == 0 || v.cfg.DryRun {
		return nil, nil
	}
	items, err := v.List(ctx)
	errs := []error{err}
	var dropped []Item
	for _, it := range v.overdue(items) {
		if cause := context.Cause(ctx); cause != nil {
			return dropped, fmt.Errorf("prune the quarantine: %w", cause)
		}
		ok, err := v.pruneOne(it.ID)
		errs = append(errs, err)
		if ok {
			dropped = append(dropped, it)
			v.log.Info("item of the quarantine is older than its retention", "order", it.Order, "item", it.ID, "path", verdict.Shown(it.Path))
		}
	}
	return dropped, errors.Join(errs...)
}

// overdue returns the items that have been too old for long enough, and remembers since when the others are.
func (v *Vault) overdue(items []Item) []Item {
	v.mu.Lock()
	defer v.mu.Unlock()
	// The difference of two times of one process does not depend on what the clock is set to (package time, monotonic clocks).
	now := v.cfg.Now()
	old := make(map[string]time.Time)
	var due []Item
	for _, it := range items {
		if !it.Sealed.Before(now.Add(-v.cfg.Retention)) {
			continue
		}
		since, known := v.old[it.ID]
		if !known {
			since = now
		}
		old[it.ID] = since
		if now.Sub(since) >= pruneAfter {
			due = append(due, it)
		}
	}
	v.old = old
	return due
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
