package ksc

import (
	"strings"
	"sync"
	"time"
)

const maxCachedHosts = 10_000

// hostCache remembers what host names meant for a while. Only names that meant exactly one host are kept. When
// it is full, any other name makes room: a wrong guess costs one search.
type hostCache struct {
	ttl time.Duration
	now func() time.Time

	mu      sync.Mutex // guards entries
	entries map[string]cachedHost
}

type cachedHost struct {
	host    Host
	expires time.Time
}

func newHostCache(ttl time.Duration, now func() time.Time) *hostCache {
	return &hostCache{ttl: ttl, now: now, entries: map[string]cachedHost{}}
}

func (c *hostCache) get(name string) (Host, bool) {
	key := strings.ToLower(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return Host{}, false
	}
	if !c.now().Before(e.expires) {
		delete(c.entries, key)
		return Host{}, false
	}
	return e.host, true
}

func (c *hostCache) put(name string, h Host) {
	key := strings.ToLower(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.entries[key]; !known && len(c.entries) >= maxCachedHosts {
		for other := range c.entries {
			delete(c.entries, other)
			break
		}
	}
	c.entries[key] = cachedHost{h, c.now().Add(c.ttl)}
}
