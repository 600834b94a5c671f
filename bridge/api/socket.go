package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	socketMode   = 0o660
	probeTimeout = time.Second
	// maxSocketPath is the length of a path a Unix socket can have on Linux (unix(7): 108 bytes with the one that ends it).
	maxSocketPath = 107
)

// ErrInUse is returned by Server.Listen while another bridge answers on the socket.
var ErrInUse = errors.New("another bridge answers on the control socket")

// Listen makes the socket: for its owner and the group (empty = the group of the process), mode 0660. A socket that nobody
// answers on is replaced; one that somebody answers on is ErrInUse, and anything else at path stays and is an error. Two
// bridges that start at the same moment are kept apart by the lock of their store, not here. It wraps errors.ErrUnsupported
// where the system does not tell who connects.
func (s *Server) Listen(ctx context.Context, path, group string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return errors.New("control socket: it listens already")
	}
	if !tellsPeers {
		return fmt.Errorf("control socket: this system does not tell who connects: %w", errors.ErrUnsupported)
	}
	if err := free(ctx, path); err != nil {
		return fmt.Errorf("control socket %s: %w", path, err)
	}
	listener, made, err := makeSocket(ctx, path, group)
	if err != nil {
		return fmt.Errorf("control socket %s: %w", path, err)
	}
	s.listener, s.path, s.made = listener, path, made
	return nil
}

// Close takes the socket away and ends Serve. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	var err error
	// Before the listener closes: as long as it is open, no other socket can have the same inode.
	if there, lerr := os.Lstat(s.path); lerr == nil && os.SameFile(there, s.made) {
		err = os.Remove(s.path)
	}
	if cerr := s.listener.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	s.listener = nil
	return err
}

// free checks that nobody uses the path.
func free(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("is there and is no socket: remove it or set another path (api.socket)")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return ErrInUse
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return fmt.Errorf("cannot tell whether a bridge answers: %w", err)
	}
}

// makeSocket binds in a folder only this user can enter and moves the socket to its place when owner and mode are right, so
// that nobody else can connect before, whatever the umask is.
func makeSocket(ctx context.Context, path, group string) (listener net.Listener, made fs.FileInfo, err error) {
	gid, err := groupID(group)
	if err != nil {
		return nil, nil, err
	}
	dir, err := closedDir(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	temp := filepath.Join(dir, "s")
	if n := len(temp); n > maxSocketPath {
		return nil, nil, fmt.Errorf("the path is too long by %d bytes: set a shorter one (api.socket)", n-maxSocketPath)
	}
	listener, err = (&net.ListenConfig{}).Listen(ctx, "unix", temp)
	if err != nil {
		return nil, nil, err
	}
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	if gid >= 0 {
		err = os.Lchown(temp, -1, gid)
	}
	if err == nil {
		err = os.Chmod(temp, socketMode)
	}
	if err == nil {
		made, err = os.Lstat(temp)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	return listener, made, nil
}

// closedDir makes a folder with a short name, because the paths of sockets are.
func closedDir(parent string) (string, error) {
	for try := 0; ; try++ {
		dir := filepath.Join(parent, ".s"+strconv.FormatInt(rand.Int64N(36*36*36), 36)) //nolint:gosec // made new or not at all
		err := os.Mkdir(dir, 0o700)
		if err == nil || !errors.Is(err, fs.ErrExist) || try == 100 {
			return dir, err
		}
	}
}

// groupID is the id of the group, -1 for none.
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group %q (api.group): %w", name, err)
	}
	return strconv.Atoi(g.Gid)
}
