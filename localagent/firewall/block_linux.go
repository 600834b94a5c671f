package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// timeoutSlack is how much a timeout may differ when it is read back: the kernel counts in its own ticks.
const timeoutSlack = 2 * time.Second

// applyBlock puts prefix into the table for d, reads the table back and cuts what is connected. When the kernel
// does not show what was asked for, the change is taken back.
func (w *Firewall) applyBlock(ctx context.Context, prefix netip.Prefix, d time.Duration) (bridge.Receipt, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blockFast(prefix, d) {
		return w.blocked(ctx, prefix, w.untilNow(d))
	}
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return bridge.Receipt{}, netfilterVerdict("open netlink", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	rules := newBlockRules()
	before, err := rules.readBlocks(conn)
	if err != nil {
		return bridge.Receipt{}, netfilterVerdict("read the block table", err)
	}
	inside, d, held, err := overlapping(before.blocks, prefix, d)
	if err != nil {
		return bridge.Receipt{}, err
	}
	target := prefix
	if held.Prefix.IsValid() {
		target, d = held.Prefix, held.Left
	}
	if held.Prefix.IsValid() && before.intact {
		return w.blocked(ctx, prefix, fmt.Sprintf("already blocked for another %s by %s", held.Left.Round(time.Second), targetText(held.Prefix)))
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	flushErr := change(func(c *nftables.Conn) error { return rules.put(c, before, target, d, inside) })
	if w.testOnlyApplied != nil {
		w.testOnlyApplied()
	}
	count, cerr := generation()
	after, err := rules.readBlocks(conn)
	if err == nil && cerr == nil {
		w.remember(count, after)
	}
	if err != nil {
		return bridge.Receipt{}, verdict.Undecided("read the block table back: %w", errors.Join(err, flushErr))
	}
	if b, ok := after.find(target); ok && after.intact && b.Left > 0 && b.Timeout > d-timeoutSlack {
		return w.blocked(ctx, prefix, w.untilNow(b.Left))
	}
	if flushErr != nil {
		return bridge.Receipt{}, netfilterVerdict("change the block table", flushErr)
	}
	if err := rules.rollBack(conn, before); err != nil {
		return bridge.Receipt{}, verdict.Undecided("the block of %s did not read back, and taking it back met: %w", targetText(prefix), err)
	}
	return bridge.Receipt{}, verdict.Untouched("the block of %s did not read back and was taken back: does something else change table inet %s?", targetText(prefix), blockTable)
}

func (w *Firewall) untilNow(left time.Duration) string {
	return "blocked until " + w.cfg.Now().Add(left).UTC().Format(time.RFC3339)
}

// put queues the change. A table that is not as it has to be is made anew with the blocks it had, and so is one
// whose prefixes change: the kernel does not find the ends of an interval that changes twice in a transaction.
func (r *blockRules) put(c *nftables.Conn, before *blockState, prefix netip.Prefix, d time.Duration, inside []netip.Prefix) error {
	set, els := r.set(prefix), elements(prefix, d)
	if !before.intact || len(inside) > 0 {
		carried := slices.DeleteFunc(slices.Clone(before.blocks), func(b Block) bool {
			return b.Prefix == prefix || slices.Contains(inside, b.Prefix)
		})
		return errors.Join(r.create(c, carried), c.SetAddElements(set, els))
	}
	if _, ok := before.find(prefix); !ok && prefix.IsSingleIP() {
		// A deletion makes the kernel wait for its readers, some 10 ms.
		return c.SetAddElements(set, els)
	}
	// Adding before deleting makes the deletion safe when the element has just run out.
	return errors.Join(c.SetAddElements(set, els), c.SetDeleteElements(set, els), c.SetAddElements(set, els))
}

// rollBack makes the table what it was before, and checks that.
func (r *blockRules) rollBack(c *nftables.Conn, before *blockState) error {
	err := change(func(c *nftables.Conn) error {
		if before.exists {
			return r.create(c, before.blocks)
		}
		c.AddTable(r.table)
		c.DelTable(r.table)
		return nil
	})
	if err != nil {
		return fmt.Errorf("change the block table: %w", err)
	}
	now, err := r.readBlocks(c)
	if err != nil {
		return err
	}
	if now.exists != before.exists || len(now.blocks) > len(before.blocks) {
		return errors.New("the block table is not what it was before")
	}
	return nil
}

func (w *Firewall) blocked(ctx context.Context, prefix netip.Prefix, text string) (bridge.Receipt, error) {
	cut, err := cutFlows(ctx, prefix)
	detail := fmt.Sprintf("%s %s; cut %d connections", targetText(prefix), text, cut)
	if err != nil {
		// The filter holds: what could not be cut has no packets any more.
		w.log.Warn("connections of a blocked address were not cut", "prefix", prefix, "err", err)
		detail += ", others run into the filter"
	}
	return verdict.Done(detail), nil
}

// Blocked returns what is blocked at this moment, in no order. It blocks for about a millisecond.
func (w *Firewall) Blocked(ctx context.Context) ([]Block, error) {
	if cause := context.Cause(ctx); cause != nil {
		return nil, fmt.Errorf("list blocks: %w", cause)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	conn, err := nftables.New()
	if err != nil {
		return nil, netfilterVerdict("open netlink", err)
	}
	st, err := newBlockRules().readBlocks(conn)
	if err != nil {
		return nil, netfilterVerdict("read the block table", err)
	}
	return st.blocks, nil
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
	conn, err := nftables.New()
	if err != nil {
		return netfilterVerdict("open netlink", err)
	}
	rules := newBlockRules()
	st, err := rules.readBlocks(conn)
	if err != nil {
		return netfilterVerdict("read the block table", err)
	}
	if _, ok := st.find(prefix); !ok {
		return fmt.Errorf("unblock %s: %w", targetText(prefix), ErrNotBlocked)
	}
	if w.cfg.DryRun {
		return nil
	}
	if err := conn.SetDeleteElements(rules.set(prefix), elements(prefix, 0)); err != nil {
		return fmt.Errorf("unblock %s: %w", targetText(prefix), err)
	}
	if err := conn.Flush(); err != nil {
		return netfilterVerdict("unblock "+targetText(prefix), err)
	}
	if st, err = rules.readBlocks(conn); err != nil {
		return netfilterVerdict("read the block table back", err)
	}
	if _, ok := st.find(prefix); ok {
		return fmt.Errorf("unblock %s: it is still in the table", targetText(prefix))
	}
	return nil
}
