package kuma

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-resty/resty/v2"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/servercert"
)

const (
	// DefaultPort is where a KUMA core serves its REST API unless kuma-core.service says otherwise (--rest).
	DefaultPort = "7223"
	// VersionAuto asks the core which version of the API it serves.
	VersionAuto = "auto"

	restTimeout    = 30 * time.Second
	restMaxTimeout = 10 * time.Minute
	restRetries    = 2
	restInFlight   = 8
)

// Versions lists the versions of the REST API that are known, newest first. KUMA 4.0 serves only v3, earlier ones v1, v2 and
// v2.1 (support.kaspersky.com/kuma/4.0, 217973). not documented: that the calls used here have the same form in all of them.
func Versions() []string { return []string{"v3", "v2.1", "v2", "v1"} }

// Config says which KUMA core to talk to, how to trust it and who we are.
type Config struct {
	// Address is "host" or "host:port" of the core; the port is 7223 unless given.
	Address string
	// CA holds certificates, PEM or DER: that of the core, or the authority that signed it (the core's own is made at its
	// installation). A certificate equal to one of them is trusted whatever name it carries, else it must chain to them and
	// carry the host name of Address.
	CA []byte
	// Fingerprints are SHA-256 digests of server certificates in hex, colons allowed.
	Fingerprints []string
	// SystemRoots also trusts what the operating system trusts, with the host name checked.
	SystemRoots bool
	// Token returns the API token; it is called for each request and its result is wiped after use.
	Token func(context.Context) ([]byte, error)
	// Version is the version of the API, one of Versions, or "" or "auto" to ask the core.
	Version string
	// Timeout bounds one attempt of one request from the connection to the last byte of the answer; 0 = 30 s, at most 10 min.
	Timeout time.Duration
	// Retries is how often a request is repeated after a failure that may pass; 0 = 2, negative = never.
	Retries int
	// Logger gets requests at Debug; nil = nothing.
	Logger *slog.Logger
	// Now is the clock for certificate dates and periods, Jitter gives numbers in [0,1) for pauses; nil = real.
	Now    func() time.Time
	Jitter func() float64
}

// Client talks to the REST API of one KUMA core. Its methods may be called by many goroutines at once; they block until the
// answer is there, the attempts are used up or ctx ends. What was refused is an *APIError; ErrCredentials is in the chain when the
// token was; a certificate nobody vouches for is a *servercert.PinError.
//
// Every request may be repeated, and is, after a failure that may pass: most of them read, closing an alert that is closed changes
// nothing, and an import replaces records by their key.
type Client struct {
	cfg     Config
	base    string // "https://host:port/api/"
	rest    *resty.Client
	idle    func()
	log     *slog.Logger
	version restVersion
}

// New checks the settings. It does no I/O and starts nothing.
func New(cfg Config) (*Client, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	t, err := servercert.New(servercert.Config{
		Address: cfg.Address, Section: "kuma", Original: "the certificate on the core", CA: cfg.CA, Fingerprints: cfg.Fingerprints,
		SystemRoots: cfg.SystemRoots, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, base: "https://" + cfg.Address + "/api/", log: cfg.Logger.With("kuma", cfg.Address)}
	c.version.turn = make(chan struct{}, 1)
	if cfg.Version != VersionAuto {
		c.version.fixed = cfg.Version
	}
	transport := newRestTransport(cfg, t)
	c.idle = transport.CloseIdleConnections
	c.rest = newREST(cfg, transport)
	return c, nil
}

// Close drops kept connections. Requests under way go on.
func (c *Client) Close() { c.idle() }

// String names the core, never the token.
func (c *Client) String() string { return "kuma " + c.cfg.Address }

// GoString is String, so that no verb prints the fields.
func (c *Client) GoString() string { return c.String() }

// LogValue is String.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (cfg *Config) fill() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	address, err := restAddress(cfg.Address)
	if err != nil {
		errs = append(errs, err)
	}
	cfg.Address = address
	if cfg.Token == nil {
		bad("kuma.token: required")
	}
	if len(cfg.CA) == 0 && len(cfg.Fingerprints) == 0 && !cfg.SystemRoots {
		bad("kuma.ca: give the certificate of the core or its authority, kuma.fingerprints or kuma.system_roots")
	}
	switch {
	case cfg.Version == "":
		cfg.Version = VersionAuto
	case cfg.Version != VersionAuto && !slices.Contains(Versions(), cfg.Version):
		bad("kuma.version: unknown %q%s: want auto, %s", cfg.Version, bridge.DidYouMean(cfg.Version, Versions()), strings.Join(Versions(), ", "))
	}
	if cfg.Timeout < 0 || cfg.Timeout > restMaxTimeout {
		bad("kuma.timeout: must be positive and at most %s", restMaxTimeout)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = restTimeout
	}
	switch {
	case cfg.Retries == 0:
		cfg.Retries = restRetries
	case cfg.Retries < 0:
		cfg.Retries = 0
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	return errors.Join(errs...)
}

// restAddress completes "host" to "host:7223" and refuses what is more than that.
func restAddress(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), DefaultPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("kuma.address: %q is not host or host:port, for example kuma.corp.local:7223", address)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case host == "" || strings.ContainsAny(host, "/@?#%\\ ") || restVisible(host) != host:
		return "", fmt.Errorf("kuma.address: %q names no host: want host or host:port without scheme and path", address)
	case err != nil || n == 0:
		return "", fmt.Errorf("kuma.address: port %q is not a number from 1 to 65535", port)
	default:
		return net.JoinHostPort(host, port), nil
	}
}
