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

// maxBulk bounds one list of blocks.
const maxBulk = 65536

// Bulk is what became of a list of blocks.
type Bulk struct {
	// Blocked counts those that stand for the wished time at least, Already those among them that did before.
	Blocked, Already int
	// Cut counts the connections that were ended; those that could not be run into the filter.
	Cut int
	// Refused are those that may not be blocked, with a *verdict.Error each.
	Refused []Refusal
	// DryRun says that nothing was blocked.
	DryRun bool
}

// Refusal is a prefix that was not blocked, and why.
type Refusal struct {
	Prefix netip.Prefix
	Err    error
}

// BlockMany blocks up to 65536 addresses and prefixes for d (zero = 10 minutes) in one change of the packet filter: those that may
// be blocked, all or none, and cuts the connections with them. Prefixes shorter than /24 or /64 are refused. It blocks for about 10 µs an
// address.
func (w *Firewall) BlockMany(ctx context.Context, list []netip.Prefix, d time.Duration) (Bulk, error) {
	if len(list) > maxBulk {
		return Bulk{}, verdict.Refuse(bridge.ReasonInvalid, "%d addresses at once, at most %d may be: name networks", len(list), maxBulk)
	}
	if d == 0 {
		d = defaultBlockFor
	}
	if d < time.Second || d > maxBlockFor {
		return Bulk{}, verdict.Refuse(bridge.ReasonInvalid, "a block lasts between 1 second and %s, not %s", maxBlockFor, d)
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return Bulk{}, err
	}
	live, err := w.untouchable(ctx)
	if err != nil {
		return Bulk{}, err
	}
	out := Bulk{DryRun: w.cfg.DryRun}
	seen := make(map[netip.Prefix]bool, len(list))
	may := make([]netip.Prefix, 0, len(list))
	for _, p := range list {
		prefix, err := bridge.BlockAddress{Address: targetText(p)}.Prefix()
		if err != nil {
			err = verdict.Refuse(bridge.ReasonInvalid, "%w", err)
		} else {
			err = w.refused(prefix, live)
		}
		if err != nil {
			out.Refused = append(out.Refused, Refusal{p, err})
			continue
		}
		if !seen[prefix] {
			seen[prefix] = true
			may = append(may, prefix)
		}
	}
	if w.cfg.DryRun || len(may) == 0 {
		return out, nil
	}
	// Wide ones first: what lies in one of them needs no block of its own.
	slices.SortFunc(may, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	return out, w.applyMany(ctx, may, d, &out)
}

// withBlock adds a block to those that stand. It reports whether anything changed; an error says that a wider block in
// the way ends sooner.
func withBlock(blocks []Block, prefix netip.Prefix, d time.Duration) ([]Block, bool, error) {
	inside, d, held, err := overlapping(blocks, prefix, d)
	if err != nil || held.Prefix.IsValid() {
		return blocks, false, err
	}
	blocks = slices.DeleteFunc(blocks, func(b Block) bool { return b.Prefix == prefix || slices.Contains(inside, b.Prefix) })
	return append(blocks, Block{prefix, d, d}), true, nil
}

// overlapping compares the block with those that stand: held is one that does the whole work already, inside are
// the narrower ones it replaces; it then lasts as long as the longest of them.
func overlapping(blocks []Block, prefix netip.Prefix, d time.Duration) (inside []netip.Prefix, _ time.Duration, held Block, err error) {
	for _, b := range blocks {
		switch {
		case b.Prefix == prefix:
			if b.Left >= d {
				held = b
			}
		case b.Prefix.IsSingleIP() || prefix.IsSingleIP() && b.Left < d:
			// Single addresses live in a set of their own and may stand beside a prefix.
		case b.Prefix.Bits() < prefix.Bits() && b.Prefix.Contains(prefix.Addr()):
			if b.Left < d {
				return nil, d, held, verdict.Refuse(bridge.ReasonInvalid, "%s lies in %s, which is blocked for another %s: block that prefix again, or unblock it first",
					prefix, b.Prefix, b.Left.Round(time.Second))
			}
			held = b
		case prefix.Overlaps(b.Prefix):
			inside = append(inside, b.Prefix)
			d = max(d, b.Left)
		}
	}
	return inside, d, held, nil
}

// String says what became of the list.
func (b Bulk) String() string {
	if b.DryRun {
		return fmt.Sprintf("dry run: nothing blocked, %d refused", len(b.Refused))
	}
	return fmt.Sprintf("%d blocked, %d of them before, %d refused, %d connections cut", b.Blocked, b.Already, len(b.Refused), b.Cut)
}
