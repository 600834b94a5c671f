package localagent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// programPath is the PATH of programs, as in the settings of systemd (systemd.exec(5)).
	programPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
	parent := l.cfg.CgroupParent
	if parent == "" && l.cfg.FindGroup {
		parent = findGroup()
	}
	if parent == "" {
		n.Notes = append(n.Notes, "no control group of its own: what gives up its parent is found by its session only")
		return
	}
	var st unix.Statfs_t
	err := unix.Statfs(parent, &st)
	if err == nil && st.Type != unix.CGROUP2_SUPER_MAGIC {
		err = errors.New("it is no control group of version 2")
	}
	dir := filepath.Join(parent, groupPrefix+n.Order)
	if err == nil {
		if err = os.Mkdir(dir, 0o750); errors.Is(err, os.ErrExist) {
			err = nil
		}
	}
	if err != nil {
		n.Notes = append(n.Notes, fmt.Sprintf("no control group of its own (%v): what gives up its parent is found by its session only", err))
		return
	}
	n.Group = dir
}

// ungroup removes the control group once nobody is in it, and what else is kept for the program.
func (l *Launcher) ungroup(n *note) {
	if ends, ok := l.unlisten(n.Order); ok {
		_ = errors.Join(ends[0].Close(), ends[1].Close())
	}
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
	if err := l.listen(n.Order, dir); err != nil {
		return verdict.Untouched("output of the program: %w", err)
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
		takeBack(cmd, n)
		return verdict.Hopeless("it was started as pid %d, which could not be looked at, and was ended: %w", cmd.Process.Pid, err)
	}
	if p.swapped(live) {
		// Only root can have done that; it is told, and what runs is not what was approved.
		takeBack(cmd, n)
		return verdict.Hopeless("another file was put in the place of %s at this moment, and was ended: pid %d", verdict.Shown(p.path), live.pid)
	}
	n.PID, n.Start = live.pid, live.start
	if err := unspare(live); err != nil {
		n.Notes = append(n.Notes, fmt.Sprintf("it is spared like the agent when memory runs out: %v", err))
	}
	return nil
}

// swapped reports whether live runs another file than the one that was judged. A program that runs another one in its own place (env,
// nice) has not been swapped: its file is where it was.
func (p *prepared) swapped(live *pinned) bool {
	if id, _, err := live.exeID(); err != nil || p.script || id == p.id {
		return false
	}
	var st unix.Stat_t
	err := unix.Lstat(p.path, &st)
	return err != nil || p.id != files.ID{Dev: st.Dev, Ino: st.Ino}
}

// unspare takes back what the unit of the agent may give it (OOMScoreAdjust=): to be spared when memory runs out is not for what it starts.
func unspare(live *pinned) error {
	var buf [16]byte
	b, err := live.read("oom_score_adj", buf[:])
	if err != nil || !bytes.HasPrefix(b, []byte("-")) {
		return nil // it has ended, or is as likely to be ended as any other
	}
	fd, err := unix.Openat(live.dir, "oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Write(fd, []byte("0"))
	return err
}

// takeBack ends a program that must not go on, with what is in its control group by then, and waits for its end.
func takeBack(cmd *exec.Cmd, n *note) {
	if n.Group != "" {
		(&group{dir: n.Group}).kill()
	}
	_ = errors.Join(cmd.Process.Kill(), cmd.Wait())
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
	if n.Boot != bootID() {
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

// elapsed is how long the process of a note of this run of the kernel has been there, by the kernel's clock: the other one may be set.
func (l *Launcher) elapsed(n *note) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return l.cfg.Now().Sub(n.Begun)
	}
	return time.Duration(ts.Nano()) - time.Duration(n.Start)*time.Second/userHZ //nolint:gosec // ticks since boot fit for centuries
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
