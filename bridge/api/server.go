package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

const (
	maxSends      = maxConns / 2 // the other connections stay free for looking and for the hold
	maxHeader     = 16 << 10
	maxBody       = 16 << 20 // an iocScan carries an archive of 8 MiB
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	answerTimeout = 30 * time.Second
	idleTimeout   = 30 * time.Second
)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	// Desk does the work; it must heed its context.
	Desk bridge.Desk
	// Status answers what the bridge says about itself.
	Status func(context.Context) (Status, error)
	// Timeout is how long a change may take, whether its client waits or not. Zero = 10 min.
	Timeout time.Duration
	// Logger; nil = nobody is told.
	Logger *slog.Logger
}

// Server serves the control API on a Unix socket. Who connects is known from the kernel.
type Server struct {
	cfg   ServerConfig
	log   *slog.Logger
	sends chan struct{} // a place for each Send under way
	drain time.Duration // see lifecycle
	body  time.Duration // how long a request may take to arrive

	mu       sync.Mutex // guards listener
	listener *peersocket.Listener
}

// NewServer checks the configuration. It opens nothing.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Desk == nil || cfg.Status == nil {
		return nil, errors.New("control socket: desk and status are required")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, log: cfg.Logger, sends: make(chan struct{}, maxSends), drain: drainTimeout, body: bodyTimeout}, nil
}

// Serve answers until ctx ends. Then no new connection is taken and the socket is removed, requests under way get 4 s, what is
// left is told to stop and gets another second. It returns nil after such an end.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	listener := s.listener
	s.mu.Unlock()
	if listener == nil {
		return errors.New("control socket: call Listen before Serve")
	}
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errClosing)
	server := &http.Server{
		Handler: s.routes(work), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: s.body, IdleTimeout: idleTimeout,
		WriteTimeout: s.body + s.cfg.Timeout + answerTimeout,
		ErrorLog:     slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:  func(net.Listener) context.Context { return work },
		ConnContext:  withPeer,
	}
	limited := &limitedListener{Listener: listener, slots: newSlots(maxConns)}
	err := serve(ctx, server, limited, lifecycle{close: s.Close, abandon: func() { stop(errClosing) }, drain: s.drain, log: s.log})
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}
