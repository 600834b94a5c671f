package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// prepared is a program that may be started.
type prepared struct {
	path    string
	file    *os.File
	digests files.Digests
	args    []string
	folder  string
}

// close gives the executable free; until then nobody can write to it, or give its name to another file.
func (p *prepared) close() { _ = p.file.Close() }

// prepare opens, judges and hashes the executable. It starts nothing. The arguments stay one string: every program splits its own.
func (l *Launcher) prepare(ctx context.Context, t bridge.StartProcess) (_ *prepared, err error) {
	if l.cfg.User != "" {
		return nil, verdict.Refuse(bridge.ReasonUnsupported, "on Windows programs run as the account of the agent: leave the user out")
	}
	p := &prepared{path: filepath.Clean(t.ExecutablePath), folder: filepath.Dir(filepath.Clean(t.ExecutablePath))}
	if t.Arguments != "" {
		p.args = []string{t.Arguments}
	}
	if t.WorkingFolder != "" {
		if info, err := os.Stat(t.WorkingFolder); err != nil || !info.IsDir() {
			return nil, verdict.Refuse(bridge.ReasonInvalid, "params.workingFolder: %s is no folder", verdict.Shown(t.WorkingFolder))
		}
		p.folder = filepath.Clean(t.WorkingFolder)
	}
	if p.file, err = files.OpenHeld(p.path); err != nil {
		if errors.Is(err, files.ErrLink) || errors.Is(err, files.ErrNotRegular) {
			return nil, verdict.Refuse(bridge.ReasonInvalid, "open %s: %w", verdict.Shown(p.path), err)
		}
		return nil, verdict.Hopeless("open %s: %w", verdict.Shown(p.path), err)
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := files.CheckTrustedProgram(p.path); errors.Is(err, files.ErrOthers) {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "%w, who could put another program in its place: take that right away", err)
	} else if err != nil {
		return nil, verdict.Hopeless("%w", err)
	}
	if p.digests, err = l.trees.digests.Of(ctx, p.file, true, true); err != nil {
		if verr := verdict.Stopped(ctx, "not begun"); verr != nil {
			return nil, verr
		}
		return nil, verdict.Hopeless("digest of %s: %w", verdict.Shown(p.path), err)
	}
	return p, nil
}

// bootID has nothing to add: creation times of processes are not used again after a restart.
func bootID() string { return "" }

// launcherState keeps the job objects of the programs this process has started.
type launcherState struct {
	// mu guards jobs.
	mu   sync.Mutex
	jobs map[string]windows.Handle
}

// group makes the job object of the program, or says why it has none.
func (l *Launcher) group(n *note) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		n.Notes = append(n.Notes, fmt.Sprintf("no job object of its own (%v): what gives up its parent is not found", err))
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.jobs == nil {
		l.jobs = make(map[string]windows.Handle)
	}
	if old, ok := l.jobs[n.Order]; ok {
		_ = windows.CloseHandle(old)
	}
	l.jobs[n.Order] = job
}

func (l *Launcher) ungroup(n *note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if job, ok := l.jobs[n.Order]; ok {
		_ = windows.CloseHandle(job)
		delete(l.jobs, n.Order)
	}
}

func (l *Launcher) job(n *note) (windows.Handle, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	job, ok := l.jobs[n.Order]
	return job, ok
}

// spawn starts the program as a member of a job object of its own. It begins suspended, so that nothing it starts is outside. The job
// has no KILL_ON_JOB_CLOSE: the program goes on when the agent ends.
func (l *Launcher) spawn(p *prepared, dir string, n *note) error {
	out, err := os.OpenFile(filepath.Join(dir, fileStdout), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // in the folder of the program
	if err != nil {
		return verdict.Untouched("output of the program: %w", err)
	}
	defer func() { _ = out.Close() }()
	errs, err := os.OpenFile(filepath.Join(dir, fileStderr), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // in the folder of the program
	if err != nil {
		return verdict.Untouched("output of the program: %w", err)
	}
	defer func() { _ = errs.Close() }()
	cmd := exec.Command(p.path) //nolint:gosec,noctx // judged by prepare; it outlives every ctx
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.folder, out, errs
	cmd.Env = systemEnvironment()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CmdLine:       strings.TrimSpace(`"` + p.path + `" ` + strings.Join(p.args, " ")),
		CreationFlags: windows.CREATE_SUSPENDED | windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW,
	}
	if err := cmd.Start(); err != nil {
		return verdict.Hopeless("start %s: %w", verdict.Shown(p.path), err)
	}
	defer func() { _ = cmd.Process.Release() }()
	live, err := pin(cmd.Process.Pid)
	if err != nil {
		return unbegun(cmd.Process, err)
	}
	defer live.close()
	n.PID, n.Start = live.pid, live.start
	job, _ := l.job(n)
	if err := joinAndResume(job, live.pid); err != nil {
		_ = live.send(sigKill)
		return verdict.Hopeless("start %s: %w", verdict.Shown(p.path), err)
	}
	return nil
}

// unbegun ends a process that was made and has not run an instruction, because it cannot be looked at.
func unbegun(p *os.Process, why error) error {
	if err := p.Kill(); err != nil {
		return verdict.Undecided("the program was made as pid %d and waits; it cannot be looked at (%w) and not be ended: %w", p.Pid, why, err)
	}
	return verdict.Untouched("the program was made as pid %d, could not be looked at, and was ended before it began: %w", p.Pid, why)
}

// joinAndResume puts a suspended process into the job and lets its only thread run (tlhelp32.h, Thread32First).
func joinAndResume(job windows.Handle, pid int) error {
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid)) //nolint:gosec // a process id
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	if job != 0 {
		if err := windows.AssignProcessToJobObject(job, h); err != nil {
			return fmt.Errorf("job object: %w", err)
		}
	}
	snap, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return fmt.Errorf("threads: %w", err)
	}
	defer func() { _ = windows.CloseHandle(snap) }()
	e := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(snap, &e); err == nil; err = windows.Thread32Next(snap, &e) {
		if e.OwnerProcessID != uint32(pid) { //nolint:gosec // a process id
			continue
		}
		t, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, e.ThreadID)
		if err != nil {
			return fmt.Errorf("thread of process %d: %w", pid, err)
		}
		_, err = windows.ResumeThread(t)
		return errors.Join(err, windows.CloseHandle(t))
	}
	return fmt.Errorf("thread of process %d: %w", pid, err)
}

// systemEnvironment is the least a program needs to find the system.
func systemEnvironment() []string {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		system = `C:\Windows\System32`
	}
	root := filepath.Dir(system)
	return []string{"SystemRoot=" + root, "windir=" + root, "PATH=" + system + ";" + root, "LANG=C.UTF-8"}
}

// program is a started program that is waited for.
type program struct{ *pinned }

// attach pins the process of a note. It returns errGone when that has ended and nobody can tell how.
func (l *Launcher) attach(n *note) (*program, error) {
	p, err := pin(n.PID)
	if err != nil {
		return nil, err
	}
	if p.start != n.Start {
		p.close()
		return nil, errGone
	}
	return &program{p}, nil
}

// elapsed is how long the process of a note has been there.
func (l *Launcher) elapsed(n *note) time.Duration { return l.cfg.Now().Sub(n.Begun) }

// search finds nothing: Windows does not tell whose output a file is.
func (l *Launcher) search(*note) bool { return false }

// outputs are the files a program writes into itself: Windows has no pipes that outlive the agent.
type outputs struct{ files []string }

// keep has nothing to carry; the files are cut when the program has ended.
func (l *Launcher) keep(order string) *outputs {
	dir := l.folder(order)
	return &outputs{[]string{filepath.Join(dir, fileStdout), filepath.Join(dir, fileStderr)}}
}

func (o *outputs) stop() (cut bool) {
	for _, name := range o.files {
		if info, err := os.Stat(name); err == nil && info.Size() > maxOutput {
			cut = os.Truncate(name, maxOutput) == nil || cut
		}
	}
	return cut
}

// outcome fills in the exit code (GetExitCodeProcess).
func (p *program) outcome(_ context.Context, e *Exit) {
	var code uint32
	if !p.ended() || windows.GetExitCodeProcess(p.handle, &code) != nil {
		return
	}
	e.Known, e.Code = true, int(code)
}

// overtime ends the program and its descendants and returns what could not be ended.
func (l *Launcher) overtime(ctx context.Context, p *program, n *note) []string {
	// The time is over whether or not anybody still waits.
	ctx = context.WithoutCancel(ctx)
	if job, ok := l.job(n); ok && windows.TerminateJobObject(job, 1) == nil && p.waitExit(ctx, time.Now().Add(defaultExitDeadline)) {
		return nil
	}
	pl := &plan{}
	defer pl.close()
	if root, err := pin(p.pid); err == nil && root.start == p.start {
		pl.targets = append(pl.targets, root)
		if reason, why, err := l.trees.protected(ctx, root); err != nil || reason != bridge.ReasonNone {
			l.log.Error("a program whose time is over is not ended", "order", n.Order, "why", why, "err", err)
			return []string{fmt.Sprintf("%s: %s", root, why)}
		}
	} else if err == nil {
		root.close()
	}
	if err := l.trees.grow(ctx, pl); err != nil {
		l.log.Error("the tree of a program was not found whole", "order", n.Order, "err", err)
	}
	pl.forest.grown = true
	res := l.trees.endAll(ctx, pl)
	p.waitExit(ctx, time.Now().Add(defaultExitDeadline))
	return append(append(res.running, res.denied...), res.kept...)
}

// leftBehind names nobody: without its parent a process is nobody's child here.
func (l *Launcher) leftBehind(*note) []string { return nil }
