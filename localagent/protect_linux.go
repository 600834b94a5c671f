package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/safety"
)

// condition is what must hold besides, or instead of, the paths and units of an entry of the never-touch table.
type condition func(ctx context.Context, a *Agent, own *ownFacts, p *pinned) (bool, error)

// conditions returns the conditions of the entries that have one, by name of the entry.
func conditions() map[string]condition {
	return map[string]condition{
		safety.Process1:     func(_ context.Context, _ *Agent, _ *ownFacts, p *pinned) (bool, error) { return p.pid == 1, nil },
		safety.KernelThread: func(_ context.Context, _ *Agent, _ *ownFacts, p *pinned) (bool, error) { return p.kthread, nil },
		safety.Self: func(_ context.Context, _ *Agent, own *ownFacts, p *pinned) (bool, error) {
			return p.pid == own.pid, nil
		},
		safety.Ancestor: func(_ context.Context, _ *Agent, own *ownFacts, p *pinned) (bool, error) {
			return own.ancestors[p.pid] == p.start && p.start != 0, nil
		},
		safety.OwnProgram:  ownProgram,
		safety.SSHListener: sshListener,
		safety.UnitMain:    unitMain,
	}
}

// ownProgram goes by identity, and by digest where the agent's file was copied or replaced by an equal one.
func ownProgram(ctx context.Context, a *Agent, own *ownFacts, p *pinned) (bool, error) {
	if p.exe == own.exe {
		return true, nil
	}
	if p.size != own.size || p.size == 0 {
		return false, nil
	}
	mine, err := a.ownDigest(ctx)
	if err != nil {
		return false, err
	}
	d, err := a.imageDigests(ctx, p)
	if err != nil {
		return false, p.lost("digest of the image", err)
	}
	return d.SHA256 == mine, nil
}

func (a *Agent) ownDigest(ctx context.Context) (string, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("own program: %w", err)
	}
	defer func() { _ = f.Close() }()
	d, err := a.digests.Of(ctx, f, true, true)
	if err != nil {
		return "", fmt.Errorf("own program: %w", err)
	}
	return d.SHA256, nil
}

// sshListener tells the listener from its sessions: a session was forked by a process with the same image.
func sshListener(_ context.Context, _ *Agent, _ *ownFacts, p *pinned) (bool, error) {
	if p.ppid <= 1 {
		return true, nil
	}
	parent, err := pin(p.ppid)
	if errors.Is(err, errGone) {
		return true, nil
	}
	if err != nil {
		return true, err
	}
	defer parent.close()
	return parent.exe != p.exe, nil
}

// protected returns why the pinned process must not be ended, or ReasonNone. It costs no system call for an
// ordinary process; an error means that it cannot be told, and then nothing may be done.
func (a *Agent) protected(ctx context.Context, p *pinned) (bridge.Reason, string, error) {
	own, err := a.own.get()
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	table := a.images.get(a.cfg.Now())
	runs, err := table.runs(own, p)
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	for i, e := range table.entries {
		hit, err := table.covers(ctx, a, own, p, i, runs)
		if err != nil {
			return bridge.ReasonNone, "", fmt.Errorf("%s: %w", e.Name, err)
		}
		if hit {
			return bridge.ReasonProtectedProcess, e.Name + ": " + e.Why, nil
		}
	}
	if a.cfg.ProtectedPIDs != nil && slices.Contains(a.cfg.ProtectedPIDs(), p.pid) {
		return bridge.ReasonProtectedProcess, "own service: the bridge depends on it", nil
	}
	if a.cfg.Protected != nil {
		for v := range p.views() {
			if reason, why := a.cfg.Protected(v.name); reason != bridge.ReasonNone {
				return reason, why, nil
			}
		}
	}
	return bridge.ReasonNone, "", nil
}
