package localagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// group is a control group of version 2 whose processes are ended as one.
type group struct {
	dir string
	// wasFrozen is true when somebody else froze it.
	wasFrozen bool
}

// takeGroup freezes the control group of p and adds its members to the plan, when p owns it. Where it does not, or the kernel has no
// such groups, nothing happens: then the tree is stopped process by process.
func (g *growth) takeGroup(ctx context.Context, p *pinned) error {
	dir, err := g.ownedGroup(ctx, p)
	if err != nil || dir == "" {
		return err
	}
	if !g.freeze {
		return g.takeMembers(ctx, dir, p) // a dry run names and counts what would be ended
	}
	own := &group{dir: dir}
	switch frozen, err := own.told(); {
	case errors.Is(err, fs.ErrNotExist):
		return nil // before Linux 5.2
	case err != nil:
		return verdict.Hopeless("freeze the control group: %w", err)
	default:
		own.wasFrozen = frozen
	}
	if !own.wasFrozen {
		g.pl.forest.note.group(dir)
	}
	// From here on the plan thaws the group when something fails.
	g.pl.forest.groups = append(g.pl.forest.groups, own)
	if err := own.freeze(ctx); err != nil {
		if context.Cause(ctx) != nil {
			return verdict.Untouched("freeze the control group: %w", err)
		}
		// A process in it cannot be frozen: the walk finds out which.
		own.thaw()
		g.pl.forest.groups = g.pl.forest.groups[:len(g.pl.forest.groups)-1]
		return nil
	}
	// Only what is frozen can be counted. What came in between the two looks is judged here.
	again, err := g.ownedGroup(ctx, p)
	if err != nil {
		return err
	}
	if again != dir {
		own.thaw()
		g.pl.forest.groups = g.pl.forest.groups[:len(g.pl.forest.groups)-1]
		return nil
	}
	return g.takeMembers(ctx, dir, p)
}

func (g *growth) takeMembers(ctx context.Context, dir string, p *pinned) error {
	members, err := groupMembers(dir)
	if err != nil {
		return verdict.Hopeless("members of the control group: %w", err)
	}
	p.held = heldGroup
	for _, pid := range members {
		if i := slices.IndexFunc(g.pl.targets, func(t *pinned) bool { return t.pid == pid }); i >= 0 {
			g.pl.targets[i].held = heldGroup
			continue
		}
		kept := len(g.pl.kept)
		if _, err := g.add(ctx, pid, nil); err != nil {
			return err
		}
		if len(g.pl.kept) > kept {
			return verdict.Untouched("the control group changed while it was looked at: nothing was ended")
		}
	}
	return nil
}

// ownedGroup returns the folder of the control group p owns, or "": its own group of version 2, not a login session's, which p was
// the first to be in, started by somebody outside, and which holds neither this agent nor a protected process.
func (g *growth) ownedGroup(ctx context.Context, p *pinned) (string, error) {
	var buf [maxCgroupFile]byte
	b, err := p.read("cgroup", buf[:])
	if err != nil {
		if errors.Is(err, unix.ENOENT) && p.alive() == nil {
			return "", nil
		}
		if err := p.lost("read cgroup", err); !errors.Is(err, errGone) {
			return "", verdict.Hopeless("look at the tree: %w", err)
		}
		return "", nil
	}
	name := unifiedGroup(b)
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", verdict.Hopeless("own control group: %w", err)
	}
	if name == "" || sessionGroup(name) || strings.HasPrefix(unifiedGroup(own)+"/", name+"/") {
		return "", nil
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return "", verdict.Hopeless("%w", err)
	}
	for _, m := range mounts {
		if !m.unified {
			continue
		}
		dir := filepath.Join(m.point, name)
		ok, err := g.owns(ctx, p, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !ok {
			return "", nil //nolint:nilerr // a group that cannot be looked into is nobody's; the walk goes on without it
		}
		return dir, nil
	}
	return "", nil
}

func (g *growth) owns(ctx context.Context, p *pinned, dir string) (bool, error) {
	members, err := groupMembers(dir)
	if err != nil {
		return false, err
	}
	if !slices.Contains(members, p.pid) || slices.Contains(members, p.ppid) {
		return false, nil
	}
	for _, pid := range members {
		if pid == p.pid {
			continue
		}
		if pid == 0 {
			return false, nil // of a process namespace this agent does not see
		}
		other, err := pin(pid)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return false, err
		}
		reason, _, err := g.a.protected(ctx, other)
		start := other.start
		other.close()
		if err != nil || reason != bridge.ReasonNone || start < p.start {
			return false, err
		}
	}
	return true, nil
}

// unifiedGroup returns the control group of version 2, or "" for the root and for groups outside the agent's view (cgroups(7)).
func unifiedGroup(b []byte) string {
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok && name != "/" && path.IsAbs(name) && path.Clean(name) == name && !strings.HasPrefix(name, "/..") {
			return name
		}
	}
	return ""
}

// sessionGroup reports whether the group holds a login or the services of a user (systemd.special(7), pam_systemd(8)): much of what runs
// there has nothing to do with its first process.
func sessionGroup(name string) bool {
	base := path.Base(name)
	return base == "init.scope" || strings.HasPrefix(base, "session-") || strings.HasPrefix(base, "user@") || strings.HasSuffix(base, ".slice")
}

// told reports whether somebody has told the group to freeze, which takes effect later, or never.
func (g *group) told() (bool, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, "cgroup.freeze"))
	return strings.TrimSpace(string(b)) == "1", err
}

// state reports whether the group is frozen at this moment.
func (g *group) state() (bool, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, "cgroup.events"))
	if err != nil {
		return false, err
	}
	return strings.Contains("\n"+string(b), "\nfrozen 1\n"), nil
}

func (g *group) freeze(ctx context.Context) error {
	if err := g.write("cgroup.freeze", "1"); err != nil {
		return err
	}
	for deadline := time.Now().Add(freezeDeadline); ; {
		frozen, err := g.state()
		if err != nil || frozen {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not frozen within %s", freezeDeadline)
		}
		if err := pause(ctx, freezePause); err != nil {
			return err
		}
	}
}

// thaw lets the group go on, also a dead one: its service may be started in it again.
func (g *group) thaw() {
	if !g.wasFrozen {
		_ = g.write("cgroup.freeze", "0")
	}
}

// kill ends all processes of the group and reports whether the kernel did it, which needs Linux 5.14.
func (g *group) kill() bool { return g.write("cgroup.kill", "1") == nil }

func (g *group) write(name, text string) error {
	return os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0)
}
