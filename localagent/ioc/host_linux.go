package ioc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxMounts bounds the list of mounts in bytes, maxTable every other file of the system that is read whole.
	maxMounts = 16 << 20
	maxTable  = 16 << 20
)

// host is the machine whose objects are collected.
type host struct {
	// root is put before the paths of the system; empty but in tests.
	root string
	now  func() time.Time
}

func (h host) path(name string) string { return filepath.Join(h.root, "/", name) }

// read reads a regular file of the system whole; links of the system are followed.
func (h host) read(name string, limit int64) ([]byte, error) {
	f, err := openTable(h.path(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := readSmall(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// openTable opens a regular file of the system; it does not wait for the other end of a FIFO.
func openTable(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0) //nolint:gosec // a table of the system
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", verdict.Shown(path))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// lines reads a file of the system as lines; one that does not exist has none.
func (h host) lines(name string) ([]string, error) {
	b, err := h.read(name, maxTable)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Split(string(b), "\n"), nil
}

// collector hands every object of a kind to emit, which is done with it when it returns. An error says what could not be
// collected; what was handed over counts all the same.
type collector func(ctx context.Context, h host, o *object, emit func(*object)) error

// collectorOf returns the collector of a kind that Compile lets through.
func collectorOf(k Kind) collector {
	switch k {
	case KindProcess:
		return collectProcesses
	case KindPort:
		return collectPorts
	case KindDNS:
		return collectNames
	case KindARP:
		return collectNeighbours
	case KindService:
		return collectServices
	case KindUser:
		return collectUsers
	case KindSystem:
		return collectSystem
	case KindVolume:
		return collectVolumes
	case KindFile:
	}
	return func(context.Context, host, *object, func(*object)) error {
		return fmt.Errorf("%s is not collected here: %w", k, errors.ErrUnsupported)
	}
}

// idle puts the calling goroutine on a thread of its own that reads disks only when nobody else does (ioprio_set(2)).
// The thread ends with the goroutine.
func idle() {
	const (
		whoProcess = 1       // IOPRIO_WHO_PROCESS; 0 = the calling thread
		classIdle  = 3 << 13 // IOPRIO_CLASS_IDLE
	)
	runtime.LockOSThread()
	// A kernel without I/O classes reads at the usual priority.
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle)
}

// isFolder reports whether the path is a folder and no link.
func isFolder(name string) bool {
	st, err := os.Lstat(name)
	return err == nil && st.IsDir()
}

// users knows the names of users.
type users struct{ names map[uint32]string }

// usersHere reads the local users; without them files have owners by number only.
func usersHere() users {
	accounts, _, _ := readUsers(host{})
	return users{namesByUID(accounts)}
}

// owner returns the name of the file's owner, or nothing.
func (u users) owner(st files.Stat) string { return u.names[st.UID] }

// number returns the number of the file's owner.
func (u users) number(st files.Stat) string { return uidText(st.UID) }
