package kuma

import (
	"context"
	"io"
	"log"
	"net"
	"sync"

	"github.com/edr-bridge/edr-bridge/kuma/callout"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

// MakeSpool makes the spool directory for the group its writers are in, a name or a number (empty = the group of this process). One
// that is there is put right (callout.MakeSpool).
func MakeSpool(path, group string) error {
	gid, err := peersocket.GroupID(group)
	if err != nil {
		return err
	}
	return callout.MakeSpool(path, gid)
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
		peer, ok := conn.(*peersocket.Conn)
		if !ok {
			_ = conn.Close()
			continue
		}
		l.slots <- struct{}{} // a slot comes free in bounded time: every connection has its timeouts
		return &scriptConn{Conn: conn, uid: peer.UID, give: sync.OnceFunc(func() { <-l.slots })}, nil
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
