package firewall

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Config is what the firewall may do and how.
type Config struct {
	// Own are the addresses of this machine; those of its interfaces are found without being named here.
	Own []netip.Addr
	// Never are networks that are never cut off, such as KSC, Redis and the allow list. Loopback, own addresses,
	// default gateways and name servers are kept without being named here.
	Never []netip.Prefix
	// DryRun lets everything happen but the effect; receipts then have StateShadow.
	DryRun bool
	// Logger receives what people want in the timeline of an incident; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Firewall changes the packet filter of this machine. It is safe for many goroutines.
type Firewall struct {
	cfg Config
	log *slog.Logger
	// mu serialises changes of the tables, because each is read back after it was made.
	mu sync.Mutex
	// testOnlyApplied runs between a change of the block table and reading it back.
	testOnlyApplied func()
}

// New checks cfg and opens nothing.
func New(cfg Config) (*Firewall, error) {
	for _, p := range cfg.Never {
		if !p.IsValid() {
			return nil, errors.New("never_block: holds an invalid prefix")
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Never = append([]netip.Prefix(nil), cfg.Never...)
	return &Firewall{cfg: cfg, log: cfg.Logger}, nil
}
