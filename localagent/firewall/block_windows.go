package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// endSlack is how much a block may be shorter than wished without being made anew: ends are whole seconds.
const endSlack = 2 * time.Second

// applyBlock puts filters for the address into the filtering platform, reads them back and ends what is connected. When they do
// not read back they are taken away again. The task scheduler knows the end before the first filter stands.
func (w *Firewall) applyBlock(ctx context.Context, prefix netip.Prefix, d time.Duration) (r bridge.Receipt, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	unlock, err := w.lock(ctx)
	if err != nil {
		return bridge.Receipt{}, verdict.Untouched("not blocked: %w", err)
	}
	defer unlock()
	text := ""
	err = w.platform.with(func(e engine) error {
		text, err = w.block(ctx, e, prefix, d)
		return err
	})
	if err != nil {
		return bridge.Receipt{}, err
	}
	return w.blocked(ctx, prefix, text)
}

func (w *Firewall) block(ctx context.Context, e engine, prefix netip.Prefix, d time.Duration) (string, error) {
	now := w.cfg.Now()
	before, err := currentFilters(e, now)
	if err != nil {
		return "", filterVerdict(err)
	}
	if held := holding(blocksOf(before, now), prefix, d); held.Prefix.IsValid() {
		return fmt.Sprintf("already blocked for another %s by %s", held.Left.Round(time.Second), targetText(held.Prefix)), nil
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return "", err
	}
	until := now.Add(d)
	if err := w.platform.plan(ctx, nearest(before, until, now)); err != nil {
		return "", verdict.Untouched("not blocked, because nobody would end it: %w", err)
	}
	want := blockFilters(prefix)
	if err := sign(want, tag{Block: prefix, Since: now.Unix(), Until: until.Unix()}); err != nil {
		return "", verdict.Untouched("%w", err)
	}
	if err := replace(e, want, func(f filter) bool { return f.tag.Block == prefix }, w.testOnlyApplied); err != nil {
		return "", err
	}
	return "blocked until " + until.UTC().Format(time.RFC3339), nil
}

// blocksOf returns the blocks that the filters make.
func blocksOf(all []filter, now time.Time) []Block {
	var out []Block
	for _, f := range all {
		left, _ := f.tag.left(now)
		if !f.tag.Block.IsValid() || left <= 0 || slices.ContainsFunc(out, func(b Block) bool { return b.Prefix == f.tag.Block }) {
			continue
		}
		out = append(out, Block{f.tag.Block, time.Duration(f.tag.Until-f.tag.Since) * time.Second, left})
	}
	return out
}

// holding returns the block that does the whole work already; a wider one does.
func holding(blocks []Block, prefix netip.Prefix, d time.Duration) Block {
	for _, b := range blocks {
		if b.Prefix.Bits() <= prefix.Bits() && b.Prefix.Contains(prefix.Addr()) && b.Left >= d-endSlack {
			return b
		}
	}
	return Block{}
}

func (w *Firewall) blocked(ctx context.Context, prefix netip.Prefix, text string) (bridge.Receipt, error) {
	cut, err := cutFlows(ctx, func(f flow) bool { return prefix.Contains(f.remote.Addr()) })
	detail := fmt.Sprintf("%s %s; cut %d connections", targetText(prefix), text, cut)
	if err != nil {
		// The filter holds: what could not be cut has no packets any more.
		w.log.Warn("connections of a blocked address were not cut", "prefix", prefix, "err", err)
		detail += ", others run into the filter"
	}
	return verdict.Done(detail), nil
}

// Blocked returns what is blocked at this moment, in no order. It blocks for some milliseconds.
func (w *Firewall) Blocked(ctx context.Context) (blocks []Block, err error) {
	if cause := context.Cause(ctx); cause != nil {
		return nil, fmt.Errorf("list blocks: %w", cause)
	}
	err = w.platform.with(func(e engine) error {
		all, err := readFilters(e)
		blocks = blocksOf(all, w.cfg.Now())
		return err
	})
	return blocks, err
}

// Unblock takes the block of exactly this address or prefix away. It answers ErrNotBlocked when there is none; an
// address inside a blocked prefix has no block of its own.
func (w *Firewall) Unblock(ctx context.Context, address string) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("unblock: %w", cause)
	}
	prefix, err := bridge.BlockAddress{Address: address}.Prefix()
	if err != nil {
		return fmt.Errorf("unblock: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	unlock, err := w.lock(ctx)
	if err != nil {
		return fmt.Errorf("unblock: %w", err)
	}
	defer unlock()
	ours := func(f filter) bool { return f.tag.Block == prefix }
	err = w.platform.with(func(e engine) error {
		all, err := currentFilters(e, w.cfg.Now())
		switch {
		case err != nil:
			return err
		case !slices.ContainsFunc(all, ours):
			return ErrNotBlocked
		case w.cfg.DryRun:
			return nil
		}
		return drop(e, ours)
	})
	if err != nil {
		return fmt.Errorf("unblock %s: %w", targetText(prefix), err)
	}
	return nil
}
