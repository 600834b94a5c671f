package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/syslog"
)

const (
	syslogConns        = 512
	syslogQueued       = 1024
	syslogIdle         = time.Hour
	syslogFrameTimeout = 30 * time.Second
)

// SyslogConfig says where a Syslog listens and how much it lets senders do. Zero limits have the defaults.
type SyslogConfig struct {
	// Name is the source's name in the settings, Preset the reading of its documents.
	Name, Preset string
	// Listen is host:port, the host an address or localhost; port 0 takes any free one. Beyond loopback, TLS with client
	// certificates is required unless AllowPlain.
	Listen string
	// TLS is the server's side of TLS 1.2 or later; nil = plain TCP.
	TLS *tls.Config
	// AllowPlain accepts senders beyond this machine that show no certificate: whoever reaches the port is believed.
	AllowPlain bool
	// Peers are the addresses that may connect; empty = all.
	Peers []netip.Prefix
	// MaxFrame is how many bytes a message may have, at most syslog.MaxMessage; zero = that.
	MaxFrame int
	// MaxConns is how many connections there are at once; zero = 512. One more is closed at once: the ones there may carry an
	// alert at any time, however long they were silent.
	MaxConns int
	// MaxPeerConns is how many of them one address may have (an IPv6 /64 is one); zero = a quarter of MaxConns. Addresses of this
	// machine may have all.
	MaxPeerConns int
	// Queue is how many messages may be read and not settled; zero = 1024. When there are as many, no connection is read.
	Queue int
	// Idle is how long a connection may be silent between two messages; zero = 1 h. Many senders notice a connection that was
	// closed only when they have lost the next message, so a short time loses alerts.
	Idle time.Duration
	// FrameTimeout is how long one message may take from its first byte to its last, and a TLS handshake; zero = 30 s.
	FrameTimeout time.Duration
	// Rate is how many messages a second one address may bring, with a second's worth at once; a faster one is read slower.
	// Zero = no limit.
	Rate float64
	// OnNote gets losses that are known, those of one second as one with Count. It is called from one goroutine at a time and may
	// block; nil = none.
	OnNote func(bridge.Note)
	// Logger gets connection troubles, once a second a reason; nil = nobody is told.
	Logger *slog.Logger
	// Now is the clock that says when a message was received and comes again; nil = time.Now.
	Now func() time.Time
}

// Syslog is a source of syslog messages over TCP and TLS (RFC 6587, RFC 5425), each delivered as it came, without its framing and
// not looked into. Deliveries of one connection come in their order.
//
// Syslog has no acknowledgement: what this machine's TCP has taken in counts as delivered to its sender. So a message is delivered at
// most once over a restart: what was read, or waited in the kernel, and was not settled when the process ends is lost. While the
// process lives nothing is dropped: a full queue stops the reading of connections until there is room, and what was settled
// with an error other than bridge.ErrBadAlert is delivered again, from memory, after 0.1 s to 5 s and out of order.
//
// A connection that breaks the framing, brings a message over the limit, ends inside a message, or takes too long for one is
// closed; what it brought of that message is delivered to nobody, counted, logged and noted as a loss.
type Syslog struct {
	cfg      SyslogConfig
	loopback bool
	tls      *tls.Config
	life     *bridge.SourceLife
	health   *syslogHealth
	peers    *syslogPeers
	queue    *syslogQueue
	troubles *syslogTroubles
	stats    syslogCounters
	addr     atomic.Pointer[net.TCPAddr]
}

var _ bridge.Source = (*Syslog)(nil)

// NewSyslog checks the configuration; the error names each setting that is wrong. It opens nothing.
func NewSyslog(cfg SyslogConfig) (*Syslog, error) {
	cfg.Peers = slices.Clone(cfg.Peers)
	cfg.fill()
	host, _, err := net.SplitHostPort(cfg.Listen)
	errs := []error{cfg.check()}
	loopback := onLoopback(host)
	if _, perr := netip.ParseAddr(host); err != nil || perr != nil && host != "localhost" && host != "" {
		errs = append(errs, fmt.Errorf("listen: %q is no host:port such as 127.0.0.1:6514, the host an address or localhost", cfg.Listen))
	}
	need := !loopback && !cfg.AllowPlain
	secure, err := syslogTLS(cfg.TLS, need)
	if err != nil {
		errs = append(errs, err)
	}
	if need && cfg.TLS == nil {
		errs = append(errs, fmt.Errorf("tls: required with client certificates, because %q is no loopback address and whoever reaches "+
			"it could name alerts (or set allow_plain)", cfg.Listen))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("syslog source %s: %w", cfg.Name, err)
	}
	s := &Syslog{
		cfg: cfg, loopback: loopback, tls: secure, life: bridge.NewSourceLife(),
		health: &syslogHealth{log: cfg.Logger.With("source_name", cfg.Name)},
		peers:  newSyslogPeers(cfg), troubles: newSyslogTroubles(cfg),
	}
	s.queue = newSyslogQueue(cfg, &s.stats, s.troubles)
	return s, nil
}

func (c *SyslogConfig) fill() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnNote == nil {
		c.OnNote = func(bridge.Note) {}
	}
	syslogDefault(&c.MaxFrame, syslog.MaxMessage)
	syslogDefault(&c.MaxConns, syslogConns)
	syslogDefault(&c.MaxPeerConns, max(1, c.MaxConns/4))
	syslogDefault(&c.Queue, syslogQueued)
	syslogDefault(&c.Idle, syslogIdle)
	syslogDefault(&c.FrameTimeout, syslogFrameTimeout)
}

func syslogDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (c *SyslogConfig) check() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: required"))
	}
	if c.MaxFrame < 1 || c.MaxFrame > syslog.MaxMessage {
		errs = append(errs, fmt.Errorf("max_frame: must be 1 to %d bytes", syslog.MaxMessage))
	}
	if c.MaxConns < 1 || c.MaxPeerConns < 1 || c.Queue < 1 {
		errs = append(errs, errors.New("max_conns, max_conns_peer and queue: must not be negative"))
	}
	if c.Idle < 0 || c.FrameTimeout < 0 {
		errs = append(errs, errors.New("idle and frame_timeout: must not be negative"))
	}
	if c.Rate < 0 || math.IsNaN(c.Rate) || c.Rate > 1e9 {
		errs = append(errs, errors.New("rate: must be 0 to 1e9 messages a second"))
	}
	for _, p := range c.Peers {
		if !p.IsValid() {
			errs = append(errs, errors.New("peers: an entry is no address or prefix"))
		}
	}
	return errors.Join(errs...)
}

// syslogTLS returns a copy of cfg that never asks for less than was checked; need says that client certificates are required.
func syslogTLS(cfg *tls.Config, need bool) (*tls.Config, error) {
	if cfg == nil {
		return nil, nil
	}
	cfg = cfg.Clone()
	perClient := cfg.GetConfigForClient
	if perClient == nil || len(cfg.Certificates) > 0 || cfg.GetCertificate != nil {
		if err := checkSyslogTLS(cfg, need); err != nil {
			return nil, err
		}
	}
	if perClient != nil {
		base := cfg.Clone()
		cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			own, err := perClient(hello)
			if err != nil {
				return nil, err
			}
			if own == nil {
				own = base
			}
			return own, checkSyslogTLS(own, need)
		}
	}
	return cfg, nil
}

func checkSyslogTLS(cfg *tls.Config, need bool) error {
	switch {
	case len(cfg.Certificates) == 0 && cfg.GetCertificate == nil:
		return errors.New("tls: has no certificate")
	case cfg.MinVersion != 0 && cfg.MinVersion < tls.VersionTLS12:
		return errors.New("tls: the least version must be TLS 1.2 or later")
	// Without CAs of its own Go takes those of the system: any certificate bought somewhere would do.
	case need && (cfg.ClientAuth != tls.RequireAndVerifyClientCert || isNoPool(cfg.ClientCAs)):
		return errors.New("tls: client certificates are required beyond loopback, verified by CAs of your own (or set allow_plain)")
	default:
		return nil
	}
}

func isNoPool(p *x509.CertPool) bool { return p == nil || p.Equal(x509.NewCertPool()) }

// Ready is closed when the port is first open.
func (s *Syslog) Ready() <-chan struct{} { return s.life.Ready() }

// Connected reports whether the port is open.
func (s *Syslog) Connected() bool { return s.health.up() }

// Err returns why the port is not open, or nil.
func (s *Syslog) Err() error { return s.health.last() }

// Addr returns the address of the port that was last open; nil before Ready.
func (s *Syslog) Addr() net.Addr {
	if a := s.addr.Load(); a != nil {
		return a
	}
	return nil
}

// Receive returns the next message. It blocks until one is there, ctx ends, or the source is over: after Run has ended it still
// hands out what is queued or comes again, then bridge.ErrClosed; after Close it answers that at once.
func (s *Syslog) Receive(ctx context.Context) (bridge.Delivery, error) {
	return s.queue.next(ctx, s.life)
}

// Close closes the port and all connections, ends Run and waits for it within ctx. What was read and is neither handed out nor
// settled then is lost, counted and noted.
func (s *Syslog) Close(ctx context.Context) error {
	first, err := s.life.Shut(ctx)
	if err != nil || !first {
		return err
	}
	s.queue.abandon()
	s.troubles.flush()
	return nil
}
