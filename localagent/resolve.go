package localagent

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// ResolveProcess returns p with start time, wall-clock start, name and image path of the live process p.PID and,
// when wanted, the digests of its image, which are read from the running image itself and not from its path.
// Start, Path, MD5 and SHA256 of p must match where they are given. On Windows Start is the creation time in
// units of 100 ns since 1601 (GetProcessTimes).
//
// It blocks for about 20 µs, with digests for the time it takes to read the image once. Errors are
// *bridge.ExecError: ReasonProcessGone, ReasonProcessChanged, ReasonProtectedProcess for process 1 and the agent
// itself, ReasonInvalid for numbers that are no process id.
func (a *Agent) ResolveProcess(ctx context.Context, p bridge.Process, digests bool) (bridge.Process, error) {
	found, err := a.resolve(ctx, p, digests)
	if err == nil {
		return found, nil
	}
	v, ok := errors.AsType[*verdict.Error](err)
	if !ok {
		v = &verdict.Error{Class: bridge.Permanent, Err: err}
	}
	return bridge.Process{}, &bridge.ExecError{Executor: bridge.ExecutorLocal, Class: v.Class, Reason: v.Reason, Err: v.Err}
}

func (a *Agent) resolve(ctx context.Context, p bridge.Process, wantDigests bool) (bridge.Process, error) {
	if err := verdict.Stopped(ctx, "not looked at"); err != nil {
		return p, err
	}
	if err := checkPID(p.PID); err != nil {
		return p, err
	}
	live, err := pin(p.PID)
	if errors.Is(err, errGone) {
		if err := checkPIDRange(p.PID); err != nil {
			return p, err
		}
		return p, verdict.Refuse(bridge.ReasonProcessGone, "process %d: %w", p.PID, err)
	}
	if err != nil {
		return p, pinVerdict(p.PID, err)
	}
	defer live.close()
	if p.Start != 0 && p.Start != live.start {
		return p, verdict.Refuse(bridge.ReasonProcessChanged, "process %d started at tick %d, the alert means the one of tick %d: the pid was used again", p.PID, live.start, p.Start)
	}
	if live.image == "" {
		return p, verdict.Refuse(bridge.ReasonProtectedProcess, "process %d is protected: it is a thread of the kernel and has no image", p.PID)
	}
	if p.Path != "" && !live.goesBy(p.Path) {
		return p, verdict.Refuse(bridge.ReasonProcessChanged, "process %d runs %s, the alert means %s", p.PID, verdict.Shown(live.image), verdict.Shown(p.Path))
	}
	if wantDigests {
		d, err := a.imageDigests(ctx, live)
		if err != nil {
			return p, a.matchVerdict(ctx, live, err)
		}
		if p.MD5 != "" && p.MD5 != d.MD5 || p.SHA256 != "" && p.SHA256 != d.SHA256 {
			return p, verdict.Refuse(bridge.ReasonProcessChanged, "the image of process %d (%s) has another digest than the alert says", p.PID, verdict.Shown(live.image))
		}
		p.MD5, p.SHA256 = d.MD5, d.SHA256
	}
	p.Start, p.Started = live.start, startedAt(live.start, a.cfg.Now())
	p.Path, p.Name = live.image, filepath.Base(live.image)
	if err := live.alive(); err != nil {
		return p, verdict.Refuse(bridge.ReasonProcessGone, "process %d: %w", p.PID, err)
	}
	return p, nil
}

func (a *Agent) imageDigests(ctx context.Context, p *pinned) (files.Digests, error) {
	return a.digestsOf(ctx, p.imageView(), true, true)
}
