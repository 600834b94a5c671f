package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// overtime ends the program and all it has started, and returns what goes on all the same. It looks again until it finds nothing more to
// end: what was begun while a tree could not be stopped whole is found by the control group or the session.
func (l *Launcher) overtime(ctx context.Context, p *program, n *note) []string {
	// The time is over whether or not anybody still waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*freezeDeadline+defaultExitDeadline)
	defer cancel()
	defer hurry()()
	var told []string
	whole := true
	for round := range maxRounds {
		pl, why := l.endOnce(ctx, p, n, round)
		told, whole = why, whole && pl.forest.grown && pl.forest.restless == nil
		if len(pl.targets) == 0 || ctx.Err() != nil {
			break
		}
	}
	for _, name := range l.leftBehind(n) {
		if !slices.ContainsFunc(told, func(t string) bool { return strings.HasPrefix(t, name) }) {
			told = append(told, name)
		}
	}
	if !whole {
		told = append(told, "what it started may go on, because its tree could not be stopped whole")
	}
	return told
}

// endOnce is one look for what the program has started, and its end. It returns the plan of it, which is closed, and in words what does
// not end.
func (l *Launcher) endOnce(ctx context.Context, p *program, n *note, round int) (pl *plan, why []string) {
	pl = &plan{}
	defer pl.close()
	members := l.members(n)
	if n.Group == "" && p.ended() && (round == 0 || !numberKept(p.pid, p.start)) {
		members = nil // the number of the session may be another's by now
	}
	if root, err := pin(p.pid); err == nil && root.start == p.start {
		root.descendant = true // it is ended whatever it runs by now
		pl.targets = append(pl.targets, root)
		if why := l.spared(ctx, root); why != "" {
			// What is said about this process is not true: nothing that is said about others with it is believed.
			l.log.Error("a program whose time is over is not ended", "order", n.Order, "err", why)
			pl.targets = nil
			root.close()
			return pl, []string{fmt.Sprintf("%s: %s", root, why)}
		}
	} else if err == nil {
		root.close()
	} else if !errors.Is(err, errGone) {
		why = append(why, fmt.Sprintf("pid %d: %v", p.pid, err))
	}
	for _, pid := range members {
		other, err := pin(pid)
		if errors.Is(err, errGone) || pid == p.pid {
			if err == nil {
				other.close()
			}
			continue
		}
		if err != nil {
			why = append(why, fmt.Sprintf("pid %d: %v", pid, err))
			continue
		}
		reason, text, err := l.trees.protected(ctx, other)
		if err == nil && reason == bridge.ReasonNone {
			other.descendant = true
			pl.targets = append(pl.targets, other)
			continue
		}
		if err != nil {
			text = err.Error()
		}
		why = append(why, fmt.Sprintf("%s: %s", other, text))
		other.close()
	}
	if err := l.trees.grow(ctx, pl); err != nil {
		l.log.Warn("the tree of a program could not be stopped before its end", "order", n.Order, "err", err)
	}
	res := l.trees.endAll(ctx, pl)
	p.waitExit(ctx, time.Now().Add(defaultExitDeadline))
	return pl, slices.Concat(why, res.running, res.denied, res.changed, res.kept)
}

// numberKept reports whether the number still belongs to the process, which may have ended: then nobody else has it.
func numberKept(pid int, start uint64) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	st, err := parseStat(b)
	return err == nil && st.start == start
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
		switch {
		case err == nil:
			if pid != n.PID && !p.ended() {
				names = append(names, p.String())
			}
			p.close()
		case pid != n.PID && !errors.Is(err, errGone):
			names = append(names, fmt.Sprintf("pid %d", pid))
		}
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
