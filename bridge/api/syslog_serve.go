package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/edr-bridge/edr-bridge/syslog"
)

// Run opens the port and takes connections until ctx ends or Close is called, and then returns nil. A port that cannot be opened is
// tried again after 0.1 s to 5 s. It may be called once.
func (s *Syslog) Run(ctx context.Context) error {
	ctx, cancel, err := s.life.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.life.End()
	var telling, conns sync.WaitGroup
	tell, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	telling.Go(func() { s.troubles.run(tell) })
	defer func() {
		cancel()
		conns.Wait() // their last troubles are still told
		stopTelling()
		telling.Wait()
	}()

	for pause := syslogFirstPause; ; pause = min(2*pause, syslogLastPause) {
		listener, err := s.listen(ctx)
		if err == nil {
			pause = syslogFirstPause
			err = s.accept(ctx, listener, &conns)
		}
		if ctx.Err() != nil {
			s.health.fall(ctx, nil)
			return nil
		}
		s.health.fall(ctx, err)
		syslogPause(ctx, pause)
	}
}

func (s *Syslog) listen(ctx context.Context) (net.Listener, error) {
	conf := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	listener, err := conf.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("open the port (listen): %w", err)
	}
	addr, ok := listener.Addr().(*net.TCPAddr)
	// The name localhost is what the machine's resolver makes of it.
	if !ok || s.loopback && !addr.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("listen: %s is no loopback address", listener.Addr()), listener.Close())
	}
	s.addr.Store(addr)
	s.health.rise(ctx, addr.String())
	s.life.Stood()
	return listener, nil
}

// accept takes connections until the listener fails for good or ctx ends. Errors that pass, such as too many open files, are waited out.
func (s *Syslog) accept(ctx context.Context, listener net.Listener, conns *sync.WaitGroup) error {
	defer func() { _ = listener.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for pause := syslogFirstPause; ; {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			s.cfg.Logger.Warn("syslog port cannot take connections, trying again", "source_name", s.cfg.Name, "err", err)
			if !syslogPause(ctx, pause) {
				return nil
			}
			pause = min(2*pause, syslogLastPause)
			continue
		}
		pause = syslogFirstPause
		s.admit(ctx, conn, conns)
	}
}

// admit lets the connection in or closes it.
func (s *Syslog) admit(ctx context.Context, conn net.Conn, conns *sync.WaitGroup) {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		_ = conn.Close()
		return
	}
	addr := remote.AddrPort().Addr()
	limit, reason, err := s.peers.enter(addr)
	if err != nil {
		_ = conn.Close()
		s.troubles.add(syslogTrouble{reason: reason, peer: addr.String(), count: 1, err: err})
		return
	}
	conns.Go(func() {
		defer s.peers.leave(addr)
		defer func() { _ = conn.Close() }()
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		if reason, err := s.read(ctx, conn, limit); err != nil && ctx.Err() == nil {
			s.troubles.add(syslogTrouble{reason: reason, peer: addr.String(), count: 1, err: err})
		}
	})
}

// read reads the messages of one connection until it ends. The error says what was refused; that it ended, or was silent for too long
// between two messages, is none.
func (s *Syslog) read(ctx context.Context, raw net.Conn, limit *rate.Limiter) (syslogReason, error) {
	conn, err := s.secure(ctx, raw)
	if err != nil {
		return syslogNoTLS, err
	}
	timed := &syslogTimedConn{Conn: conn, idle: s.cfg.Idle, frame: s.cfg.FrameTimeout}
	for frame, err := range syslog.Frames(timed, s.cfg.MaxFrame) {
		switch {
		case err == nil:
		case errors.Is(err, syslog.ErrFrame) && errors.Is(err, os.ErrDeadlineExceeded):
			return syslogSlow, err
		case errors.Is(err, syslog.ErrFrame):
			return syslogBroken, err
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.stats.idle.Add(1)
			return "", nil
		default:
			return "", nil // a connection that fails between two messages has lost nothing that is known
		}
		if !s.take(ctx, frame, limit) {
			s.troubles.add(syslogTrouble{reason: syslogStopped, count: 1, err: errSyslogStopped})
			return "", nil
		}
		timed.begun = false
	}
	return "", nil
}

// take waits for the peer's rate and for a place in the queue; while it waits the connection is not read, so that the sender's
// TCP holds back the rest.
func (s *Syslog) take(ctx context.Context, frame []byte, limit *rate.Limiter) bool {
	s.stats.received.Add(1)
	m := syslogMessage{raw: frame, received: s.cfg.Now().UTC()}
	if limit != nil && limit.Wait(ctx) != nil {
		return false
	}
	return s.queue.put(ctx, m)
}

// secure is the TLS handshake, where there is TLS.
func (s *Syslog) secure(ctx context.Context, raw net.Conn) (net.Conn, error) {
	if s.tls == nil {
		return raw, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.FrameTimeout)
	defer cancel()
	conn := tls.Server(raw, s.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls handshake: %.300w", err)
	}
	return conn, nil
}

// syslogTimedConn bounds how long each message may take, and the silence between two.
type syslogTimedConn struct {
	net.Conn
	idle, frame time.Duration
	begun       bool // a byte came since the last whole message
	until       time.Time
}

// Read reads under the deadline of the message or of the silence. Bytes of the next message that came together with the last one
// do not begin it: such a sender is given the silence and one message's time, no more.
func (c *syslogTimedConn) Read(p []byte) (int, error) {
	until := c.until
	if !c.begun {
		until = time.Now().Add(c.idle) // the kernel keeps this time, not the configured clock
	}
	if err := c.SetReadDeadline(until); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if n > 0 && !c.begun {
		c.begun = true
		c.until = time.Now().Add(c.frame)
	}
	return n, err
}
