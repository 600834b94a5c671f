package peersocket

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
	"sync"
	"syscall"
	"time"
)

const (
	mode         = 0o660
	probeTimeout = time.Second
	// MaxPath is the length of a path a Unix socket can have on Linux (unix(7): 108 bytes with the one that ends it).
	MaxPath = 107
	// names is how many names of temporary folders there are.
	names = 36 * 36 * 36
)

// ErrInUse is returned by Listen while somebody answers on the socket.
var ErrInUse = errors.New("somebody answers on the socket")

// Listener is a socket at its place.
type Listener struct {
	net.Listener
	path    string
	made    fs.FileInfo
	refused func(error)
	once    sync.Once
	err     error
}

// Listen makes the socket: for its owner and the group (a name or a number; empty = the group of the process), mode 0660. A socket that
// nobody answers on is replaced; one that somebody answers on is ErrInUse, and anything else at path stays and is an error. Two that start at
// the same moment are not kept apart here. refused, when given, hears of connections whose user the kernel does not tell; they are
// closed. It wraps errors.ErrUnsupported where the system does not tell who connects.
func Listen(ctx context.Context, path, group string, refused func(error)) (*Listener, error) {
	if !TellsPeers {
		return nil, fmt.Errorf("this system does not tell who connects: %w", errors.ErrUnsupported)
	}
	l, err := listen(ctx, path, group)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.refused = refused
	return l, nil
}

func listen(ctx context.Context, path, group string) (*Listener, error) {
	if err := free(ctx, path); err != nil {
		return nil, err
	}
	gid, err := GroupID(group)
	if err != nil {
		return nil, err
	}
	return bind(ctx, path, gid)
}

// Accept waits for a connection of a user the kernel tells; it is a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := PeerUID(conn)
		if err == nil {
			return &Conn{Conn: conn, UID: uid}, nil
		}
		if l.refused != nil {
			l.refused(err)
		}
		_ = conn.Close()
	}
}

// Close takes the socket away and ends Accept. It may be called more than once.
func (l *Listener) Close() error {
	l.once.Do(func() {
		// Before the listener closes: as long as it is open, no other socket can have the same inode.
		if there, err := os.Lstat(l.path); err == nil && os.SameFile(there, l.made) {
			l.err = os.Remove(l.path)
		}
		if err := l.Listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			l.err = errors.Join(l.err, err)
		}
	})
	return l.err
}

// Conn is a connection with the user at its other end.
type Conn struct {
	net.Conn
	// UID is the effective user at the time of connect(2).
	UID uint32
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
		return errors.New("is there and is no socket: remove it or set another path")
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
		return fmt.Errorf("cannot tell whether somebody answers: %w", err)
	}
}

// bind binds in a folder only this user can enter and moves the socket to its place when owner and mode are right, so
// that nobody else can connect before, whatever the umask is.
func bind(ctx context.Context, path string, gid int) (l *Listener, err error) {
	dir, err := closedDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	temp := filepath.Join(dir, "s")
	if n := len(temp); n > MaxPath {
		return nil, fmt.Errorf("the path is too long by %d bytes: set a shorter one", n-MaxPath)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", temp)
	if err != nil {
		return nil, err
	}
	if u, ok := listener.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	l = &Listener{Listener: listener, path: path}
	if gid >= 0 {
		err = os.Lchown(temp, -1, gid)
	}
	if err == nil {
		err = os.Chmod(temp, mode)
	}
	if err == nil {
		l.made, err = os.Lstat(temp)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return l, nil
}

// closedDir makes a folder with a short name, because the paths of sockets are.
func closedDir(parent string) (string, error) {
	for try := 0; ; try++ {
		dir := filepath.Join(parent, ".s"+strconv.FormatInt(rand.Int64N(names), 36)) //nolint:gosec // made new or not at all
		err := os.Mkdir(dir, 0o700)
		if err == nil || !errors.Is(err, fs.ErrExist) || try == 100 {
			return dir, err
		}
	}
}

// GroupID is the id of the group, -1 for none. A number is taken as it is.
func GroupID(name string) (int, error) {
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
