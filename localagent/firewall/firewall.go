package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxPeers bounds Allow and Needs together: a list for people, not a routing table.
const maxPeers = 512

// Config is what the firewall may do and how.
type Config struct {
	// Own are the addresses of this machine; those of its interfaces are found without being named here.
	Own []netip.Addr
	// Never are networks that are never blocked, such as KSC, Redis and the allow list. Loopback, own addresses, gateways, name
	// servers, and the peers of Needs and Allow are kept without being named here.
	Never []netip.Prefix
	// Needs are the peers this machine is commanded through (KSC, Redis, senders of alerts): an isolation keeps them, and is
	// taken back when one that could be reached before cannot be reached any more. At most 512 together with Allow.
	Needs []Peer
	// Allow are the other peers an isolation keeps, such as jump hosts.
	Allow []Peer
	// NoDNS cuts the name servers in use off as well, NoDHCP the renewal of addresses. Neighbour discovery always goes on.
	NoDNS, NoDHCP bool
	// NTP lets the clock be set from any server (udp 123) during an isolation.
	NTP bool
	// HostOnly leaves the other network namespaces of this machine (containers with interfaces of their own) alone. They are
	// covered only by an agent that lives in the network namespace of process 1.
	HostOnly bool
	// State is an existing folder for the record of an isolation, by which Run arms it again after a restart; empty = none is kept.
	State string
	// Resolve returns the addresses of a host name; nil = the resolver of the system. It is called by several goroutines at once.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Tampered is told by Run that somebody else changed or took away the isolation, or damaged its record. It must not block;
	// nil = only the logger is told.
	Tampered func(what string)
	// DryRun lets everything happen but the effect; receipts then have StateShadow.
	DryRun bool
	// Logger receives what people want in the timeline of an incident; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Firewall changes the packet filter of this machine. It is safe for many goroutines.
type Firewall struct {
	cfg   Config
	log   *slog.Logger
	peers []peer
	names names
	// mu serialises changes of the block table, because it is read back after it was made.
	mu sync.Mutex
	// isolation serialises changes of the isolation and guards what follows.
	isolation sync.Mutex
	// current is the isolation this process knows of; nil = none.
	current *record
	// armed is what this process let through when it armed last; nil = it has not.
	armed []pass
	// guarding says that Run watches over the isolation.
	guarding bool
	// wake makes Run look at once.
	wake chan struct{}
	// refreshEvery is how often the peers' names are resolved anew during an isolation; tests shorten it.
	refreshEvery time.Duration
	// uptime returns the boot of the machine and the time since then; tests set it.
	uptime   func() (boot string, up time.Duration)
	platform platform
	// testOnlyApplied runs between a change of the block table and reading it back.
	testOnlyApplied func()
	// testOnlyArmed runs between arming an isolation and checking it.
	testOnlyArmed func()
}

// New checks cfg, reports every problem of it at once, and opens nothing.
func New(cfg Config) (*Firewall, error) {
	var errs []error
	for _, p := range cfg.Never {
		if !p.IsValid() {
			errs = append(errs, errors.New("never_block: holds an invalid prefix"))
		}
	}
	if n := len(cfg.Needs) + len(cfg.Allow); n > maxPeers {
		errs = append(errs, fmt.Errorf("isolation: %d peers are kept, at most %d may be: name networks instead of addresses", n, maxPeers))
	}
	w := &Firewall{wake: make(chan struct{}, 1), uptime: systemUptime, refreshEvery: refreshEvery}
	for _, list := range []struct {
		name  string
		peers []Peer
		need  bool
	}{{"needs", cfg.Needs, true}, {"allow", cfg.Allow, false}} {
		for i, p := range list.peers {
			parsed, err := p.parse()
			if err != nil {
				errs = append(errs, fmt.Errorf("isolation.%s[%d]: %w", list.name, i, err))
				continue
			}
			parsed.need = list.need
			w.peers = append(w.peers, parsed)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	cfg.Never = append([]netip.Prefix(nil), cfg.Never...)
	cfg.Own = append([]netip.Addr(nil), cfg.Own...)
	cfg.Needs, cfg.Allow = nil, nil
	w.cfg, w.log = cfg, cfg.Logger
	return w, nil
}
