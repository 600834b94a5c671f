package kumatest

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

const (
	defaultAddress = "127.0.0.1:0"
	pageSize       = 250 // support.kaspersky.com/help/KUMA/3.0.2/en-US/222254.htm
	maxRequest     = 32 << 20
)

// Config says what the mock core is.
type Config struct {
	// Address is where it listens; "" = 127.0.0.1 and a port the system chooses.
	Address string
	// Token is the bearer token requests must carry; required.
	Token string
	// Versions are the versions of the API that are served, of "v1", "v2", "v2.1", "v3"; nil = all.
	Versions []string
	// Clusters are the ids of the storage clusters; nil = one. With several, a search has to name one.
	Clusters []string
	// Correlators are the ids of the correlators that run; nil = any is accepted.
	Correlators []string
	// Now is the clock, Logger gets what goes wrong inside; nil = real and nothing.
	Now    func() time.Time
	Logger *slog.Logger
}

// versions lists what KUMA has had (support.kaspersky.com/kuma/4.0, 217973).
func versions() []string { return []string{"v1", "v2", "v2.1", "v3"} }

func (c *Config) fill() error {
	if c.Token == "" {
		return errors.New("mock KUMA settings: token: required")
	}
	if c.Address == "" {
		c.Address = defaultAddress
	}
	if c.Versions == nil {
		c.Versions = versions()
	}
	for _, v := range c.Versions {
		if !slices.Contains(versions(), v) {
			return fmt.Errorf("mock KUMA settings: versions: unknown %q", v)
		}
	}
	if len(c.Clusters) == 0 {
		c.Clusters = []string{"1460dc0c-2218-46fd-bcde-36ae327c766a"}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
