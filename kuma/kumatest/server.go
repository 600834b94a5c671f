package kumatest

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

// Server is a mock KUMA core. Its methods may be called by many goroutines at once.
type Server struct {
	cfg         Config
	certificate atomic.Pointer[tls.Certificate]
	address     atomic.Pointer[string]

	// mu guards the fields below.
	mu       sync.Mutex
	token    string
	served   []string
	alerts   []*alert // in the order they came
	events   []event
	assets   []asset
	lists    map[listKey]*list
	stopped  map[string]bool // tenants that are disabled
	requests []Request
	faults   []*Fault

	// running guards period and started.
	running sync.Mutex
	started bool
	period  *period // nil while down
}

// period is the time between two ends of Down.
type period struct {
	server *http.Server
	unhook func() bool
	serve  sync.WaitGroup
}

// NewServer checks cfg and makes the certificate; it opens nothing.
func NewServer(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, token: cfg.Token, served: cfg.Versions, lists: map[listKey]*list{}, stopped: map[string]bool{}}
	c, err := newCertificate()
	if err != nil {
		return nil, err
	}
	s.certificate.Store(c)
	s.address.Store(&s.cfg.Address)
	return s, nil
}

// Start listens and returns. The server works until Close, Down or the end of ctx.
func (s *Server) Start(ctx context.Context) error {
	s.running.Lock()
	defer s.running.Unlock()
	if s.started {
		return errors.New("start mock KUMA: already started")
	}
	if err := s.up(ctx); err != nil {
		return err
	}
	s.started = true
	return nil
}

// Close ends the server, cuts its connections and waits for what it started. It may be called twice.
func (s *Server) Close() { s.Down() }

// Down closes the listener and every connection, as a core that is stopped. What it knows stays.
func (s *Server) Down() {
	s.running.Lock()
	defer s.running.Unlock()
	if s.period == nil {
		return
	}
	s.period.unhook()
	_ = s.period.server.Close()
	s.period.serve.Wait()
	s.period = nil
}

// Up listens again on the same port after Down.
func (s *Server) Up(ctx context.Context) error {
	s.running.Lock()
	defer s.running.Unlock()
	if !s.started || s.period != nil {
		return errors.New("bring mock KUMA up: it is not down")
	}
	return s.up(ctx)
}

// Addr returns "host:port" of the listener, or the configured address before Start.
func (s *Server) Addr() string { return *s.address.Load() }

// URL returns "https://host:port".
func (s *Server) URL() string { return "https://" + s.Addr() }

// SetToken changes the token that is accepted.
func (s *Server) SetToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// SetVersions changes the versions of the API that are served, as an upgrade of the core does.
func (s *Server) SetVersions(v ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served = v
}

// up opens the listener. The caller holds running.
func (s *Server) up(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Addr())
	if err != nil {
		return fmt.Errorf("start mock KUMA: %w", err)
	}
	address := ln.Addr().String()
	s.address.Store(&address)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	p := &period{server: &http.Server{
		Handler: s, Protocols: &protocols, ReadHeaderTimeout: readHeaderTimeout,
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}}
	tlsListener := tls.NewListener(ln, s.tlsConfig())
	p.serve.Go(func() {
		if err := p.server.Serve(tlsListener); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Error("mock kuma stopped serving", "err", err)
		}
	})
	p.unhook = context.AfterFunc(ctx, func() { _ = p.server.Close() })
	s.period = p
	return nil
}

// cutConnections is a short Down.
func (s *Server) cutConnections() {
	s.running.Lock()
	up := s.period != nil
	s.running.Unlock()
	if !up {
		return
	}
	s.Down()
	if err := s.Up(context.Background()); err != nil {
		s.cfg.Logger.Error("mock kuma did not come up again", "err", err)
	}
}
