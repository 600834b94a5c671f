package localagent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// forgotten is how long the agent waits for the parent of a program that is not the agent's own child to take note of its end.
const forgotten = time.Second

// outcome fills in how the process ended: what its parent is told, or else what the kernel remembers for the holder of a pidfd
// (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15).
func (p *program) outcome(ctx context.Context, e *Exit) {
	if !p.ended() {
		return
	}
	var status unix.WaitStatus
	pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG, nil)
	for errors.Is(err, unix.EINTR) {
		pid, err = unix.Wait4(p.pid, &status, unix.WNOHANG, nil)
	}
	if pid != p.pid {
		var ok bool
		if status, ok = p.remembered(ctx); !ok {
			return
		}
	}
	e.Known = true
	if status.Signaled() {
		e.Signal = unix.SignalName(status.Signal())
		return
	}
	e.Code = status.ExitStatus()
}

// remembered asks the kernel how a process ended that is no child of this one. It can tell as soon as the parent has waited for it.
func (p *program) remembered(ctx context.Context) (unix.WaitStatus, bool) {
	for deadline := time.Now().Add(forgotten); ; {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(p.pidfd, &info); err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return unix.WaitStatus(info.Exit_code), true //nolint:gosec // the bits of wait(2)
		} else if err != nil && !errors.Is(err, unix.ESRCH) || time.Now().After(deadline) {
			return 0, false
		}
		if err := pause(ctx, freezePause); err != nil {
			return 0, false
		}
	}
}

// overtime ends the program and all it has started and returns what could not be ended.
func (l *Launcher) overtime(ctx context.Context, p *program, n *note) []string {
	// The time is over whether or not anybody still waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*freezeDeadline+defaultExitDeadline)
	defer cancel()
	defer hurry()()
	pl := &plan{}
	defer pl.close()
	if root, err := pin(p.pid); err == nil && root.start == p.start {
		pl.targets = append(pl.targets, root)
		if why := l.spared(ctx, root); why != "" {
			// What is said about this process is not true: nothing that is said about others with it is believed.
			l.log.Error("a program whose time is over is not ended", "order", n.Order, "err", why)
			return []string{fmt.Sprintf("%s: %s", root, why)}
		}
	} else if err == nil {
		root.close()
	}
	members := l.members(n)
	if n.Group == "" && p.ended() {
		members = nil // the number of the session may be another's by now
	}
	for _, pid := range members {
		if other, err := pin(pid); err == nil {
			if reason, why, err := l.trees.protected(ctx, other); pid != p.pid && err == nil && reason == bridge.ReasonNone {
				pl.targets = append(pl.targets, other)
				continue
			} else if reason != bridge.ReasonNone {
				pl.keep(reason, fmt.Sprintf("%s: %s", other, why))
			}
			other.close()
		}
	}
	if err := l.trees.grow(ctx, pl); err != nil {
		l.log.Error("the tree of a program could not be stopped before its end", "order", n.Order, "err", err)
	}
	res := l.trees.endAll(ctx, pl)
	p.waitExit(ctx, time.Now().Add(defaultExitDeadline))
	return append(append(res.running, res.denied...), res.kept...)
}

// spared says why the process a record names must not be ended, or "": a record may be wrong, or written by somebody else.
func (l *Launcher) spared(ctx context.Context, root *pinned) string {
	reason, why, err := l.trees.protected(ctx, root)
	if err != nil {
		return fmt.Sprintf("whether it is protected cannot be told: %v", err)
	}
	if reason != bridge.ReasonNone {
		return why
	}
	// A program is the leader of its session from its first moment, and a leader stays one (setsid(2)).
	if session, err := unix.Getsid(root.pid); err == nil && session != root.pid {
		return "it leads no session, so it was not started by the agent"
	}
	return ""
}

// leftBehind names the processes that go on after the program has ended.
func (l *Launcher) leftBehind(n *note) []string {
	var names []string
	for _, pid := range l.members(n) {
		p, err := pin(pid)
		if err != nil {
			continue
		}
		if pid != n.PID && !p.ended() {
			names = append(names, p.String())
		}
		p.close()
	}
	return names
}

// members lists the processes of the program's control group, or of its session.
func (l *Launcher) members(n *note) []int {
	if n.Group != "" {
		if pids, err := groupMembers(n.Group); err == nil {
			return pids
		}
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var pids []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if session, err := unix.Getsid(pid); err == nil && session == n.PID {
			pids = append(pids, pid)
		}
	}
	return pids
}
