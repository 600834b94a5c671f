package localagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
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
		safety.Server:      servesBridge,
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
	if errors.Is(err, errSilent) {
		return false, nil // nobody keeps the agent's program where it cannot be read
	}
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
	runs, err := table.runs(p)
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
	if a.cfg.Protected == nil {
		return bridge.ReasonNone, "", nil
	}
	return a.listed(p)
}

// listed asks the user's list about the image and the script of p. An entry that is a file name holds in every folder, for whoever
// takes that name. An entry that is a path means the file there, and that p runs it must be certain.
func (a *Agent) listed(p *pinned) (bridge.Reason, string, error) {
	reason, why, err := a.listedAs(p.image, p.runsImage)
	if err != nil || reason != bridge.ReasonNone {
		return reason, why, err
	}
	script := p.script()
	if script == "" {
		return bridge.ReasonNone, "", nil
	}
	return a.listedAs(script, func() (bool, error) { return p.runsScript(script) })
}

// listedAs asks the list about name, and certain only where name stands in it as a path.
func (a *Agent) listedAs(name string, certain func() (bool, error)) (bridge.Reason, string, error) {
	reason, why := a.cfg.Protected(name)
	if reason == bridge.ReasonNone {
		return bridge.ReasonNone, "", nil
	}
	// With one of these characters the file name would be read as a path of Windows.
	if base := path.Base(name); !strings.ContainsAny(base, `/\:`) {
		if reason, why := a.cfg.Protected(base); reason != bridge.ReasonNone {
			return reason, why, nil
		}
	}
	if ok, err := certain(); err != nil || !ok {
		return bridge.ReasonNone, "", err
	}
	return reason, why, nil
}

// runsImage reports whether the path of the image means the same file on this machine, or did before that was replaced.
func (p *pinned) runsImage() (bool, error) {
	if id, err := rememberedID(unix.AT_FDCWD, p.image, 0); err == nil && id == p.exe {
		return true, nil
	}
	return p.onOwnMount()
}

// runsScript reports whether the process is to be believed that it runs the script. A command line proves nothing: programs write
// into their own, and environment and options make a true interpreter run more than its script (BASH_ENV, PYTHONPATH, lua -e). So
// only those are believed who could make the script do the same: root and the owner of the script, without any other identity,
// and with an interpreter and a script that nobody else can write. The process must see the file this machine has at that path.
func (p *pinned) runsScript(script string) (bool, error) {
	user, ok, err := p.user()
	if err != nil || !ok {
		return false, err
	}
	exe, err := p.statExe()
	if err != nil {
		return false, p.lost("look at exe", err)
	}
	if exe.Uid != 0 || exe.Mode&0o022 != 0 {
		return false, nil
	}
	root, err := p.readlink("root")
	if err != nil {
		return false, p.lost("read root", err)
	}
	inner, ok := below(root, script)
	if !ok {
		inner = script
	}
	st, err := p.statInside(inner)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, p.lost("look at the script", err)
	}
	if st.Mode&0o002 != 0 || user != 0 && user != st.Uid {
		return false, nil
	}
	here := files.ID{Dev: st.Dev, Ino: st.Ino}
	if id, err := files.IDOf(script); err == nil && id == here {
		return true, nil
	}
	// The agent may be kept from seeing what the machine sees.
	first, err := open(1)
	if err != nil {
		return false, nil
	}
	defer first.close()
	if err := first.readStat(); err != nil {
		return false, nil
	}
	st, err = first.statInside(script)
	return err == nil && here == files.ID{Dev: st.Dev, Ino: st.Ino}, nil
}

func (p *pinned) statInside(name string) (st unix.Stat_t, err error) {
	f, err := p.openInside(name)
	if err != nil {
		return st, err
	}
	defer func() { _ = f.Close() }()
	return st, unix.Fstat(int(f.Fd()), &st)
}

// runBy reports whether root or one of the accounts runs the process; whoever has several identities is neither.
func (p *pinned) runBy(accounts []string) (bool, error) {
	uid, ok, err := p.user()
	if err != nil || !ok || uid == 0 {
		return ok && uid == 0, err
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return false, nil //nolint:nilerr // nobody of this machine
	}
	return slices.ContainsFunc(accounts, func(a string) bool { ok, err := path.Match(a, u.Username); return err == nil && ok }), nil
}

// user returns the user of the process; ok is false when its real, effective, saved and file system ids differ (proc_pid_status(5)).
func (p *pinned) user() (uid uint32, ok bool, err error) {
	var buf [4096]byte
	b, err := p.read("status", buf[:])
	if err != nil {
		return 0, false, p.lost("read status", err)
	}
	for line := range bytes.Lines(b) {
		ids, found := bytes.CutPrefix(line, []byte("Uid:"))
		if !found {
			continue
		}
		fields := strings.Fields(string(ids))
		if len(fields) != 4 || slices.ContainsFunc(fields, func(id string) bool { return id != fields[0] }) {
			return 0, false, nil
		}
		n, err := strconv.ParseUint(fields[0], 10, 32)
		return uint32(n), err == nil, nil
	}
	return 0, false, nil
}
