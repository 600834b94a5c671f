package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxConns       = 64
	drainTimeout   = 4 * time.Second
	abandonTimeout = time.Second
)

// lifecycle is what a listener does when it ends.
type lifecycle struct {
	// close takes the listener away, so that nobody else comes; abandon tells the work under way to stop.
	close   func() error
	abandon func()
	// drain is how long requests under way may take before that.
	drain time.Duration
	log   *slog.Logger
}

// serve answers until ctx ends, then waits for the requests under way, and 1 s more after they were told to stop.
func serve(ctx context.Context, server *http.Server, listener net.Listener, l lifecycle) error {
	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- server.Serve(listener) })
	defer serving.Wait()
	select {
	case err := <-failed:
		return errors.Join(err, l.close())
	case <-ctx.Done():
	}
	err := l.close()
	if end(ctx, server, l.drain) != nil {
		l.abandon()
		if end(ctx, server, abandonTimeout) != nil {
			l.log.Warn("requests did not stop in time, left behind")
		}
	}
	_ = server.Close() // what is left belongs to handlers that do not heed their context
	return err
}

// end waits at most limit for the requests under way, although ctx has ended.
func end(ctx context.Context, server *http.Server, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return server.Shutdown(ctx)
}

// limitedListener takes as many connections as there are slots; the others wait in the kernel.
type limitedListener struct {
	net.Listener
	slots *slots
}

// Accept waits for a slot and a connection.
func (l *limitedListener) Accept() (net.Conn, error) {
	if !l.slots.take() {
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.slots.give()
		return nil, err
	}
	return &limitedConn{Conn: conn, give: sync.OnceFunc(l.slots.give)}, nil
}

// Close ends Accept.
func (l *limitedListener) Close() error {
	l.slots.close()
	return l.Listener.Close()
}

// limitedConn gives its slot back when it is closed.
type limitedConn struct {
	net.Conn
	give func()
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	defer c.give()
	return c.Conn.Close()
}

// slots is a number of places, and an end.
type slots struct {
	places chan struct{}
	closed chan struct{}
	close  func()
}

func newSlots(n int) *slots {
	s := &slots{places: make(chan struct{}, n), closed: make(chan struct{})}
	s.close = sync.OnceFunc(func() { close(s.closed) })
	return s
}

// take blocks until there is a place; false after the end.
func (s *slots) take() bool {
	select {
	case <-s.closed:
		return false
	case s.places <- struct{}{}:
		return true
	}
}

func (s *slots) give() { <-s.places }
