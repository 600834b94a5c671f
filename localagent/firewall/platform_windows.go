package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tailscale/wf"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// platform is what the firewall needs from Windows. Its zero value is ready.
type platform struct {
	// mu makes changes of the filtering platform by this process one after the other.
	mu sync.Mutex
	// open, tasks and lock, a file, are set by tests; zero = those of the system.
	open  func() (engine, error)
	tasks scheduler
	lock  string
}

// with opens the packet filter for use. Errors of the opening are verdicts.
func (p *platform) with(use func(engine) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := p.open
	if open == nil {
		open = openEngine
	}
	e, err := open()
	if err != nil {
		return filterVerdict(err)
	}
	defer e.close()
	return use(e)
}

// plan has the task scheduler wake this program at next; zero = not any more.
func (p *platform) plan(ctx context.Context, next time.Time) error {
	tasks := p.tasks
	if tasks == nil {
		var err error
		if tasks, err = systemScheduler(); err != nil {
			return err
		}
	}
	if next.IsZero() {
		return tasks.clear(ctx)
	}
	return tasks.set(ctx, next)
}

// filterVerdict says what became of an order the packet filter did not take.
func filterVerdict(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return verdict.Refuse(bridge.ReasonUnsupported, "%w", err)
	}
	return verdict.Untouched("%w", err)
}

// currentFilters returns our filters without those whose time is over; these it takes away.
func currentFilters(e engine, now time.Time) ([]filter, error) {
	if _, _, err := expire(e, now); err != nil {
		return nil, err
	}
	return readFilters(e)
}

// replace adds the filters in order, reads them back, and only then removes the older ones that match: there is no gap. After an error
// everything is as it was, or the error is Undecided. Errors are *verdict.Error.
func replace(e engine, want []*wf.Rule, older func(filter) bool, applied func()) error {
	if err := e.prepare(); err != nil {
		return verdict.Untouched("prepare the packet filter: %w", err)
	}
	old, err := readFilters(e)
	if err != nil {
		return verdict.Untouched("read the packet filter: %w", err)
	}
	for _, f := range want {
		if err := e.add(f); err != nil {
			return undone(e, want, fmt.Errorf("add a filter: %w", err))
		}
	}
	if applied != nil {
		applied()
	}
	got, err := readFilters(e)
	if err == nil {
		err = differs(want, got)
	}
	if err != nil {
		return undone(e, want, fmt.Errorf("read the filters back: %w", err))
	}
	for _, f := range old {
		if !older(f) {
			continue
		}
		if err := e.remove(f.ID); err != nil {
			// The new filters hold; the older ones end by themselves.
			return verdict.Undecided("the filters stand, but an older one could not be removed: %w", err)
		}
	}
	return nil
}

// undone takes added filters away again after why, and checks that.
func undone(e engine, added []*wf.Rule, why error) error {
	var errs []error
	for _, f := range slices.Backward(added) { // the blocks are the last
		errs = append(errs, e.remove(f.ID))
	}
	got, err := readFilters(e)
	errs = append(errs, err)
	left := slices.ContainsFunc(got, func(g filter) bool {
		return slices.ContainsFunc(added, func(f *wf.Rule) bool { return f.ID == g.ID })
	})
	if left {
		errs = append(errs, errors.New("a filter is still there"))
	}
	if err := errors.Join(errs...); err != nil {
		return verdict.Undecided("the change of the packet filter failed (%w), and taking it back met: %w", why, err)
	}
	return verdict.Untouched("the change of the packet filter was taken back: %w", why)
}

// blocksFirst orders filters for their removal: whatever ends it in between, nobody is left with the blocks alone and cut off from the
// peers as well.
func blocksFirst(all []filter) []filter {
	return slices.SortedStableFunc(slices.Values(all), func(a, b filter) int { return blockRank(a.Action) - blockRank(b.Action) })
}

func blockRank(a wf.Action) int {
	if a == wf.ActionBlock {
		return 0
	}
	return 1
}

// drop removes the filters that match, looks whether they are gone, and removes what nothing uses any more. The planned end may
// stay: it finds nothing to do and goes.
func drop(e engine, match func(filter) bool) error {
	all, err := readFilters(e)
	if err != nil {
		return err
	}
	for _, f := range blocksFirst(all) {
		if match(f) {
			if err := e.remove(f.ID); err != nil {
				return fmt.Errorf("remove a filter: %w", err)
			}
		}
	}
	if all, err = readFilters(e); err != nil {
		return fmt.Errorf("read the filters back: %w", err)
	}
	if slices.ContainsFunc(all, match) {
		return errors.New("a filter is still there")
	}
	if len(all) == 0 {
		return e.tidy()
	}
	return nil
}

// nearest returns the first end there will be.
func nearest(all []filter, until, now time.Time) time.Time {
	for _, f := range all {
		if left, forever := f.tag.left(now); !forever && now.Add(left).Before(until) {
			until = now.Add(left)
		}
	}
	return until
}

// ProbeTables says whether the packet filter can be read.
func ProbeTables(context.Context) (text string, err error) {
	err = new(platform).with(func(e engine) error {
		all, err := readFilters(e)
		text = fmt.Sprintf("the Windows Filtering Platform can be read; %d filters of this program stand in it", len(all))
		return err
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// ProbeCutting says which connections can be ended at once.
func ProbeCutting(context.Context) (string, error) {
	if _, err := tcpFlows(false); err != nil {
		return "", err
	}
	return "connections of IPv4 can be cut; those of IPv6 run into the filter", nil
}
