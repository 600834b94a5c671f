package api

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// connPhase is what a connection is at. The lower it is, the earlier the connection has to make room for another one.
type connPhase int32

const (
	connRefused connPhase = iota // waits for a refusal that is held back
	connDrip                     // has sent something, but not all of its first header (or of its handshake)
	connHeader                   // has not sent anything yet, or the server has not come to read it
	connIdle                     // waits for its next request
	connBody                     // sends a body
	connBusy                     // waits for the bridge: it is never closed for another one
)

// ingressConns are the connections of an Ingress.
type ingressConns struct {
	limit, perPeer int
	clock          atomic.Int64 // counts changes, so that they can be told apart by age
	evicted        func()       // called for each connection that is closed or refused for want of room; set before use

	mu    sync.Mutex // guards what follows
	conns map[*ingressConn]struct{}
	peers map[netip.Addr]int
}

func newIngressConns(limit, perPeer int) *ingressConns {
	return &ingressConns{
		limit: limit, perPeer: perPeer, evicted: func() {},
		conns: map[*ingressConn]struct{}{}, peers: map[netip.Addr]int{},
	}
}

// ingressConn is a connection with what it is at.
type ingressConn struct {
	net.Conn
	owner *ingressConns
	peer  netip.Addr // as rules name it
	group netip.Addr // what counts as one peer
	// state is the phase and, in the bits above phaseBits, when it began.
	state atomic.Int64
}

const phaseBits = 3

func (c *ingressConn) enter(p connPhase) {
	c.state.Store(c.owner.clock.Add(1)<<phaseBits | int64(p))
}

// rank orders connections by who has to make room first.
func (c *ingressConn) rank() (p connPhase, since int64) {
	s := c.state.Load()
	return connPhase(s & (1<<phaseBits - 1)), s >> phaseBits
}

// Read tells who has sent a part of a header from who has just come: the header of a good client comes in one piece, and the
// connection is busy at once.
func (c *ingressConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if s := c.state.Load(); n > 0 && connPhase(s&(1<<phaseBits-1)) == connHeader {
		c.state.CompareAndSwap(s, s&^(1<<phaseBits-1)|int64(connDrip))
	}
	return n, err
}

// Close closes the connection and gives its place back.
func (c *ingressConn) Close() error {
	c.owner.mu.Lock()
	c.owner.drop(c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// admit takes a connection in, or returns nil when there is no room and none can be made.
func (s *ingressConns) admit(conn net.Conn) *ingressConn {
	c := &ingressConn{Conn: conn, owner: s}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		c.peer = a.AddrPort().Addr().Unmap().WithZone("")
	}
	c.group = c.peer
	if c.peer.Is6() {
		c.group = netip.PrefixFrom(c.peer, 64).Masked().Addr()
	}
	c.enter(connHeader)
	s.mu.Lock()
	var victims []*ingressConn
	room := true
	if s.peers[c.group] >= s.perPeer && !c.peer.IsLoopback() {
		room = s.choose(&victims, func(v *ingressConn) bool { return v.group == c.group })
	}
	if room && len(s.conns) >= s.limit {
		room = s.choose(&victims, func(*ingressConn) bool { return true })
	}
	if room {
		s.conns[c] = struct{}{}
		s.peers[c.group]++
	}
	s.mu.Unlock()
	for _, v := range victims {
		_ = v.Conn.Close() // its goroutine in the server finds out
		s.evicted()
	}
	if !room {
		s.evicted()
		return nil
	}
	return c
}

// makeRoom closes one connection where no descriptors are left.
func (s *ingressConns) makeRoom() {
	s.mu.Lock()
	var victims []*ingressConn
	s.choose(&victims, func(*ingressConn) bool { return true })
	s.mu.Unlock()
	for _, v := range victims {
		_ = v.Conn.Close()
		s.evicted()
	}
}

// closeUnread closes the connections whose request is not read yet: a server that ends would wait for them only to send them away.
func (s *ingressConns) closeUnread() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if p, _ := c.rank(); p == connHeader || p == connDrip || p == connBody {
			_ = c.Conn.Close()
		}
	}
}

// choose drops the connection that has to make room first; mu is held. It looks at all of them, which takes microseconds and
// happens only where there is no room.
func (s *ingressConns) choose(victims *[]*ingressConn, among func(*ingressConn) bool) bool {
	var first *ingressConn
	firstPhase, firstSince := connBusy, int64(0)
	for c := range s.conns {
		if !among(c) {
			continue
		}
		if p, since := c.rank(); p < firstPhase || p == firstPhase && p != connBusy && since < firstSince {
			first, firstPhase, firstSince = c, p, since
		}
	}
	if first == nil {
		return false
	}
	s.drop(first)
	*victims = append(*victims, first)
	return true
}

// drop forgets a connection, once; mu is held.
func (s *ingressConns) drop(c *ingressConn) {
	if _, known := s.conns[c]; !known {
		return
	}
	delete(s.conns, c)
	if s.peers[c.group]--; s.peers[c.group] == 0 {
		delete(s.peers, c.group)
	}
}

// follow is told by the server what its connections are at.
func (s *ingressConns) follow(conn net.Conn, state http.ConnState) {
	c := rawConn(conn)
	if c == nil {
		return
	}
	switch state {
	case http.StateActive:
		c.enter(connBusy)
	case http.StateIdle:
		c.enter(connIdle)
	case http.StateNew, http.StateHijacked, http.StateClosed:
	}
}

func rawConn(conn net.Conn) *ingressConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*ingressConn)
	return c
}

type ingressConnKey struct{}

// withIngressConn is the one way net/http has for a handler to learn about its connection.
func withIngressConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, ingressConnKey{}, rawConn(conn))
}

// ingressListener takes connections there is room for.
type ingressListener struct {
	net.Listener
	conns *ingressConns
	plain bool // a refusal can be told in plain HTTP
}

const (
	noRoomAnswer  = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	noRoomTimeout = 100 * time.Millisecond
)

// Accept waits for a connection. Where every place is taken by a request the bridge works on, the peer is told to come again.
func (l *ingressListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			l.conns.makeRoom() // the server waits a moment and calls again
		}
		if err != nil {
			return nil, err
		}
		if c := l.conns.admit(conn); c != nil {
			return c, nil
		}
		if l.plain {
			_ = conn.SetWriteDeadline(time.Now().Add(noRoomTimeout))
			_, _ = conn.Write([]byte(noRoomAnswer))
		}
		_ = conn.Close()
	}
}
