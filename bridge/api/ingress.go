package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// IngressConfig is what an Ingress needs.
type IngressConfig struct {
	// Listen is host:port (http.listen). Beyond loopback, TLS and authentication of every source are required.
	Listen string
	// TLS makes it https (http.tls).
	TLS IngressTLS
	// Hosts are further names a Host header may have on a loopback listener, such as that of a proxy before it; others than
	// localhost and loopback addresses are refused there, because a page of the web may point a name of its own at this machine.
	Hosts []string
	// Sources are what the listener carries; at least one.
	Sources []IngressSource
	Limits  IngressLimits
	// Meter counts requests; nil = nobody does.
	Meter IngressMeter
	// Logger; nil = nobody is told. Refusals are logged once a second a source and reason, with their number.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// IngressLimits bound what peers can make an Ingress do. Zero fields have the defaults.
type IngressLimits struct {
	// Body is how many bytes a body may have, as it comes and without its encoding; zero = 4 MiB.
	Body int64
	// Memory is how many bytes all bodies together may have; what does not fit is answered 503. Zero = 128 MiB, or twice Body.
	Memory int64
	// Header is how many bytes the header of a request may have; zero = 16 KiB.
	Header int
	// Conns is how many connections there are at once; zero = 512. When one more comes, the oldest is closed that has sent a part of
	// its first header, else the oldest that has sent nothing, else the one longest idle, else the one longest at sending a body.
	Conns int
	// PeerConns is how many of them one address may have (an IPv6 /64 is one); zero = a quarter of Conns. Addresses of this machine
	// may have all: a proxy there carries everybody.
	PeerConns int
	// HeaderTimeout is how long a header may take, zero = 5 s; BodyTimeout a body, zero = 10 s.
	HeaderTimeout, BodyTimeout time.Duration
	// Idle is how long a connection may wait for its next request; zero = 60 s.
	Idle time.Duration
	// Answer is how long a request waits for the bridge before it is answered 503; zero = 25 s (KUMA waits 30 s, support.kaspersky.com/kuma/3.2/en-US/232961).
	Answer time.Duration
	// Depth is how many objects and arrays of a webhook's body may be inside one another; zero = 64, which is also the most
	// a preset reads.
	Depth int
	// Documents is how many documents a kuma-http request may carry; zero = 10,000.
	Documents int
}

// IngressTLS names the files of the listener's certificate. They are looked at again when they change (at most once a second, when
// somebody connects); while the changed files do not fit together the former certificate stays. TLS 1.2 is the least.
type IngressTLS struct {
	// Cert and Key are PEM files; both or none.
	Cert, Key string
	// ClientCA is a PEM file with the CAs of client certificates; required for sources with MTLS. Where no source has MTLS every
	// client must show a certificate of them.
	ClientCA string
}

func (t IngressTLS) on() bool { return t.Cert != "" || t.Key != "" }

// Ingress is one HTTP listener that carries several sources by path. A request is answered 200 only when every document in it
// is settled, so that its sender may forget it. It speaks HTTP/1.1.
//
//	POST /webhook/wazuh  {"id":"1732104000.1","rule":{"level":12},…}
//	200                  {"accepted":1}
//	422                  {"title":"the document cannot be read","status":422,"detail":"bad alert: preset wazuh: …"}
type Ingress struct {
	cfg      IngressConfig
	log      *slog.Logger
	loopback bool
	sources  []*ingressSource // longest path first
	doors    []*Door
	conns    *ingressConns
	failing  *ingressFailing
	refusals *ingressLog
	tls      *ingressTLS // nil = http
	memory   atomic.Int64

	drain    time.Duration // see lifecycle
	serving  atomic.Bool
	ready    chan struct{} // closed when it first serves
	readying sync.Once
	closing  chan struct{} // closed when Serve is told to end
	abandon  chan struct{} // closed when the drain time is over

	mu       sync.Mutex // guards listener and served
	listener net.Listener
	served   bool
}

// ingressDrain is as long as the pipeline's own drain: what it still settles is still answered.
const ingressDrain = 10 * time.Second

// NewIngress checks the configuration; the error names each setting that is wrong. It opens nothing.
func NewIngress(cfg IngressConfig) (*Ingress, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Meter == nil {
		cfg.Meter = noIngressMeter{}
	}
	i := &Ingress{
		cfg: cfg, log: cfg.Logger, drain: ingressDrain,
		ready: make(chan struct{}), closing: make(chan struct{}), abandon: make(chan struct{}),
	}
	errs := []error{i.cfg.Limits.fill()}
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		errs = append(errs, fmt.Errorf("http.listen: %q is no host:port such as 127.0.0.1:9449", cfg.Listen))
	}
	i.loopback = onLoopback(host)
	errs = append(errs, i.checkTLS(err == nil && !i.loopback))
	if len(cfg.Sources) == 0 {
		errs = append(errs, errors.New("http: there are no sources to listen for"))
	}
	for _, s := range cfg.Sources {
		errs = append(errs, i.addSource(s))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortStableFunc(i.sources, func(a, b *ingressSource) int { return len(b.Path) - len(a.Path) })
	i.conns = newIngressConns(i.cfg.Limits.Conns, i.cfg.Limits.PeerConns)
	i.failing = newIngressFailing(cfg.Now)
	i.refusals = newIngressLog(cfg.Logger, cfg.Now)
	if cfg.TLS.on() {
		i.tls = newIngressTLS(cfg.TLS, i.clientAuth(), cfg.Logger, cfg.Now)
	}
	return i, nil
}

func (i *Ingress) checkTLS(exposed bool) error {
	t := i.cfg.TLS
	switch {
	case (t.Cert == "") != (t.Key == ""):
		return errors.New("http.tls: cert and key belong together")
	case t.ClientCA != "" && !t.on():
		return errors.New("http.tls.client_ca: needs a certificate and key (http.tls) as well")
	case exposed && !t.on():
		return fmt.Errorf("http.tls: required, because %q is no loopback address (http.listen)", i.cfg.Listen)
	default:
		return nil
	}
}

// fill puts the defaults in.
func (l *IngressLimits) fill() error {
	if l.Body < 0 || l.Memory < 0 || l.Header < 0 || l.Conns < 0 || l.PeerConns < 0 || l.HeaderTimeout < 0 || l.BodyTimeout < 0 ||
		l.Idle < 0 || l.Answer < 0 || l.Documents < 0 {
		return errors.New("http.limits: must not be negative")
	}
	if l.Depth < 0 || l.Depth > maxDepth {
		return fmt.Errorf("http.limits.depth: must be 1 to %d", maxDepth)
	}
	orDefault(&l.Body, 4<<20)
	orDefault(&l.Memory, max(128<<20, 2*l.Body))
	orDefault(&l.Header, 16<<10)
	orDefault(&l.Conns, 512)
	orDefault(&l.PeerConns, max(1, l.Conns/4))
	orDefault(&l.HeaderTimeout, 5*time.Second)
	orDefault(&l.BodyTimeout, 10*time.Second)
	orDefault(&l.Idle, time.Minute)
	orDefault(&l.Answer, 25*time.Second)
	orDefault(&l.Depth, maxDepth)
	orDefault(&l.Documents, 10_000)
	if l.Memory < 2*l.Body {
		return errors.New("http.limits.memory: must be at least twice http.limits.body, for a body and what it decodes to")
	}
	return nil
}

// maxDepth is how deep bridge.CheckJSON and the presets go.
const maxDepth = 64

func orDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Doors are the sources to read, in the order of the configuration; sources of kind handler have none.
func (i *Ingress) Doors() []*Door { return slices.Clone(i.doors) }

// Listen opens the port, reads the TLS files and returns the address.
func (i *Ingress) Listen(ctx context.Context) (net.Addr, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.listener != nil || i.served {
		return nil, errors.New("http: it listens already, or has ended")
	}
	if i.tls != nil {
		if err := i.tls.load(); err != nil {
			return nil, err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", i.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("http (http.listen): %w", err)
	}
	// The name localhost is what the machine's resolver makes of it.
	if a, ok := listener.Addr().(*net.TCPAddr); i.loopback && (!ok || !a.IP.IsLoopback()) {
		return nil, errors.Join(fmt.Errorf("http.listen: %s is no loopback address", listener.Addr()), listener.Close())
	}
	i.listener = listener
	return listener.Addr(), nil
}

// Close closes the port. It may be called more than once.
func (i *Ingress) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.listener == nil {
		return nil
	}
	err := i.listener.Close()
	i.listener = nil
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// allowedHost reports whether a request on a loopback listener was meant for it.
func (i *Ingress) allowedHost(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return onLoopback(host) || slices.ContainsFunc(i.cfg.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}
