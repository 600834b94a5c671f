package localagent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// maxPID bounds process ids, which are 32 bits wide.
const maxPID = 1<<32 - 1

// waitSlice is how long one wait for an exit blocks before ctx is looked at.
const waitSlice = 50 * time.Millisecond

// processSignal exists because there is only one way to end a process here.
type processSignal int

const (
	sigTerm processSignal = iota
	sigKill
)

// pinned is one process held by a handle: its number is not given away before the handle is closed.
type pinned struct {
	pid    int
	handle windows.Handle
	// start is the creation time in units of 100 ns since 1601 (GetProcessTimes).
	start uint64
	image string
	// signalled and descendant are never set: processes are ended one by one here, and none changes its image.
	signalled, descendant bool
}

// readImage has nothing to read anew: a process keeps its image here.
func (*pinned) readImage() error { return nil }

// lingers has nothing to tell: Windows does not say what a process waits for.
func (*pinned) lingers() string { return "" }

// zombie has nothing to tell: Windows has none.
func zombie(int, uint64) string { return "" }

// pin opens the process and reads who it is. It returns errGone when there is none or it has ended.
func pin(pid int) (*pinned, error) {
	const access = windows.PROCESS_TERMINATE | windows.PROCESS_QUERY_LIMITED_INFORMATION | windows.SYNCHRONIZE
	h, err := windows.OpenProcess(access, false, uint32(pid)) //nolint:gosec // checkPID bounds it
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return nil, errGone
	}
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return nil, fmt.Errorf("open process %d: %w: %w", pid, err, errSealed)
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &pinned{pid: pid, handle: h}
	if p.ended() {
		p.close()
		return nil, errGone
	}
	if err := p.identify(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pinned) close() { _ = windows.CloseHandle(p.handle) }

func (p *pinned) identify() error {
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(p.handle, &created, &exited, &kernel, &user); err != nil {
		return fmt.Errorf("times of process %d: %w", p.pid, err)
	}
	p.start = uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime)
	buf := make([]uint16, windows.MAX_LONG_PATH)
	n := uint32(windows.MAX_LONG_PATH)
	if err := windows.QueryFullProcessImageName(p.handle, 0, &buf[0], &n); err != nil {
		return fmt.Errorf("image of process %d: %w", p.pid, err)
	}
	p.image = windows.UTF16ToString(buf[:n])
	return nil
}

func (p *pinned) alive() error {
	if p.ended() {
		return errGone
	}
	return nil
}

func (p *pinned) ended() bool {
	ev, err := windows.WaitForSingleObject(p.handle, 0)
	return err == nil && ev == windows.WAIT_OBJECT_0
}

// openExe opens the file the image has by name: Windows keeps it from being replaced while it runs.
func (p *pinned) openExe() (*os.File, error) { return os.Open(p.image) }

// signal ends the process; both signals do.
func (p *pinned) signal(sig processSignal) error { return p.send(sig) }

func (p *pinned) send(processSignal) error {
	err := windows.TerminateProcess(p.handle, 1)
	switch {
	case err == nil:
		return nil
	case p.ended():
		return errGone
	default:
		return fmt.Errorf("end process %d: %w", p.pid, err)
	}
}

// waitExit blocks until the process has exited, the deadline passes or ctx ends, and reports whether it has.
func (p *pinned) waitExit(ctx context.Context, deadline time.Time) bool {
	for !p.ended() {
		left := time.Until(deadline)
		if left <= 0 || ctx.Err() != nil {
			return false
		}
		ms := uint32(min(left, waitSlice).Milliseconds() + 1) //nolint:gosec // at most 51
		if _, err := windows.WaitForSingleObject(p.handle, ms); err != nil {
			return p.ended()
		}
	}
	return true
}

// views yields the image by the one name Windows gives it.
func (p *pinned) views() iter.Seq[view] {
	return func(yield func(view) bool) {
		if p.image != "" {
			yield(p.imageView())
		}
	}
}

// imageView is the image by its one name.
func (p *pinned) imageView() view { return view{name: p.image, open: p.openExe} }

func spellings(path string) []string { return []string{filepath.Clean(path)} }

// candidates lists all processes from one Toolhelp snapshot; image names are compared before anything is opened.
func candidates(ctx context.Context, c *criteria) ([]int, error) {
	var found []int
	err := eachProcess(func(e *windows.ProcessEntry32) bool {
		pid := int(e.ProcessID)
		switch {
		case pid == os.Getpid() || pid <= 4:
		case c.maybe(windows.UTF16ToString(e.ExeFile[:])):
			found = append(found, pid)
		}
		return ctx.Err() == nil
	})
	if err == nil {
		err = context.Cause(ctx)
	}
	return found, err
}

func (c *criteria) maybe(file string) bool {
	for _, p := range c.paths {
		if strings.EqualFold(filepath.Base(p), file) {
			return true
		}
	}
	return len(c.paths) == 0
}

func eachProcess(yield func(*windows.ProcessEntry32) bool) error {
	snap, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return fmt.Errorf("process snapshot: %w", err)
	}
	defer func() { _ = windows.CloseHandle(snap) }()
	e := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(snap, &e); err == nil; err = windows.Process32Next(snap, &e) {
		if !yield(&e) {
			return nil
		}
	}
	if errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		return nil
	}
	return fmt.Errorf("process snapshot: %w", err)
}

func checkPID(pid int) error {
	switch {
	case pid < 1 || pid > maxPID:
		return verdict.Refuse(bridge.ReasonInvalid, "pid %d is no process id", pid)
	case pid <= 4:
		return verdict.Refuse(bridge.ReasonProtectedProcess, "process %d is protected: it is the system", pid)
	case pid == os.Getpid():
		return verdict.Refuse(bridge.ReasonProtectedProcess, "process %d is protected: it is this agent", pid)
	default:
		return nil
	}
}

// checkPIDRange has nothing to add: any 32-bit number can be a process id here.
func checkPIDRange(int) error { return nil }

func startedAt(start uint64, _ time.Time) time.Time {
	ft := windows.Filetime{HighDateTime: uint32(start >> 32), LowDateTime: uint32(start)} //nolint:gosec // the two halves
	return time.Unix(0, ft.Nanoseconds()).UTC()
}
