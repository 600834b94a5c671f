package api

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/edr-bridge/edr-bridge/peersocket"
)

// ErrInUse is returned by Server.Listen while another bridge answers on the control socket.
var ErrInUse = peersocket.ErrInUse

// Listen makes the socket (api.socket) for its owner and the group (api.group; empty = the group of the process), mode 0660. A socket that
// nobody answers on is replaced; one that somebody answers on is ErrInUse, and anything else at path stays and is an error. Two
// bridges that start at the same moment are kept apart by the lock of their store, not here. It wraps errors.ErrUnsupported
// where the system does not tell who connects.
func (s *Server) Listen(ctx context.Context, path, group string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return errors.New("control socket: it listens already")
	}
	listener, err := peersocket.Listen(ctx, path, group, func(err error) {
		s.log.Warn("control socket: cannot tell who connects, refused", "err", err)
	})
	if err != nil {
		return fmt.Errorf("control socket %w", err)
	}
	s.listener = listener
	return nil
}

// Close takes the socket away and ends Serve. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	l := s.listener
	s.listener = nil
	return l.Close()
}

type peerKey struct{}

// withPeer is the one way net/http has for a handler to learn about its connection.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*limitedConn); ok {
		conn = c.Conn
	}
	if c, ok := conn.(*peersocket.Conn); ok {
		return context.WithValue(ctx, peerKey{}, c.UID)
	}
	return ctx
}
