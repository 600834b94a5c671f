package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// pfKthread is PF_KTHREAD of the kernel's task flags (field 9 of /proc/PID/stat, proc_pid_stat(5)).
	pfKthread = 0x200000
	// userHZ is the unit of start times in /proc, fixed at 100 on every Linux port Go runs on.
	userHZ = 100
	// maxPID is the kernel's PID_MAX_LIMIT on 64-bit machines (proc_sys_kernel(5)).
	maxPID = 1 << 22
	// slowPause is how long the agent sleeps between two looks at a process the poller does not watch.
	slowPause = 20 * time.Millisecond
	// deletedMark ends the exe link of a process whose image has no name any more (proc_pid_exe(5)).
	deletedMark = " (deleted)"
)

// pinned is one process held by a pidfd and by its directory in /proc: both keep naming it when its number is
// given to another process.
type pinned struct {
	pid, ppid int
	pidfd     int
	dir       int
	file      *os.File // owns pidfd once somebody waits for the exit
	start     uint64
	kthread   bool
	// held says how the agent keeps the process from going on, until it is killed or let go.
	held held
	// descendant says that the process is ended because of one above it, whatever it runs.
	descendant bool
	// signalled says that the kernel was told to end the process with its whole control group.
	signalled bool
	// image is the path of the executable without the mark of deleted files, exe its identity, size its bytes and exeLink
	// where in dir it is found.
	image   string
	exe     files.ID
	size    int64
	exeLink string
}

// pin opens the process and reads who it is. It returns errGone when there is none or it has ended, errThread for
// the number of a thread and errSealed when its image must not be looked at.
func pin(pid int) (*pinned, error) {
	p, err := open(pid)
	if err != nil {
		return nil, err
	}
	if err := p.identify(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// open pins the process without asking who it is.
func open(pid int) (*pinned, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, errGone
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return nil, errThread
	case errors.Is(err, unix.ENOSYS):
		return nil, errors.New("this kernel has no pidfd_open, Linux 5.3 is needed: a pid alone is never acted on")
	case err != nil:
		return nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	return &pinned{pid: pid, pidfd: fd, dir: -1, exeLink: "exe"}, nil
}

func (p *pinned) close() {
	if p.dir >= 0 {
		_ = unix.Close(p.dir)
	}
	if p.file != nil {
		_ = p.file.Close()
		return
	}
	_ = unix.Close(p.pidfd)
}

func (p *pinned) identify() error {
	if err := p.readStat(); err != nil {
		return err
	}
	if !p.kthread {
		if err := p.readImage(); err != nil {
			return err
		}
	}
	// Only a process that is still there now can have been the one the lines above read: its number was not free.
	return p.alive()
}

func (p *pinned) readStat() error {
	dir, err := unix.Open("/proc/"+strconv.Itoa(p.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return p.lost("open /proc", err)
	}
	p.dir = dir
	st, err := p.stat("stat")
	if err != nil {
		return p.lost("read stat", err)
	}
	p.ppid, p.start, p.kthread = st.ppid, st.start, st.flags&pfKthread != 0
	return nil
}

// stat reads the stat file of the process or of one of its threads.
func (p *pinned) stat(name string) (procStat, error) {
	var buf [1024]byte
	b, err := p.read(name, buf[:])
	if err != nil {
		return procStat{}, err
	}
	return parseStat(b)
}

// read reads the beginning of a file in the directory of the process into buf.
func (p *pinned) read(name string, buf []byte) ([]byte, error) {
	fd, err := unix.Openat(p.dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return buf[:n], nil
}

func (p *pinned) readImage() error {
	var err error
	if p.exe, p.size, err = p.lookAtExe(); err != nil {
		return p.lost("look at exe", err)
	}
	link, err := p.readlink(p.exeLink)
	if errors.Is(err, unix.ENOENT) {
		return errGone // its memory went between the two looks
	}
	if errors.Is(err, unix.ENAMETOOLONG) {
		// The kernel tells no path above 4 KiB: whoever runs his program so deep down is known by number, time and content.
		link, err = fmt.Sprintf("/proc/%d/exe", p.pid), nil
	}
	if err != nil {
		return p.lost("read exe", err)
	}
	image, deleted := strings.CutSuffix(link, deletedMark)
	if deleted {
		// A file may be called so to hide behind the mark.
		if id, err := rememberedID(unix.AT_FDCWD, link, 0); err == nil && id == p.exe {
			image = link
		}
	}
	p.image = image
	return nil
}

// lost turns an error of reading /proc into errGone when the reason is that the process has ended.
func (p *pinned) lost(doing string, err error) error {
	if errors.Is(err, errGone) || errors.Is(err, unix.ESRCH) || p.ended() {
		return errGone
	}
	if errors.Is(err, unix.ENOENT) && p.alive() != nil {
		return errGone
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s of process %d: %w: %w", doing, p.pid, err, errSealed)
	}
	return fmt.Errorf("%s of process %d: %w", doing, p.pid, err)
}

// alive returns errGone when the process behind the pidfd is gone.
func (p *pinned) alive() error {
	if err := unix.PidfdSendSignal(p.pidfd, 0, nil, 0); errors.Is(err, unix.ESRCH) {
		return errGone
	} else if err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("pidfd_send_signal %d: %w", p.pid, err)
	}
	return nil
}

// ended reports whether all threads have exited; a zombie nobody has waited for counts as ended.
func (p *pinned) ended() bool { return readable(p.pidfd) }

// lookAtExe is exeID also when the first thread has ended and others go on: they still know the image. Without others the process has
// given back its memory, and only its exit is left to be told.
func (p *pinned) lookAtExe() (files.ID, int64, error) {
	id, size, err := p.exeID()
	if !errors.Is(err, unix.ENOENT) || p.ended() {
		return id, size, err
	}
	link, err := p.otherThread()
	if err == nil {
		p.exeLink = link
		id, size, err = p.exeID()
	}
	if errors.Is(err, unix.ENOENT) {
		return files.ID{}, 0, errGone
	}
	return id, size, err
}

// exeID reads identity and size of the image as it is at this moment; the size of what nobody else may look at is 0.
func (p *pinned) exeID() (files.ID, int64, error) {
	st, err := p.statExe()
	if err != nil {
		return files.ID{}, 0, err
	}
	return idOf(&st), int64(st.Size), nil //nolint:gosec // sizes of files are signed
}

// threads lists the numbers of the threads.
func (p *pinned) threads() ([]string, error) {
	fd, err := unix.Openat(p.dir, "task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), "task")
	defer func() { _ = d.Close() }()
	return d.Readdirnames(-1)
}

func (p *pinned) otherThread() (string, error) {
	names, err := p.threads()
	if err != nil {
		return "", err
	}
	for _, tid := range names {
		link := "task/" + tid + "/exe"
		if _, err := p.readlink(link); err == nil {
			return link, nil
		}
	}
	return "", unix.ENOENT
}

func (p *pinned) readlink(name string) (string, error) {
	var buf [unix.PathMax + len(deletedMark)]byte
	n, err := unix.Readlinkat(p.dir, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// openExe opens the image itself, also when its name is gone or belongs to another file.
func (p *pinned) openExe() (*os.File, error) {
	fd, err := unix.Openat(p.dir, p.exeLink, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), p.image), nil
}

// signal sends to the pinned process unless it runs another image than the one that was identified.
func (p *pinned) signal(sig unix.Signal) error {
	if id, _, err := p.lookAtExe(); err != nil {
		return p.lost("look at exe", err)
	} else if id != p.exe {
		return errChanged
	}
	return p.send(sig)
}

func (p *pinned) send(sig unix.Signal) error {
	err := unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return errGone
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("signal process %d: %w: the agent needs root or CAP_KILL", p.pid, err)
	case err != nil:
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	default:
		return nil
	}
}

// lingers says why a process that was told to end is still there, or "".
func (p *pinned) lingers() string {
	threads, _ := p.threads() // the process ends with its last one
	for _, tid := range threads {
		if st, err := p.stat("task/" + tid + "/stat"); err == nil && (st.state == 'D' || st.state == 't') {
			return st.stateText()
		}
	}
	st, err := p.stat("stat")
	if err != nil {
		return ""
	}
	return st.stateText()
}

// zombie tells of a process that has ended and that its parent has not waited for, or "".
func zombie(pid int, start uint64) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	st, err := parseStat(b)
	if err != nil || st.start != start || st.state != 'Z' {
		return ""
	}
	return fmt.Sprintf("a zombie, because its parent, process %d, has not waited for it", st.ppid)
}

// waitExit blocks until the process has exited, the deadline passes or ctx ends, and reports whether it has.
// It parks the goroutine in the runtime's poller and keeps no thread.
func (p *pinned) waitExit(ctx context.Context, deadline time.Time) bool {
	if p.ended() {
		return true
	}
	if p.file == nil {
		if err := unix.SetNonblock(p.pidfd, true); err != nil {
			return p.waitSlowly(ctx, deadline)
		}
		p.file = os.NewFile(uintptr(p.pidfd), "pidfd")
	}
	if err := p.file.SetReadDeadline(deadline); err != nil {
		return p.waitSlowly(ctx, deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	rc, err := p.file.SyscallConn()
	if err == nil {
		err = rc.Read(func(fd uintptr) bool { return readable(int(fd)) })
	}
	return err == nil || p.waitSlowly(ctx, deadline)
}

// waitSlowly is waitExit without the poller, which may be out of room: an error of it is no end of the time.
func (p *pinned) waitSlowly(ctx context.Context, deadline time.Time) bool {
	for !p.ended() {
		left := time.Until(deadline)
		if left <= 0 || pause(ctx, min(left, slowPause)) != nil {
			return p.ended()
		}
	}
	return true
}

func readable(fd int) bool {
	for {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // descriptors are small
		n, err := unix.Poll(fds[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n == 1 && fds[0].Revents&unix.POLLIN != 0
	}
}
