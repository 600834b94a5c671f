package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	maxScrapes    = 4
	scrapeTimeout = 5 * time.Second
	pageTimeout   = 10 * time.Second
)

// PagesConfig is what Pages need.
type PagesConfig struct {
	// Listen is host:port with a loopback address or "localhost", because the pages have no authentication.
	Listen string
	// Meter is what /metrics shows.
	Meter *Meter
	// Health answers for /healthz and /readyz; it must heed its context, which ends after 2 s.
	Health func(context.Context) Health
	// Logger; nil = nobody is told.
	Logger *slog.Logger
}

// Pages shows metrics and health to programs on this machine: /metrics, /healthz (the process lives and its store takes
// changes) and /readyz (every part works). A page that is not well has status 503.
type Pages struct {
	cfg PagesConfig
	mux *http.ServeMux

	mu       sync.Mutex // guards listener
	listener net.Listener
}

var _ http.Handler = (*Pages)(nil)

// NewPages checks the configuration. It opens nothing.
func NewPages(cfg PagesConfig) (*Pages, error) {
	if cfg.Meter == nil || cfg.Health == nil {
		return nil, errors.New("metrics page: meter and health are required")
	}
	if host, _, err := net.SplitHostPort(cfg.Listen); err != nil || !onLoopback(host) {
		return nil, fmt.Errorf("metrics page: %q is no loopback host:port such as 127.0.0.1:9448, and the page has no authentication "+
			"(metrics.listen)", cfg.Listen)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pages{cfg: cfg, mux: http.NewServeMux()}
	p.mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Meter.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
	}))
	p.mux.HandleFunc("GET /healthz", p.healthz)
	p.mux.HandleFunc("GET /readyz", p.readyz)
	return p, nil
}

// ServeHTTP answers with the page, unless a browser asks or the request was meant for another host: a page of the web
// may point a name of its own at this machine.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if fromBrowser(r) || !onLoopback(host) {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	p.mux.ServeHTTP(w, r)
}

// Listen opens the port and returns its address.
func (p *Pages) Listen(ctx context.Context) (net.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil, errors.New("metrics page: it listens already")
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("metrics page (metrics.listen): %w", err)
	}
	// The name localhost is what the machine's resolver makes of it.
	if a, ok := listener.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("metrics page: %s is no loopback address", listener.Addr()), listener.Close())
	}
	p.listener = listener
	return listener.Addr(), nil
}

// Serve answers until ctx ends; it returns within 5 s then, with nil.
func (p *Pages) Serve(ctx context.Context) error {
	p.mu.Lock()
	listener := p.listener
	p.mu.Unlock()
	if listener == nil {
		return errors.New("metrics page: call Listen before Serve")
	}
	server := &http.Server{
		Handler: p, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: pageTimeout, WriteTimeout: pageTimeout, IdleTimeout: 2 * idleTimeout,
		ErrorLog: slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelWarn),
	}
	limited := &limitedListener{Listener: listener, slots: newSlots(maxConns)}
	if err := serve(ctx, server, limited, lifecycle{close: p.Close, abandon: func() {}, drain: drainTimeout, log: p.cfg.Logger}); err != nil {
		return fmt.Errorf("metrics page: %w", err)
	}
	return nil
}

// Close closes the port. It may be called more than once.
func (p *Pages) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// onLoopback reports whether host is a loopback address or localhost.
func onLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
