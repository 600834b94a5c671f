package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxReply bounds the bytes of one answer: a hostile entry or server must not fill the memory.
	maxReply = 32 << 20
	// userTimeout is how long sent data may stay unacknowledged before the kernel gives the connection up.
	userTimeout = 20 * time.Second
)

var (
	errReplyTooLarge = errors.New("answer is larger than 32 MiB")
	errSpent         = errors.New("connection is over")
)

// dialer makes the connections of one link.
type dialer struct {
	opts Options
	// exposed is set once a server beyond this machine was reached.
	exposed atomic.Bool
	// oneShot forbids new connections after one broke, so that the owner sees the loss instead of
	// the client reconnecting behind its back.
	oneShot bool
	spent   atomic.Bool
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.oneShot && d.spent.Load() {
		return nil, errSpent
	}
	ctx, cancel := context.WithTimeout(ctx, d.opts.DialTimeout)
	defer cancel()
	nd := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		ControlContext: func(_ context.Context, network, _ string, c syscall.RawConn) error {
			return limitUnacknowledged(network, c)
		},
	}
	conn, err := nd.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if remote, ok := conn.RemoteAddr().(*net.TCPAddr); ok && !remote.IP.IsLoopback() {
		d.exposed.Store(true)
	}
	if d.opts.TLS != nil {
		if conn, err = handshake(ctx, conn, addr, d.opts.TLS); err != nil {
			return nil, err
		}
	}
	return d.bound(conn), nil
}

func handshake(ctx context.Context, conn net.Conn, addr string, settings *tls.Config) (net.Conn, error) {
	cfg := settings.Clone()
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		cfg.ServerName = host
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("tls handshake with %s: %w", addr, err), conn.Close())
	}
	return secure, nil
}

func limitUnacknowledged(network string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var opErr error
	if err := c.Control(func(fd uintptr) { opErr = setUserTimeout(fd, userTimeout) }); err != nil {
		return err
	}
	if errors.Is(opErr, errors.ErrUnsupported) {
		return nil
	}
	return opErr
}

// boundedConn refuses to read more than maxReply bytes for one answer. The client sets the read deadline
// before each answer and reads on the same goroutine, so the deadline marks where the next answer begins.
type boundedConn struct {
	net.Conn
	dialer *dialer
	left   int64
}

// peekableConn also lets the client's pool look whether the server hung up, which needs the raw socket.
type peekableConn struct {
	*boundedConn
	raw syscall.Conn
}

func (d *dialer) bound(conn net.Conn) net.Conn {
	b := &boundedConn{Conn: conn, dialer: d, left: maxReply}
	if raw, ok := conn.(syscall.Conn); ok {
		return &peekableConn{boundedConn: b, raw: raw}
	}
	return b
}

// SyscallConn gives the socket to the pool's liveness check.
func (c *peekableConn) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }

// SetReadDeadline begins the next answer.
func (c *boundedConn) SetReadDeadline(t time.Time) error {
	c.left = maxReply
	return c.Conn.SetReadDeadline(t)
}

// Read returns errReplyTooLarge once the answer has used up its bytes.
func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.dialer.spent.Store(true)
		return 0, errReplyTooLarge
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	if err != nil {
		c.dialer.spent.Store(true)
	}
	return n, err
}
