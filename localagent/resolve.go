package localagent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/edr-bridge/edr-bridge/bridge"
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
	v, ok := errors.AsType[*verdict](err)
	if !ok {
		v = &verdict{class: bridge.Permanent, err: err}
	}
	return bridge.Process{}, &bridge.ExecError{Executor: bridge.ExecutorLocal, Class: v.class, Reason: v.reason, Err: v.err}
}

func (a *Agent) resolve(ctx context.Context, p bridge.Process, wantDigests bool) (bridge.Process, error) {
	if err := stopped(ctx, "not looked at"); err != nil {
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
		return p, refuse(bridge.ReasonProcessGone, "process %d: %w", p.PID, err)
	}
	if err != nil {
		return p, pinVerdict(p.PID, err)
	}
	defer live.close()
	if p.Start != 0 && p.Start != live.start {
		return p, refuse(bridge.ReasonProcessChanged, "process %d started at tick %d, the alert means the one of tick %d: the pid was used again", p.PID, live.start, p.Start)
	}
	if live.image == "" {
		return p, refuse(bridge.ReasonProtectedProcess, "process %d is protected: it is a thread of the kernel and has no image", p.PID)
	}
	if p.Path != "" && !live.goesBy(p.Path) {
		return p, refuse(bridge.ReasonProcessChanged, "process %d runs %s, the alert means %s", p.PID, shown(live.image), shown(p.Path))
	}
	if wantDigests {
		d, err := a.imageDigests(ctx, live)
		if err != nil {
			return p, a.matchVerdict(ctx, live, err)
		}
		if p.MD5 != "" && p.MD5 != d.md5 || p.SHA256 != "" && p.SHA256 != d.sha256 {
			return p, refuse(bridge.ReasonProcessChanged, "the image of process %d (%s) has another digest than the alert says", p.PID, shown(live.image))
		}
		p.MD5, p.SHA256 = d.md5, d.sha256
	}
	p.Start, p.Started = live.start, startedAt(live.start, a.cfg.Now())
	p.Path, p.Name = live.image, filepath.Base(live.image)
	if err := live.alive(); err != nil {
		return p, refuse(bridge.ReasonProcessGone, "process %d: %w", p.PID, err)
	}
	return p, nil
}

func (a *Agent) imageDigests(ctx context.Context, p *pinned) (digests, error) {
	f, err := p.openExe()
	if err != nil {
		return digests{}, fmt.Errorf("open the image: %w", err)
	}
	defer func() { _ = f.Close() }()
	return a.digests.of(ctx, f, true, true)
}
