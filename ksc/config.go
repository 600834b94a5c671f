package ksc

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-resty/resty/v2"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/sony/gobreaker/v2"

	"github.com/edr-bridge/edr-bridge/servercert"
)

const (
	defaultTimeout  = 30 * time.Second
	defaultInFlight = 16
	defaultRetries  = 2
	maxInFlight     = 1024
	maxConnect      = 10 * time.Second // TCP and TLS together, so that an unreachable server shows before the attempt times out
	idleTimeout     = 30 * time.Second // shorter than servers keep idle connections, so that few requests meet a closing one
	maxHeaderBytes  = 64 << 10
)

// Config says which KSC to talk to, how to trust it and who we are.
type Config struct {
	// Address is "host:port" of the Administration Server; the port of OpenAPI is 13299.
	Address string

	// CA holds certificates, PEM or DER: klserver.cer, or the authority that signed the server's certificate.
	// A server certificate equal to one of them is trusted whatever name it carries, else it must chain to
	// them and carry the host name of Address.
	CA []byte
	// Fingerprints are SHA-256 or SHA-1 digests of server certificates in hex, colons allowed. It is a list
	// because KSC replaces its certificate after 397 days.
	Fingerprints []string
	// SystemRoots also trusts what the operating system trusts, with the host name checked.
	SystemRoots bool
	// Insecure checks nothing. Whoever sits on the network path then learns the password.
	Insecure bool

	// User is the account name, Domain its Windows domain or empty.
	User, Domain string
	// DomainBase64 sends the domain in base64: clients of KSC disagree, plain is what the vendor's own does.
	DomainBase64 bool
	// Internal says that User is a KSC internal user and not an account of the operating system or domain.
	Internal bool
	// VirtualServer is the name of a virtual Administration Server; empty = the main one.
	VirtualServer string
	// Password returns the password; it is called at each login and its result is wiped after use.
	Password func(context.Context) ([]byte, error)

	// Timeout bounds one attempt of one call, from the wait for a connection to the last byte of the
	// answer; 0 = 30 s.
	Timeout time.Duration
	// InFlight is how many requests run at once, each on its own kept connection, 1 to 1024; 0 = 16.
	InFlight int
	// Retries is how often a call is repeated that may be, 0 = 2, negative = never.
	Retries int

	// Logger gets calls at Debug and a warning when Insecure is set; nil = nothing.
	Logger *slog.Logger
	// Now is the clock for certificate dates, Jitter gives numbers in [0,1) for pauses; nil = real.
	Now    func() time.Time
	Jitter func() float64
}

// Client is a connection to one KSC. Its methods may be called by many goroutines at once; they block until
// the answer is there, the attempts are used up or ctx ends, and return only *CallError.
type Client struct {
	cfg     Config
	base    string // "https://host:port/api/v1.0/"
	trust   *servercert.Trust
	rest    *resty.Client
	idle    func() // closes kept connections
	log     *slog.Logger
	buffers sync.Pool // of *encoder
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	lastBad lastFailure
	logins  logins
}

// New checks the settings. It does no I/O and starts nothing; the first call logs in.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	t, err := servercert.New(servercert.Config{
		Address: cfg.Address, Section: "ksc", Original: "klserver.cer on the server", CA: cfg.CA, Fingerprints: cfg.Fingerprints,
		Thumbprints: true, SystemRoots: cfg.SystemRoots, Insecure: cfg.Insecure, Sessions: tlsSessions, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, base: "https://" + cfg.Address + "/api/v1.0/", trust: t, log: cfg.Logger.With("ksc", cfg.Address)}
	transport := newTransport(cfg, t)
	c.idle = transport.CloseIdleConnections
	c.rest = newREST(cfg, transport)
	c.breaker = newBreaker(c.log)
	if cfg.Insecure {
		c.log.Warn("certificate of ksc is not checked", "setting", "ksc.insecure")
	}
	return c, nil
}

// Close ends the session at the server and drops kept connections. Calls after it fail. It waits for the
// server no longer than ctx allows.
func (c *Client) Close(ctx context.Context) error {
	c.logins.close()
	defer c.idle()
	return c.EndSession(ctx)
}

// String names the server, never the session.
func (c *Client) String() string { return "ksc " + c.cfg.Address }

// GoString is String, so that no verb prints the fields.
func (c *Client) GoString() string { return c.String() }

// LogValue is String.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (cfg *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	host, port, err := net.SplitHostPort(cfg.Address)
	switch n, perr := strconv.ParseUint(port, 10, 16); {
	case err != nil:
		bad("ksc.address: %q is not host:port, for example ksc01.corp.local:13299", cfg.Address)
	case host == "" || strings.ContainsAny(host, "/@?#% ") || !printable(host):
		bad("ksc.address: %q names no host", cfg.Address)
	case perr != nil || n == 0:
		bad("ksc.address: port %q is not a number from 1 to 65535", port)
	}
	if cfg.User == "" {
		bad("ksc.user: required")
	}
	if strings.Contains(cfg.Domain, `"`) || !printable(cfg.Domain) {
		bad("ksc.domain: must not hold quotes or control characters")
	}
	if cfg.Password == nil {
		bad("ksc.password: required")
	}
	if len(cfg.CA) == 0 && len(cfg.Fingerprints) == 0 && !cfg.SystemRoots && !cfg.Insecure {
		bad("ksc.ca: give the server's certificate (klserver.cer), ksc.fingerprints or ksc.system_roots")
	}
	if cfg.Timeout < 0 {
		bad("ksc.timeout: must be positive")
	}
	if cfg.InFlight < 0 || cfg.InFlight > maxInFlight {
		bad("ksc.in_flight: must be from 1 to %d", maxInFlight)
	}
	return errors.Join(errs...)
}

func (cfg *Config) setDefaults() {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = defaultInFlight
	}
	switch {
	case cfg.Retries == 0:
		cfg.Retries = defaultRetries
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
}

// newREST stacks resty over retryablehttp over the attempts. Only retryablehttp repeats, only as
// checkRetry says, and nobody follows a redirect, which would carry the credentials elsewhere.
func newREST(cfg Config, transport http.RoundTripper) *resty.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	rc := retryablehttp.NewClient()
	rc.HTTPClient = &http.Client{Transport: attempts{next: transport}, Timeout: cfg.Timeout, CheckRedirect: stay}
	rc.Logger = nil
	rc.RetryMax = cfg.Retries
	rc.CheckRetry = checkRetry
	rc.Backoff = backoff(cfg.Now, cfg.Jitter)
	rc.ErrorHandler = retryablehttp.PassthroughErrorHandler
	rest := resty.NewWithClient(&http.Client{Transport: &retryablehttp.RoundTripper{Client: rc}, CheckRedirect: stay})
	rest.SetLogger(silent{})
	rest.SetHeader("User-Agent", "edr-bridge")
	rest.SetHeader("Content-Type", "application/json")
	return rest
}

// silent drops what resty would print: its texts hold headers and addresses.
type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Warnf(string, ...any)  {}
func (silent) Debugf(string, ...any) {}

// authorization returns the KSCBasic header. user and pass are base64 of UTF-8.
func (cfg *Config) authorization(password []byte) string {
	domain := cfg.Domain
	if cfg.DomainBase64 {
		domain = base64.StdEncoding.EncodeToString([]byte(domain))
	}
	internal := "0"
	if cfg.Internal {
		internal = "1"
	}
	return `KSCBasic user="` + base64.StdEncoding.EncodeToString([]byte(cfg.User)) +
		`", pass="` + base64.StdEncoding.EncodeToString(password) +
		`", domain="` + domain + `", internal="` + internal + `"`
}

// printable reports whether s is valid text without control characters.
func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' || (r >= 0x80 && r < 0xa0) {
			return false
		}
	}
	return true
}
