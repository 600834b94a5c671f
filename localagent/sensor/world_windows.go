package sensor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
)

// maxListed bounds one snapshot.
const maxListed = 1 << 17

// system reads snapshots of the process list. Command lines are not read: they would need the memory of other processes.
type system struct{}

func (system) pids() ([]int, error) {
	var list []int
	err := eachProcess(func(e *windows.ProcessEntry32) bool {
		if e.ProcessID > 4 { // 0 and 4 are the kernel
			list = append(list, int(e.ProcessID))
		}
		return len(list) < maxListed
	})
	return list, err
}

// eachProcess goes through one snapshot until visit answers false.
func eachProcess(visit func(*windows.ProcessEntry32) bool) error {
	h, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	e := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(h, &e); err == nil; err = windows.Process32Next(h, &e) {
		if !visit(&e) {
			return nil
		}
	}
	if !errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		return fmt.Errorf("list processes: %w", err)
	}
	return nil
}

func handleOf(pid int) (windows.Handle, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.SYNCHRONIZE, false, uint32(pid)) //nolint:gosec // from a snapshot
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return 0, errGone
	}
	if err != nil {
		return 0, fmt.Errorf("open process %d: %w", pid, err)
	}
	if ev, err := windows.WaitForSingleObject(h, 0); err == nil && ev == windows.WAIT_OBJECT_0 {
		_ = windows.CloseHandle(h)
		return 0, errGone
	}
	return h, nil
}

func (system) stat(pid int) (stat, error) {
	h, err := handleOf(pid)
	if err != nil {
		return stat{}, err
	}
	defer func() { _ = windows.CloseHandle(h) }()
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user); err != nil {
		return stat{}, fmt.Errorf("times of process %d: %w", pid, err)
	}
	st := stat{start: uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime)}
	// The number of a parent that has ended may be given away: the list says only which number it had.
	err = eachProcess(func(e *windows.ProcessEntry32) bool {
		if int(e.ProcessID) != pid {
			return true
		}
		st.ppid, st.name = int(e.ParentProcessID), windows.UTF16ToString(e.ExeFile[:])
		return false
	})
	return st, err
}

func (system) image(pid int) (string, bool, error) {
	h, err := handleOf(pid)
	if err != nil {
		return "", false, err
	}
	defer func() { _ = windows.CloseHandle(h) }()
	buf := make([]uint16, windows.MAX_LONG_PATH)
	n := uint32(windows.MAX_LONG_PATH)
	if err := windows.QueryFullProcessImageName(h, 0, &buf[0], &n); err != nil {
		return "", false, fmt.Errorf("image of process %d: %w", pid, err)
	}
	return filepath.Clean(windows.UTF16ToString(buf[:n])), false, nil
}

func (system) commandLine(int, int) ([]byte, error) {
	return nil, fmt.Errorf("command lines of other processes are not read on Windows: %w", errors.ErrUnsupported)
}

func (s system) open(pid int) (*os.File, error) {
	path, _, err := s.image(pid)
	if err != nil {
		return nil, err
	}
	// Windows keeps the file of a running image from being replaced.
	return os.Open(path) //nolint:gosec // the kernel names the image
}

// after is not needed: without events nothing is read long after it was seen.
func (system) after(uint64, uint64) bool { return false }

// program is not given: who runs a process is not known here.
func (system) program() string { return "" }

func (system) isOurs(int) bool { return false }

func (system) boot() string { return "" }
