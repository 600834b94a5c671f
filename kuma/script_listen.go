package kuma

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

const (
	scriptSocketMode = 0o660
	scriptProbe      = time.Second
	// scriptMaxSocketPath is the length of a path a Unix socket can have on Linux (unix(7): 108 bytes with the one that ends it).
	scriptMaxSocketPath = 107
	scriptNames         = 36 * 36 * 36 // of temporary folders
)

// ErrSocketInUse says that another bridge answers on the socket for calls.
var ErrSocketInUse = errors.New("another bridge answers on the socket for calls")

// scriptSocket is the socket at its place. Close takes it away.
type scriptSocket struct {
	net.Listener
	path string
	made fs.FileInfo
	once sync.Once
	err  error
}

// scriptListen makes the socket: for its owner and the group (empty = the group of the process), mode 0660. A socket nobody answers
// on is replaced, one somebody answers on is ErrSocketInUse, anything else stays and is an error.
func scriptListen(ctx context.Context, path, group string) (*scriptSocket, error) {
	if !scriptTellsPeers {
		return nil, fmt.Errorf("this system does not tell who calls: %w", errors.ErrUnsupported)
	}
	if err := scriptFree(ctx, path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s, err := scriptMakeSocket(ctx, path, group)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Close takes the socket away and ends Accept.
func (s *scriptSocket) Close() error {
	s.once.Do(func() {
		// Before the listener closes: as long as it is open, no other socket can have the same inode.
		if there, err := os.Lstat(s.path); err == nil && os.SameFile(there, s.made) {
			s.err = os.Remove(s.path)
		}
		s.err = errors.Join(s.err, s.Listener.Close())
	})
	return s.err
}

func scriptFree(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("is there and is no socket: remove it or set another path")
	}
	ctx, cancel := context.WithTimeout(ctx, scriptProbe)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return ErrSocketInUse
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return fmt.Errorf("cannot tell whether a bridge answers: %w", err)
	}
}

// scriptMakeSocket binds in a folder only this user can enter and moves the socket to its place when owner and mode are right, so
// that nobody else can connect before, whatever the umask is.
func scriptMakeSocket(ctx context.Context, path, group string) (s *scriptSocket, err error) {
	gid, err := scriptGroupID(group)
	if err != nil {
		return nil, err
	}
	dir, err := scriptClosedDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	temp := filepath.Join(dir, "s")
	if n := len(temp); n > scriptMaxSocketPath {
		return nil, fmt.Errorf("the path is too long by %d bytes: set a shorter one", n-scriptMaxSocketPath)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", temp)
	if err != nil {
		return nil, err
	}
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	s = &scriptSocket{Listener: listener, path: path}
	if gid >= 0 {
		err = os.Lchown(temp, -1, gid)
	}
	if err == nil {
		err = os.Chmod(temp, scriptSocketMode)
	}
	if err == nil {
		s.made, err = os.Lstat(temp)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return s, nil
}

// scriptClosedDir makes a folder with a short name, because the paths of sockets are.
func scriptClosedDir(parent string) (string, error) {
	for try := 0; ; try++ {
		dir := filepath.Join(parent, ".k"+strconv.FormatInt(rand.Int64N(scriptNames), 36)) //nolint:gosec // made new or not at all
		err := os.Mkdir(dir, 0o700)
		if err == nil || !errors.Is(err, fs.ErrExist) || try == 100 {
			return dir, err
		}
	}
}

// MakeSpool makes the spool directory for the group its writers are in, a name or a number (empty = the group of this process). One
// that is there is put right (callout.MakeSpool).
func MakeSpool(path, group string) error {
	gid, err := scriptGroupID(group)
	if err != nil {
		return err
	}
	return callout.MakeSpool(path, gid)
}

// scriptGroupID is the id of the group, -1 for none. A number is taken as it is.
func scriptGroupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", name, err)
	}
	return strconv.Atoi(g.Gid)
}

// scriptListener takes as many connections as it has slots, of users the kernel tells; the others wait there.
type scriptListener struct {
	net.Listener
	slots chan struct{}
}

// Accept waits for a connection, then for a slot.
func (l *scriptListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := scriptPeerUID(conn)
		if err != nil {
			_ = conn.Close()
			continue
		}
		l.slots <- struct{}{} // a slot comes free in bounded time: every connection has its timeouts
		return &scriptConn{Conn: conn, uid: uid, give: sync.OnceFunc(func() { <-l.slots })}, nil
	}
}

// scriptConn is a connection with the user at its other end.
type scriptConn struct {
	net.Conn
	uid  uint32
	give func()
}

// Close closes the connection and gives its slot back.
func (c *scriptConn) Close() error {
	defer c.give()
	return c.Conn.Close()
}

type scriptPeerKey struct{}

// scriptWithPeer is the one way net/http has for a handler to learn about its connection.
func scriptWithPeer(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*scriptConn); ok {
		return context.WithValue(ctx, scriptPeerKey{}, c.uid)
	}
	return ctx
}

// scriptQuiet drops what net/http says about connections: any caller could fill the log with it.
func scriptQuiet() *log.Logger { return log.New(io.Discard, "", 0) }
