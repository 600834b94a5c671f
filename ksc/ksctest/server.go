package ksctest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const readHeaderTimeout = 10 * time.Second

// Server is a mock Administration Server. Its methods may be called by many goroutines at once.
type Server struct {
	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	cert   *certificate
	routes map[string]*route
	faults *Faults
	count  counters

	sessions  *sessionTable
	accessors *accessorTable
	groups    *groupTable
	hosts     *hostTable
	incidents *incidentStore
	tasks     *taskStore
	feed      feed

	warmedUp atomic.Bool            // a first login was answered 401
	address  atomic.Pointer[string] // where it listens, with the port the system chose
	calls    sync.Pool              // of *call
	gzips    sync.Pool              // of *gzip.Writer

	// mu guards life, which says where the server is between New and Close.
	mu   sync.Mutex
	life struct {
		started, closed bool
		period          *period // nil while down
		stopBackground  func()
	}
}

// period is the time between two ends of Down: one listener and its connections.
type period struct {
	http    *http.Server
	cancel  context.CancelFunc
	unhook  func() bool
	serving sync.WaitGroup // the loop that accepts
	conns   sync.WaitGroup // one for each connection until its goroutine is done
	byConn  sync.Map       // net.Conn → *conn
}

// conn is one TLS connection. What /login authenticated on it lives and dies with it.
type conn struct {
	tcp     net.Conn // below TLS, to send a reset
	login   atomic.Pointer[session]
	release func() // to be called when the goroutine of the connection is done with it
}

// connKey is the context key under which a request finds its *conn.
type connKey struct{}

// New checks cfg and makes the server's key and certificate; it opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Address == "" {
		cfg.Address = defaultAddress
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("mock KSC settings: %w", err)
	}
	cert, err := newCertificate(cfg.Address, cfg.CertNotAfter)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, now: cfg.Now, cert: cert}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.address.Store(&s.cfg.Address)
	s.routes = newRoutes()
	s.faults = newFaults(cfg.Seed)
	s.sessions = newSessionTable()
	s.accessors = newAccessorTable()
	s.groups = newGroupTable()
	s.hosts = newHostTable(cfg.Hosts, s.groups)
	s.incidents = newIncidentStore(cfg.KeepIncidents)
	s.tasks = newTaskStore(&s.cfg)
	return s, nil
}

// Start listens and returns. The server works until Close, Down or the end of ctx.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.started {
		return errors.New("start mock KSC: already started")
	}
	if err := s.up(ctx); err != nil {
		return err
	}
	s.life.started = true
	s.life.stopBackground = s.startBackground(ctx)
	return nil
}

// Run starts the server, works until ctx ends, and closes it. The end of ctx is no error.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	s.Close()
	return nil
}

// Close ends everything the server started and waits for it. It may be called twice.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down()
	if s.life.stopBackground != nil {
		s.life.stopBackground()
		s.life.stopBackground = nil
	}
	s.life.closed = true
}

// Down closes the listener and every connection, as a server that stops. Incidents, tasks and
// sessions stay; logins of connections are lost with them.
func (s *Server) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down()
}

// Up listens again on the same port after Down, until Close, Down or the end of ctx.
func (s *Server) Up(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.life.started:
		return errors.New("bring mock KSC up: not started")
	case s.life.closed:
		return errors.New("bring mock KSC up: closed")
	case s.life.period != nil:
		return errors.New("bring mock KSC up: not down")
	}
	return s.up(ctx)
}

// Addr returns "host:port" of the listener, or the configured address before Start.
func (s *Server) Addr() string {
	return *s.address.Load()
}

// URL returns "https://host:port" for clients on this machine.
func (s *Server) URL() string {
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return "https://" + s.Addr()
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "https://" + net.JoinHostPort(host, port)
}

// up opens the listener. The caller holds mu.
func (s *Server) up(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Addr())
	if err != nil {
		return fmt.Errorf("start mock KSC: %w", err)
	}
	address := ln.Addr().String()
	s.address.Store(&address)
	base, cancel := context.WithCancel(ctx)
	p := &period{cancel: cancel}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	p.http = &http.Server{
		Handler: s, Protocols: &protocols, ReadHeaderTimeout: readHeaderTimeout,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return base },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return s.openConn(ctx, p, c) },
		ConnState:   func(c net.Conn, state http.ConnState) { s.watchConn(p, c, state) },
	}
	tlsListener := tls.NewListener(ln, s.cert.config(func() { s.count.handshakes.Add(1) }))
	p.serving.Go(func() {
		if err := p.http.Serve(tlsListener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("mock ksc stopped serving", "err", err)
		}
	})
	p.unhook = context.AfterFunc(ctx, func() { _ = p.http.Close() })
	s.life.period = p
	return nil
}

// down closes the listener and the connections and waits for their goroutines. The caller holds mu.
func (s *Server) down() {
	p := s.life.period
	if p == nil {
		return
	}
	s.life.period = nil
	p.unhook()
	p.cancel()
	_ = p.http.Close()
	p.serving.Wait()
	p.conns.Wait()
}

func (s *Server) openConn(ctx context.Context, p *period, c net.Conn) context.Context {
	p.conns.Add(1)
	s.count.connections.Add(1)
	nc := &conn{tcp: c}
	if t, ok := c.(*tls.Conn); ok {
		nc.tcp = t.NetConn()
	}
	nc.release = sync.OnceFunc(func() {
		p.byConn.Delete(c)
		if login := nc.login.Swap(nil); login != nil {
			s.endSession(login)
		}
		p.conns.Done()
	})
	p.byConn.Store(c, nc)
	return context.WithValue(ctx, connKey{}, nc)
}

// watchConn notices the end of a connection. A hijacked one is released by the fault that took it.
func (s *Server) watchConn(p *period, c net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	if nc, ok := p.byConn.Load(c); ok {
		nc.(*conn).release()
	}
}
