package localagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// forest holds no processes: Windows has no documented way to stop one from outside.
type forest struct {
	grown bool
	// sealed are the descendants that may not be opened, in words.
	sealed map[int]string
}

func (*forest) kill([]*pinned) {}

func (*forest) letGo([]*pinned) {}

func (*forest) chase(context.Context, *pinned) {}

// escaped has nothing to tell before the end: leftOver does.
func (*forest) escaped() string { return "" }

// leftOver names the descendants that may not be opened.
func (f *forest) leftOver() []string { return slices.Sorted(maps.Values(f.sealed)) }

// hurry changes nothing here.
func hurry() (done func()) { return func() {} }

// grow adds all descendants of the targets to the plan, by the parents of one snapshot after the other until a round adds nothing. A
// parent's number counts only for children that are younger: numbers are given away. Protected descendants are left running.
func (a *Agent) grow(ctx context.Context, pl *plan) error {
	for {
		if err := verdict.Stopped(ctx, "look for the tree"); err != nil {
			return err
		}
		late, err := a.stragglers(ctx, pl)
		if err != nil {
			return err
		}
		if late == nil {
			pl.forest.grown = true
			return nil
		}
		pl.targets = append(pl.targets, late.targets...)
		if n := len(pl.targets); n > a.cfg.MaxTargets {
			return verdict.Refuse(bridge.ReasonInvalid, "the tree has more than %d processes, one order may end %d (max_targets): nothing was ended", n-1, a.cfg.MaxTargets)
		}
	}
}

// stragglers returns the children of the targets that are not among them, or nil. The handles keep the numbers of ended parents from
// being given away.
func (a *Agent) stragglers(ctx context.Context, pl *plan) (_ *plan, err error) {
	parents := make(map[int]*pinned, len(pl.targets))
	for _, p := range pl.targets {
		parents[p.pid] = p
	}
	children := make(map[int]*pinned)
	err = eachProcess(func(e *windows.ProcessEntry32) bool {
		_, known := parents[int(e.ProcessID)]
		if parent, ok := parents[int(e.ParentProcessID)]; ok && !known && e.ProcessID > 4 {
			children[int(e.ProcessID)] = parent
		}
		return ctx.Err() == nil
	})
	if err != nil {
		return nil, verdict.Untouched("look for the tree: %w", err)
	}
	late := &plan{}
	defer func() {
		if err != nil {
			late.close()
		}
	}()
	for pid, parent := range children {
		p, err := pinChild(pid, parent)
		if errors.Is(err, errGone) {
			continue
		}
		if errors.Is(err, errSealed) {
			// One that may not be opened must not keep the others running.
			if pl.forest.sealed == nil {
				pl.forest.sealed = make(map[int]string)
			}
			pl.forest.sealed[pid] = err.Error()
			continue
		}
		if err != nil {
			return nil, verdict.Hopeless("look at the tree: %w", err)
		}
		reason, why, err := a.protected(ctx, p)
		if err != nil || reason != bridge.ReasonNone {
			if err == nil && reason != bridge.ReasonNone {
				pl.keep(reason, fmt.Sprintf("%s: %s", p, why))
			}
			p.close()
			if err != nil {
				return nil, verdict.Hopeless("look at the tree: %w", err)
			}
			continue
		}
		late.targets = append(late.targets, p)
	}
	if len(late.targets) == 0 {
		return nil, nil //nolint:nilnil // nothing, and no error
	}
	return late, nil
}

// pinChild pins the process if the parent began it: the list of processes is from before, and the number may be another's by now. It returns
// errGone when it is.
func pinChild(pid int, parent *pinned) (*pinned, error) {
	// As long as this handle is open the number is not given away. It is also had of processes that must not be ended.
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid)) //nolint:gosec // a process id
	switch {
	case errors.Is(err, windows.ERROR_INVALID_PARAMETER):
		return nil, errGone
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return nil, fmt.Errorf("open process %d: %w: %w", pid, err, errSealed)
	case err != nil:
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	if child, err := bornOf(h, parent); err != nil {
		return nil, fmt.Errorf("parent of process %d: %w", pid, err)
	} else if !child {
		return nil, errGone
	}
	return pin(pid)
}

// bornOf reports whether the process of the handle was begun by the parent. A parent's number counts only for children that are younger.
func bornOf(h windows.Handle, parent *pinned) (bool, error) {
	var info windows.PROCESS_BASIC_INFORMATION
	size := uint32(unsafe.Sizeof(info))
	if err := windows.NtQueryInformationProcess(h, windows.ProcessBasicInformation, unsafe.Pointer(&info), size, nil); err != nil { //nolint:gosec // an out parameter
		return false, err
	}
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user); err != nil {
		return false, err
	}
	start := uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime)
	return info.InheritedFromUniqueProcessId == uintptr(parent.pid) && start >= parent.start, nil
}
