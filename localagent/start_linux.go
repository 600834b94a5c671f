package localagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// programPath is the PATH of programs, as in the settings of systemd (systemd.exec(5)).
	programPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// groupPrefix begins the names of control groups of programs.
	groupPrefix = "edr-bridge-program-"
	// maxDrain bounds what is taken over at the end from a pipe somebody still writes to; a pipe holds 64 KiB (pipe(7)).
	maxDrain = 1 << 20
	// forgotten is how long the agent waits for the parent of a program that is not the agent's own child to take note of its end.
	forgotten = time.Second
)

// bootID names this run of the kernel (proc_sys_kernel(5)).
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// group makes the control group of the program, or says why it has none.
func (l *Launcher) group(n *note) {
	if l.cfg.CgroupParent == "" {
		n.Notes = append(n.Notes, "no control group of its own: what gives up its parent is found by its session only")
		return
	}
	var st unix.Statfs_t
	err := unix.Statfs(l.cfg.CgroupParent, &st)
	if err == nil && st.Type != unix.CGROUP2_SUPER_MAGIC {
		err = errors.New("it is no control group of version 2")
	}
	dir := filepath.Join(l.cfg.CgroupParent, groupPrefix+n.Order)
	if err == nil {
		if err = os.Mkdir(dir, 0o755); errors.Is(err, os.ErrExist) {
			err = nil
		}
	}
	if err != nil {
		n.Notes = append(n.Notes, fmt.Sprintf("no control group of its own (%v): what gives up its parent is found by its session only", err))
		return
	}
	n.Group = dir
}

// ungroup removes the control group once nobody is in it.
func (l *Launcher) ungroup(n *note) {
	if n.Group != "" {
		_ = unix.Rmdir(n.Group)
	}
}

// spawn starts the program and fills in its process. The outputs go into pipes with a name, which the program itself holds open for
// reading as well: it is not ended when the agent is, it only has to wait once 64 KiB are not taken off.
func (l *Launcher) spawn(p *prepared, dir string, n *note) error {
	var pipes [2]*os.File
	defer func() {
		for _, f := range pipes {
			if f != nil {
				_ = f.Close()
			}
		}
	}()
	for i, name := range []string{fileStdout, fileStderr} {
		f, err := makePipe(filepath.Join(dir, name+filePipe))
		if err != nil {
			return verdict.Untouched("output of the program: %w", err)
		}
		pipes[i] = f
	}
	cmd := exec.Command(p.path, p.args...) //nolint:gosec,noctx // judged by prepare; it outlives every ctx
	cmd.Dir, cmd.Env = p.folder, []string{"PATH=" + programPath, "LANG=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = pipes[0], pipes[1]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: p.as}
	if n.Group != "" {
		group, err := os.OpenFile(n.Group, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return verdict.Untouched("control group of the program: %w", err)
		}
		defer func() { _ = group.Close() }()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	if err := cmd.Start(); err != nil {
		return startVerdict(p, err)
	}
	defer func() { _ = cmd.Process.Release() }() // whoever waits goes by pid and start time, which another process of the agent can as well
	live, err := open(cmd.Process.Pid)
	if err == nil {
		defer live.close()
		err = live.readStat()
	}
	if err != nil {
		return verdict.Undecided("the program was started as pid %d, which cannot be looked at: %w", cmd.Process.Pid, err)
	}
	n.PID, n.Start = live.pid, live.start
	if id, _, err := live.exeID(); err == nil && !p.script && id != p.id {
		// Only root can have done that; it is told, and what runs is not what was approved.
		_ = live.send(unix.SIGKILL)
		return verdict.Undecided("another file was put in the place of %s at this moment: pid %d was ended", verdict.Shown(p.path), n.PID)
	}
	return nil
}

// makePipe makes the pipe and opens both its ends in one, without waiting for anybody (fifo(7)).
func makePipe(name string) (*os.File, error) {
	if err := unix.Mkfifo(name, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Base(name)), nil
}

// startVerdict sorts the errors of fork and exec: after them nothing runs.
func startVerdict(p *prepared, err error) error {
	name := verdict.Shown(p.path)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ETXTBSY):
		return verdict.Untouched("start %s: %w", name, cause(err))
	case errors.Is(err, unix.ENOEXEC):
		return verdict.Refuse(bridge.ReasonInvalid, "start %s: %w: a script needs #! and its interpreter in the first line", name, unix.ENOEXEC)
	case errors.Is(err, unix.ENOENT) && p.script:
		return verdict.Hopeless("start %s: the interpreter its first line names is not there", name)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return verdict.Hopeless("start %s: %w: the file system, a security module or a rule against its execution does not allow it", name, cause(err))
	default:
		return verdict.Hopeless("start %s: %w", name, cause(err))
	}
}

// program is a started program that is waited for.
type program struct{ *pinned }

// attach pins the process of a note. It returns errGone when that has ended and nobody can tell how.
func (l *Launcher) attach(n *note) (*program, error) {
	if n.Boot != "" && n.Boot != bootID() {
		return nil, errGone
	}
	p, err := open(n.PID)
	if err != nil {
		return nil, err
	}
	if err := p.readStat(); err != nil {
		p.close()
		return nil, err
	}
	if p.start != n.Start {
		p.close()
		return nil, errGone
	}
	return &program{p}, nil
}

// search looks for the process of a note whose number was not written down: it is the leader of its session and writes into the pipe of
// the note.
func (l *Launcher) search(n *note) bool {
	if n.Boot != bootID() {
		return false
	}
	pipe := filepath.Join(l.folder(n.Order), fileStdout+filePipe)
	links, err := filepath.Glob("/proc/[0-9]*/fd/1")
	if err != nil {
		return false
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != pipe {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			continue
		}
		p, err := open(pid)
		if err != nil {
			continue
		}
		err = p.readStat()
		session, serr := unix.Getsid(pid)
		p.close()
		if err == nil && serr == nil && session == pid {
			n.PID, n.Start = pid, p.start
			l.tell(*n)
			return true
		}
	}
	return false
}

// keep begins to carry the output into the files of the program.
func (p *program) keep(dir string) *outputs {
	var from [2]*os.File
	var to [2]string
	for i, name := range []string{fileStdout, fileStderr} {
		to[i] = filepath.Join(dir, name)
		f, err := os.OpenFile(to[i]+filePipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			f, _ = os.Open(os.DevNull)
		}
		from[i] = f
	}
	return keepOutputs(from, to)
}

// drain takes over what is in the pipe at this moment without waiting for more.
func drain(from *os.File, to io.Writer) {
	rc, err := from.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) {
		buf := make([]byte, 64<<10)
		for left := maxDrain; left > 0; {
			n, err := unix.Read(int(fd), buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return
			}
			_, _ = to.Write(buf[:n])
			left -= n
		}
	})
}

// outcome fills in how the process ended: what its parent is told, or else what the kernel remembers for the holder of a pidfd
// (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15).
func (p *program) outcome(e *Exit) {
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
		if status, ok = p.remembered(); !ok {
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
func (p *program) remembered() (unix.WaitStatus, bool) {
	for deadline := time.Now().Add(forgotten); ; {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(p.pidfd, &info); err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return unix.WaitStatus(info.Exit_code), true //nolint:gosec // the bits of wait(2)
		} else if err != nil && !errors.Is(err, unix.ESRCH) || time.Now().After(deadline) {
			return 0, false
		}
		if err := pause(context.Background(), freezePause); err != nil {
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
